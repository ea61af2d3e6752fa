"""N steps straight equal k steps, an interruption, and N - k steps: to the last bit, for every k."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from cnnjax.train import Loading, Optimizer, Saving, read_rows
from cnnjax.train.checkpoint import Checkpoints
from tests.train.toy_run import run, settings

STEPS = 6
# Dropout and augmentation are part of the run already; averages and clipping are added.
KINDS = {
    "adamw": {"optimizer": Optimizer("adamw", 3e-3, weight_decay=1e-2, clip_norm=1.0), "average": 0.9, "devices": 1},
    "nesterov": {"optimizer": Optimizer("nesterov", 0.1, weight_decay=1e-3), "accumulate": 2, "devices": 1},
    "muon": {"optimizer": Optimizer("muon", 1e-2), "parallel": "shard_map", "devices": 2},
}


def fingerprint(state):
    """SHA-256 of everything that a state holds."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


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


class SignalAfter(io.StringIO):
    """A screen that sends this process a signal once a line holds a text."""

    def __init__(self, text, *numbers):
        super().__init__()
        self.text, self.numbers = text, list(numbers)

    def write(self, text):
        if self.text in text and self.numbers:
            os.kill(os.getpid(), self.numbers.pop(0))
        return super().write(text)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_lets_the_step_finish_and_saves_it(tmp_path, number, error):
    options = {"steps": STEPS, "log_every": 1, "devices": 1}
    earlier = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    screen = SignalAfter("step 3/", number)
    with pytest.raises(error) as left:
        run(settings(tmp_path / "run", **options), console=Console(file=screen, width=200))
    assert error is KeyboardInterrupt or left.value.code == 143
    assert f"{number.name}: finishing the step, then saving" in screen.getvalue()
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == earlier
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.latest == 3
    resumed = run(settings(tmp_path / "run", resume=True, **options))
    straight = run(settings(tmp_path / "straight", **options))
    assert fingerprint(resumed.state) == fingerprint(straight.state)
    assert [row["step"] for row in read_rows(tmp_path / "run")] == list(range(1, STEPS + 1))


SCRIPT = """
import sys
from pathlib import Path
from rich.console import Console
from tests.train.test_exact_resume import SignalAfter, fingerprint
from tests.train.toy_run import run, settings
from cnnjax.train import Saving
import io, signal
folder, numbers = Path(sys.argv[1]), map(int, sys.argv[2:])
screen = SignalAfter("step 3/", *numbers)
options = {"steps": 6, "log_every": 1, "restartable": True, "devices": 1}
print(fingerprint(run(settings(folder, **options), console=Console(file=screen, width=200)).state))
"""


def in_a_new_process(folder, *signals):
    command = [sys.executable, "-c", SCRIPT, str(folder), *(str(int(number)) for number in signals)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_exit_codes_and_a_new_process_with_the_same_command(tmp_path):
    stopped = in_a_new_process(tmp_path / "run", signal.SIGTERM)
    assert stopped.returncode == 143, stopped.stderr
    resumed = in_a_new_process(tmp_path / "run")
    assert resumed.returncode == 0, resumed.stderr
    assert [row["step"] for row in read_rows(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    straight = run(settings(tmp_path / "straight", steps=6, log_every=1, devices=1))
    assert resumed.stdout.strip() == fingerprint(straight.state)


def test_a_second_signal_leaves_at_once(tmp_path):
    class Twice(SignalAfter):
        """What is said of the first signal brings the second."""

        def write(self, text):
            self.text = "SIGINT: finishing" if len(self.numbers) == 1 else self.text
            return super().write(text)

    screen = Twice("step 3/", signal.SIGINT, signal.SIGINT)
    options = {"steps": STEPS, "log_every": 1, "devices": 1}
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path / "run", **options), console=Console(file=screen, width=200))
    assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))
