"""Checkpoints: what was saved comes back bit by bit, or is not used; the right ones are kept."""

import dataclasses
import errno
import math
import os
import shutil
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax import models
from cnnjax.settings import Saving
from cnnjax.train import create_state, load_variables, manifest, read_rows
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.state import Guard, TrainState
from tests.models.quick import run_unoptimised
from tests.train.toy_run import run, settings


def four_states():
    """States of the same shapes and other values."""
    first = create_state(models.create("lenet5"), optax.adam(1e-3), jnp.zeros((1, 32, 32, 1)), seed=0)
    return [
        dataclasses.replace(first, params=jax.tree.map(lambda leaf, n=n: leaf + n, first.params), key=jax.random.key(n))
        for n in range(4)
    ]


def test_round_trip_and_what_is_kept(tmp_path):
    states = four_states()
    with Checkpoints(tmp_path / "checkpoints", Saving(keep_last=1)) as checkpoints:
        assert (checkpoints.latest, checkpoints.best) == (None, None)
        for step, (state, score) in enumerate(zip(states, [0.2, 0.9, 0.5, 0.4], strict=True), 1):
            checkpoints.save(state, step, score=score)
        assert (checkpoints.best, checkpoints.latest) == (2, 4)
        assert checkpoints.score(2) == 0.9
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4"]
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (2, 4):
            restored = checkpoints.restore(states[0], step)
            assert jax.tree.structure(restored) == jax.tree.structure(states[step - 1])
            for found, saved in zip(jax.tree.leaves(restored), jax.tree.leaves(states[step - 1]), strict=True):
                assert found.dtype == saved.dtype
                if jnp.issubdtype(found.dtype, jax.dtypes.prng_key):
                    found, saved = jax.random.key_data(found), jax.random.key_data(saved)
                np.testing.assert_array_equal(found, saved)


def test_scanned_models_are_saved_block_by_block(tmp_path):
    """Parameters, statistics and moments lie there by each block's name, and come back stacked."""
    model = models.CifarResNet(3, scan=True)
    state = create_state(model, optax.adam(1e-3), jnp.zeros((1, 8, 8, 3)), seed=0)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(state, 1, score=0.5)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        restored = checkpoints.restore(state, 1)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored.params, state.params)
    jax.tree.map(np.testing.assert_array_equal, restored.opt_state, state.opt_state)
    variables = load_variables(tmp_path)
    kernel = variables["params"]["stage2"]["block3"]["conv2"]["kernel"]
    np.testing.assert_array_equal(kernel, state.params["stage2"]["block2-3"]["conv2"]["kernel"][1])
    images = jnp.ones((1, 8, 8, 3))
    logits = run_unoptimised(models.CifarResNet(3).apply, variables, images)
    np.testing.assert_allclose(logits, run_unoptimised(model.apply, state.variables, images), rtol=1e-5)


def small_state(number=0):
    """A state without a model."""
    values = {"kernel": jnp.arange(6.0).reshape(2, 3) + number, "bias": jnp.zeros(3, jnp.bfloat16)}
    return TrainState(
        step=jnp.int32(number),
        params=values,
        model_state={},
        opt_state=optax.sgd(0.1).init(values),
        key=jax.random.key(number),
        guard=Guard(jnp.int32(0), jnp.int32(0), jnp.float32(1), jnp.int32(0)),
        averages={},
    )


def saved(folder, *numbers, **keeping):
    """A folder of checkpoints of small states, each saved with its number as step and content."""
    with Checkpoints(folder, Saving(**keeping)) as checkpoints:
        for number in numbers:
            checkpoints.save(small_state(number), number, score=None, record={"place": 10 * number})
    return folder


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


DAMAGES = {"a bit is flipped": flip_a_bit, "cut short": halve, "emptied": empty, "deleted": lambda path: path.unlink()}


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("two") / "checkpoints", 1, 2, keep_last=2)


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_to_every_file_is_found_and_the_step_before_is_used(two_steps, tmp_path, damage):
    files = [path for path in (two_steps / "2").rglob("*") if path.is_file()]
    assert len(files) > 5
    assert all(path.stat().st_size for path in files)
    for number, file in enumerate(files):
        folder, said = tmp_path / str(number), []
        shutil.copytree(two_steps, folder)
        DAMAGES[damage](folder / file.relative_to(two_steps))
        with Checkpoints(folder, report=said.append) as checkpoints:
            assert int(checkpoints.restore(small_state()).step) == 1, file
            assert checkpoints.steps == [1]
        unfinished = damage == "deleted" and file.name == "manifest.json"
        # Set aside, not deleted; a step without its manifest counts as never finished.
        assert (folder / ("2" if unfinished else "damaged-2-1")).is_dir()
        told = "step 2 was not completed" if unfinished else "step 2 is set aside as damaged-2-1"
        assert len(said) == 1
        assert told in said[0]


def test_a_damaged_step_that_is_asked_for_is_an_error_and_so_is_a_folder_of_nothing_else(two_steps, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_steps, folder)
    for step in (1, 2):
        flip_a_bit(next((folder / str(step) / "state").glob("d/*")))
    with Checkpoints(folder, report=lambda _: None) as checkpoints:
        with pytest.raises(ValueError, match=r"step 2 cannot be used: .* its bytes are not those that were written"):
            checkpoints.restore(small_state(), 2)
        assert checkpoints.steps == [1, 2]
        # Nothing is renamed, so that the next start finds the same.
        for _ in range(2):
            with pytest.raises(
                ValueError, match=r"every checkpoint in .* is damaged: .*step 2.*step 1.*; to begin anew"
            ):
                checkpoints.restore(small_state())
        assert checkpoints.steps == [1, 2]
    with (
        Checkpoints(tmp_path / "none") as checkpoints,
        pytest.raises(FileNotFoundError, match="holds no complete checkpoint"),
    ):
        checkpoints.restore(small_state())


def test_types_and_shapes_are_exact(two_steps):
    other = small_state()
    other.params["kernel"] = other.params["kernel"].astype(jnp.bfloat16)
    other.params["bias"] = jnp.zeros(4, jnp.bfloat16)
    other.params["scale"] = jnp.zeros(())
    with (
        Checkpoints(two_steps) as checkpoints,
        pytest.raises(ValueError, match=r"of another model, optimizer or setting") as refused,
    ):
        checkpoints.restore(other)
    for line in (
        "params/kernel: float32[2, 3] there, bfloat16[2, 3] here",
        "params/bias: bfloat16[3] there, bfloat16[4] here",
        "params/scale: nothing there, float32[] here",
    ):
        assert line in str(refused.value)


def test_newest_best_and_every_nth_are_kept(tmp_path):
    scores = {1: 0.5, 2: 0.9, 3: None, 4: math.nan, 5: 0.7, 6: 0.1, 7: None, 8: 0.2}
    with Checkpoints(tmp_path, Saving(keep_last=2, keep_best=2, keep_every=3)) as checkpoints:
        for step, score in scores.items():
            checkpoints.save(small_state(step), step, score=score, record={"place": step})
        assert checkpoints.best == 2
        assert checkpoints.steps == [2, 3, 5, 6, 7, 8]
        assert checkpoints.record(7) == {"place": 7}
        with pytest.raises(ValueError, match=r"step 7 .* has no score"):
            checkpoints.score(7)


def test_what_was_interrupted_is_passed_over_written_again_and_gone_once_a_later_step_is_complete(
    two_steps, tmp_path, monkeypatch
):
    folder, said = tmp_path / "checkpoints", []
    shutil.copytree(two_steps, folder)
    for name in ("3", "unfinished-3-1", "unfinished-2-1", "1-1", "damaged-1-1"):
        (folder / name / "state.orbax-checkpoint-tmp").mkdir(parents=True)
    with Checkpoints(folder, Saving(keep_last=2), report=said.append) as checkpoints:
        assert (checkpoints.latest, int(checkpoints.restore(small_state()).step)) == (2, 2)
        with monkeypatch.context() as patches:
            patches.setattr(manifest, "write_manifest", no_space)
            with pytest.raises(OSError, match="step 3 could not be written"):
                save_and_wait(checkpoints, small_state(3))
        # Until then nothing of it is lost.
        assert {"3", "unfinished-3-1", "unfinished-3-2", "unfinished-2-1"} <= {path.name for path in folder.iterdir()}
        save_and_wait(checkpoints, small_state(4))
        assert int(checkpoints.restore(small_state()).step) == 4
    assert said == [
        "the checkpoint of step 3 was not completed, and is passed over",
        "what was written of step 3 before is kept as unfinished-3-2 until it is complete",
    ]
    # What is damaged was complete, and what has another name is not this program's.
    assert sorted(path.name for path in folder.iterdir()) == ["1-1", "2", "4", "damaged-1-1"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
@pytest.mark.parametrize("name", ["manifest.json", "d"])
def test_a_file_that_cannot_be_read_for_the_moment_is_no_damage(two_steps, tmp_path, monkeypatch, number, name):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_steps, folder)

    def open_(path, *arguments, plain=Path.open, **options):
        if "2" in path.parts and name in (path.name, path.parent.name):
            raise OSError(number, os.strerror(number))
        return plain(path, *arguments, **options)

    with Checkpoints(folder) as checkpoints:
        monkeypatch.setattr(Path, "open", open_)
        with pytest.raises(OSError, match=r"step 2 may be whole, but cannot be read now .*; nothing was changed: try"):
            checkpoints.restore(small_state())
        monkeypatch.undo()
        assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]
        assert int(checkpoints.restore(small_state()).step) == 2


def test_a_step_whose_manifest_cannot_be_looked_for_is_not_taken_for_unfinished(two_steps, monkeypatch):
    def stat_(path, plain=Path.stat, **options):
        if path.name == "manifest.json":
            raise OSError(errno.ESTALE, "Stale file handle")
        return plain(path, **options)

    with Checkpoints(two_steps) as checkpoints:
        monkeypatch.setattr(Path, "stat", stat_)
        with pytest.raises(OSError, match="Stale"):
            checkpoints.save(small_state(2), 2)
        monkeypatch.undo()
        assert checkpoints.steps == [1, 2]


def test_a_path_that_is_not_utf8_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"run_dir=.*x\\xff/checkpoints'; expected a path in UTF-8"):
        Checkpoints(tmp_path / os.fsdecode(b"x\xff") / "checkpoints")


def test_what_was_left_half_deleted_is_deleted_with_the_next_and_by_no_reader(two_steps, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_steps, folder)
    (folder / "1").rename(folder / "deleted-1")
    with Checkpoints(folder, Saving(keep_last=1)) as checkpoints:
        assert (checkpoints.steps, checkpoints.best) == ([2], None)
        checkpoints.load_variables(2)
        assert (folder / "deleted-1").is_dir()
        for step in (1, 3):
            checkpoints.save(small_state(step), step)
    assert sorted(path.name for path in folder.iterdir()) == ["3"]


def test_a_step_without_a_manifest_is_not_read(two_steps, tmp_path):
    """As those that were written before there were manifests."""
    shutil.copytree(two_steps, tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "1" / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no step 1; there are \[2\]"):
        load_variables(tmp_path, step=1)
    (tmp_path / "checkpoints" / "2" / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no complete checkpoint: none has a manifest\.json"):
        load_variables(tmp_path)


def save_and_wait(checkpoints, state):
    checkpoints.save(state, int(state.step))
    checkpoints.wait()


def noise(number):
    """A state that does not compress: 469 KiB."""
    values = np.random.default_rng(number).standard_normal((300, 400)).astype(np.float32)
    return dataclasses.replace(small_state(number), params={"kernel": jnp.asarray(values)}, opt_state=())


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def check_until_it_raises(checkpoints):
    for _ in range(1000):
        checkpoints.check()
        time.sleep(0.01)


def save_and_raise(folder):
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(small_state(3), 3)
        raise KeyError("an error on its way")


def test_a_failure_in_the_background_is_told_by_check_and_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "write_manifest", no_space)
    checkpoints = Checkpoints(tmp_path, Saving(keep_last=1))
    checkpoints.check()
    checkpoints.save(small_state(1), 1)
    with pytest.raises(OSError, match=r"step 1 could not .*No space left.*none is complete"):
        check_until_it_raises(checkpoints)
    assert checkpoints.latest is None
    with pytest.raises(OSError, match="step 2 could not"), checkpoints:
        checkpoints.save(small_state(2), 2)
    with pytest.raises(KeyError, match="on its way"):
        save_and_raise(tmp_path)


def test_a_failure_to_delete_does_not_deny_what_was_written(tmp_path, monkeypatch):
    saved(tmp_path, 1)
    with Checkpoints(tmp_path, Saving(keep_last=1)) as checkpoints:
        monkeypatch.setattr(shutil, "rmtree", no_space)
        with pytest.raises(OSError, match=r"step 2 is complete, but older ones could not be deleted"):
            save_and_wait(checkpoints, small_state(2))
        monkeypatch.undo()
        assert checkpoints.steps == [2]
        save_and_wait(checkpoints, small_state(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3"]


def test_a_run_stops_within_one_interval_of_a_write_that_failed(tmp_path, monkeypatch):
    def write(folder, plain=manifest.write_manifest, **told):
        return (no_space if folder.name == "3" else plain)(folder, **told)

    monkeypatch.setattr(manifest, "write_manifest", write)
    with pytest.raises(OSError, match=r"step 3 could not .* complete one is that of step 2"):
        run(settings(tmp_path / "run", steps=6, log_every=1, saving=Saving(every=1)))
    assert 3 <= read_rows(tmp_path / "run")[-1]["step"] <= 4
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.latest == 2
