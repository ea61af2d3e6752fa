"""N steps straight equal k steps, an interruption, and N - k steps: to the last bit, for every k."""

import shutil
import signal

import jax
import numpy as np
import optax
import pytest

from cnnjax.data import ArraySource
from cnnjax.settings import Devices, Loading, Optimizer, Saving
from cnnjax.train import load_variables, read_rows
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.feed import Feed
from cnnjax.train.span import Span
from tests.train.toy_collections import Counting
from tests.train.toy_run import TEST, TRAIN, fingerprint, run, settings

pytestmark = pytest.mark.usefixtures("unchecked_types")

STEPS = 6
# Dropout and augmentation are part of the run already; averages and clipping are added.
KINDS = {
    "adamw": {"optimizer": Optimizer("adamw", 3e-3, weight_decay=1e-2, clip_norm=1.0), "average": 0.9},
    "nesterov": {"optimizer": Optimizer("nesterov", 0.1, weight_decay=1e-3), "accumulate": 2},
    "muon": {"optimizer": Optimizer("muon", 1e-2), "devices": Devices(count=2, strategy="shard_map")},
    "own": {"optimizer": Optimizer(frozen=("conv",), rates={"dense/bias": 0.5}), "average": 0.9},
    "own, shared": {"optimizer": Optimizer(frozen=("conv", "norm")), "devices": Devices(count=2, strategy="shard_map")},
}


def parts_of(kind):
    """A model with a collection of its own, and an optimizer and a schedule of one's own."""
    if not kind.startswith("own"):
        return {}
    schedule = optax.linear_schedule(0.05, 0.01, STEPS)
    rule = optax.chain(optax.clip(0.5), optax.adam(schedule, b1=0.8))
    return {"model": Counting(), "optimizer": rule, "schedule": schedule}


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_can_be_resumed_from(tmp_path, kind):
    options = {"steps": STEPS, **KINDS[kind]}
    every = Saving(every=1, keep_last=STEPS)
    straight = run(settings(tmp_path / "straight", saving=every, **options), **parts_of(kind))
    expected = fingerprint(straight.state)
    assert int(straight.state.step) == STEPS
    if kind.startswith("own"):
        assert int(straight.state.model_state["seen"]["batches"]) == STEPS
        saved = load_variables(straight.run_dir)["seen"]
        jax.tree.map(np.testing.assert_array_equal, saved, straight.state.variables["seen"])
    # Every step is tried where the update rules differ, and one where other things are carried.
    for done in range(1, STEPS) if kind in ("adamw", "nesterov", "muon") else (STEPS // 2,):
        folder = tmp_path / str(done)
        shutil.copytree(straight.run_dir, folder)
        for later in range(done + 1, STEPS + 1):
            shutil.rmtree(folder / "checkpoints" / str(later))
        with Checkpoints(folder / "checkpoints") as checkpoints:
            assert checkpoints.latest == done
        # Read by other threads than before, batch by batch instead of on the device.
        loading = Loading(threads=done % 3, resident_mib=0)
        resumed = run(settings(folder, saving=every, resume=True, loading=loading, **options), **parts_of(kind))
        assert resumed.first_step == done
        assert fingerprint(resumed.state) == expected


def test_several_steps_a_call_are_resumed_from_between_two_calls(tmp_path):
    options = {"steps": 8, "steps_per_call": 4, "log_every": 4}
    straight = run(settings(tmp_path / "straight", saving=Saving(every=4, keep_last=9), **options))
    shutil.copytree(tmp_path / "straight", tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "8")
    resumed = run(settings(tmp_path / "half", saving=Saving(every=4), resume=True, **options))
    assert resumed.first_step in (4, 7)  # an epoch ends with step 7
    assert fingerprint(resumed.state) == fingerprint(straight.state)


TIMES = ("seconds_per_step", "examples_per_second", "waiting_for_input", "utilisation")


def rows(result):
    """The log but for what depends on the machine, and what could not be read."""
    kept = [{name: value for name, value in row.items() if name not in TIMES} for row in read_rows(result.run_dir)]
    faults = result.run_dir / "unreadable.jsonl"
    return kept, faults.read_text() if faults.exists() else None


class Torn(ArraySource):
    """Two examples cannot be read."""

    def __getitem__(self, index):
        if index in (3, 20):
            raise OSError("the file ends early")
        return super().__getitem__(index)


def signal_in_a_row(monkeypatch, seen):
    """SIGTERM comes in the first of two steps of a row."""

    def add(self, steps, metrics, plain=Span.add):
        signal.raise_signal(signal.SIGTERM)
        plain(self, steps, metrics)

    monkeypatch.setattr(Span, "add", add)


def signal_in_a_test(monkeypatch, seen):
    """SIGTERM comes while the second of two batches of the test is read."""

    def once(self, plain=Feed.once):
        for batch in plain(self):
            seen.append(int(batch["id"][0]))
            if seen[-1] == 16:
                signal.raise_signal(signal.SIGTERM)
            yield batch

    monkeypatch.setattr(Feed, "once", once)


@pytest.mark.parametrize(("comes", "resident_mib", "stops_at"), [(signal_in_a_row, 1, 1), (signal_in_a_test, 0, 3)])
def test_rows_of_a_run_that_was_stopped_are_those_of_one_that_was_not(
    tmp_path, monkeypatch, comes, resident_mib, stops_at
):
    sources = [Torn({name: array[:48] for name, array in one.arrays.items()}, one.info) for one in (TRAIN, TEST)]
    parts = {"train_source": sources[0], "test_source": sources[1]}
    loading = Loading(unreadable="skip", resident_mib=resident_mib)
    options = {"epochs": 2.0, "log_every": 2, "loading": loading}
    straight = run(settings(tmp_path / "straight", **options), **parts)
    experiment, seen = settings(tmp_path / "run", restartable=True, **options), []
    with monkeypatch.context() as patch:
        comes(patch, seen)
        with pytest.raises(SystemExit):
            run(experiment, **parts)
    # The two batches of the test; another would not be stopped.
    assert seen == ([0, 16] if stops_at == 3 else [])
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.latest == stops_at
        with pytest.raises(ValueError, match="has no score"):
            checkpoints.score(stops_at)
    resumed = run(experiment, **parts)
    assert rows(resumed) == rows(straight)
    assert [row["step"] for row in rows(straight)[0]] == [2, 3, 4, 6]
    # Two examples of each set: as all are read before the first step, or in each of two epochs.
    assert sum(row["unreadable"] for row in rows(straight)[0]) == (4 if resident_mib else 8)
    assert fingerprint(resumed.state) == fingerprint(straight.state)
    assert resumed.evaluation.summary == straight.evaluation.summary
    assert (resumed.best_step, resumed.best_score) == (straight.best_step, straight.best_score)
