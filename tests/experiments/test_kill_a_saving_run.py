"""Kills of a saving process, and what they could have done wrong."""

import dataclasses

import jax.numpy as jnp

from cnnjax.settings import Saving
from cnnjax.train.checkpoint import Checkpoints
from experiments import kill_a_saving_run


def test_a_saving_run_that_is_killed_can_be_resumed(tmp_path):
    """Three of the hundred kills that the script makes."""
    rows = kill_a_saving_run.kill_many(tmp_path / "checkpoints", 3, seed=1, say=lambda _: None)
    assert [row["wrong"] for row in rows] == [[], [], []]
    assert max(row["lost"] for row in rows) <= 1
    assert rows[-1]["restored"] >= 3


def test_what_a_kill_could_have_done_wrong_is_seen(tmp_path):
    start = kill_a_saving_run.first_state()
    assert kill_a_saving_run.is_state_of(0, start)
    fourth = dataclasses.replace(
        start,
        step=start.step + 4,
        params=start.params | {"kernel": start.params["kernel"] + 4},
        opt_state=start.opt_state._replace(trace=start.opt_state.trace | {"kernel": jnp.full((400, 400), 4.0)}),
        guard=start.guard._replace(good_steps=jnp.int32(4)),
    )
    with Checkpoints(tmp_path, Saving(keep_last=2)) as checkpoints:
        checkpoints.save(fourth, 4, record={"place": 4})
    check = kill_a_saving_run.check_folder
    assert check(tmp_path, told=5, before=4) == {"restored": 4, "lost": 1, "wrong": []}
    assert "step 6 was reached" in check(tmp_path, told=6, before=4)["wrong"][0]
    assert "step 5 was complete before" in check(tmp_path, told=None, before=5)["wrong"][0]
    torn = fourth.params["kernel"].at[0, 0].add(1)
    with Checkpoints(tmp_path, Saving(keep_last=2)) as checkpoints:
        checkpoints.save(dataclasses.replace(fourth, step=jnp.int32(5), params=fourth.params | {"kernel": torn}), 5)
    assert check(tmp_path, told=5, before=4)["wrong"] == ["what was restored is not the state of step 5"]
    (tmp_path / "5" / "state" / "_METADATA").write_text("{}")
    assert "step 5 is set aside as damaged-5-1" in check(tmp_path, told=5, before=4)["wrong"][0]


def test_where_a_kill_struck_is_told_from_what_is_new(tmp_path):
    where, folders = kill_a_saving_run.where, kill_a_saving_run.folders
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / "manifest.json").touch()
    found = folders(tmp_path)
    assert where(tmp_path, before=found) == "between saves"
    (tmp_path / "4").rename(tmp_path / "deleted-4")
    assert where(tmp_path, before=found) == "while an old step was deleted"
    (tmp_path / "5" / "state.orbax-checkpoint-tmp").mkdir(parents=True)
    assert where(tmp_path, before=found) == "while arrays were written"
    (tmp_path / "5" / "state").mkdir()
    assert where(tmp_path, before=found) == "between arrays and manifest"
    found = folders(tmp_path)
    assert where(tmp_path, before=found) == "between saves"
    (tmp_path / "5").rename(tmp_path / "unfinished-5-1")
    (tmp_path / "5").mkdir()
    assert where(tmp_path, before=found) == "while arrays were written"
