"""N steps straight equal k steps, an interruption, and N - k steps: to the last bit, for every k."""

import shutil

import pytest

from cnnjax.train import Loading, Optimizer, Saving
from cnnjax.train.checkpoint import Checkpoints
from tests.train.toy_run import fingerprint, run, settings

pytestmark = pytest.mark.usefixtures("unchecked_types")

STEPS = 6
# Dropout and augmentation are part of the run already; averages and clipping are added.
KINDS = {
    "adamw": {"optimizer": Optimizer("adamw", 3e-3, weight_decay=1e-2, clip_norm=1.0), "average": 0.9, "devices": 1},
    "nesterov": {"optimizer": Optimizer("nesterov", 0.1, weight_decay=1e-3), "accumulate": 2, "devices": 1},
    "muon": {"optimizer": Optimizer("muon", 1e-2), "parallel": "shard_map", "devices": 2},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_can_be_resumed_from(tmp_path, kind):
    options = {"steps": STEPS, **KINDS[kind]}
    every = Saving(every=1, keep_last=STEPS)
    straight = run(settings(tmp_path / "straight", saving=every, **options))
    expected = fingerprint(straight.state)
    assert int(straight.state.step) == STEPS
    for done in range(1, STEPS):
        folder = tmp_path / str(done)
        shutil.copytree(straight.run_dir, folder)
        for later in range(done + 1, STEPS + 1):
            shutil.rmtree(folder / "checkpoints" / str(later))
        with Checkpoints(folder / "checkpoints") as checkpoints:
            assert checkpoints.latest == done
        # Read by other threads than before, batch by batch instead of on the device.
        loading = Loading(threads=done % 3, resident_mib=0)
        resumed = run(settings(folder, saving=every, resume=True, loading=loading, **options))
        assert resumed.first_step == done
        assert fingerprint(resumed.state) == expected


def test_several_steps_a_call_are_resumed_from_between_two_calls(tmp_path):
    options = {"steps": 8, "steps_per_call": 4, "log_every": 4, "devices": 1}
    straight = run(settings(tmp_path / "straight", saving=Saving(every=4, keep_last=9), **options))
    shutil.copytree(tmp_path / "straight", tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "8")
    resumed = run(settings(tmp_path / "half", saving=Saving(every=4), resume=True, **options))
    assert resumed.first_step in (4, 7)  # an epoch ends with step 7
    assert fingerprint(resumed.state) == fingerprint(straight.state)
