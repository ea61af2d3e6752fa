"""Signals: a step is finished and saved, and the exit says why; a second one leaves at once."""

import io
import os
import signal
import subprocess
import sys
import threading

import pytest
from rich.console import Console

from cnnjax.train import output, read_rows
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.interruption import interruptible
from cnnjax.train.output import Output
from cnnjax.train.parallel import make_mesh
from cnnjax.train.span import Span
from tests.train.test_output import fill
from tests.train.toy_run import SignalAfter, fingerprint, run, settings

pytestmark = pytest.mark.usefixtures("unchecked_types")

STEPS = 6


@pytest.fixture(autouse=True)
def heard():
    """Signals as a terminal's programs have them: what is started in the background, or by nohup, ignores some."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    earlier = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_lets_the_step_finish_and_saves_it(tmp_path, number, error):
    options = {"steps": STEPS, "log_every": 1}
    earlier = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    screen = SignalAfter("step 3/", number)
    with pytest.raises(error) as left:
        run(settings(tmp_path / "run", **options), console=Console(file=screen, width=200))
    assert error is KeyboardInterrupt or left.value.code == 143
    assert f"{number.name}: saving step 3, then leaving" in screen.getvalue()
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == earlier
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.latest == 3
    resumed = run(settings(tmp_path / "run", resume=True, **options))
    straight = run(settings(tmp_path / "straight", **options))
    assert fingerprint(resumed.state) == fingerprint(straight.state)
    assert [row["step"] for row in read_rows(tmp_path / "run")] == list(range(1, STEPS + 1))


def saved(folder):
    """The newest step with a manifest, and that of the last row."""
    steps = [int(path.parent.name) for path in folder.glob("checkpoints/*/manifest.json")]
    return max(steps, default=None), read_rows(folder)[-1]["step"]


def test_a_reader_that_goes_lets_the_step_finish_and_saves_it(tmp_path):
    """As `| head` does, and as `| tee` does when Ctrl-C comes to both."""
    reading, writing = os.pipe()
    lines = []

    def read():
        with open(reading) as lent:
            while "step 2/" not in (line := lent.readline()):
                lines.append(line)

    reader = threading.Thread(target=read)
    reader.start()
    with pytest.raises(SystemExit) as left, open(writing, "w") as stream:
        run(settings(tmp_path / "run", steps=500, log_every=1), console=Console(file=stream, width=200))
    reader.join()
    assert left.value.code == 141
    step, logged = saved(tmp_path / "run")
    assert 3 <= step == logged < 500


def test_a_signal_is_heard_though_nobody_reads_the_output(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "PATIENCE", 0.05)
    seen = []

    def add(self, steps, metrics, plain=Span.add):
        seen.append(steps)
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)
        plain(self, steps, metrics)

    monkeypatch.setattr(Span, "add", add)
    reading, writing = os.pipe()
    fill(writing)
    with pytest.raises(KeyboardInterrupt), open(writing, "w") as stream:
        run(settings(tmp_path / "run", steps=STEPS, log_every=1), console=Console(file=stream, width=200))
    os.close(reading)
    assert saved(tmp_path / "run") == (3, 3)


def test_a_terminal_that_goes_is_a_signal_too_but_where_it_is_ignored():
    mesh, told = make_mesh(1), Output(io.StringIO())
    with interruptible(mesh, told) as interruption:
        signal.raise_signal(signal.SIGHUP)
        assert interruption.asked() == signal.SIGHUP
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible(mesh, told) as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert interruption.asked() is None
    finally:
        signal.signal(signal.SIGHUP, earlier)


SCRIPT = """
import sys
from pathlib import Path
from rich.console import Console
from tests.train.test_output import fill
from tests.train.toy_run import SignalAfter, fingerprint, run, settings
folder, numbers = Path(sys.argv[1]), map(int, sys.argv[2:])
screen = SignalAfter("step 3/", *numbers)
options = {"steps": 6, "log_every": 1, "restartable": True}
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
    straight = run(settings(tmp_path / "straight", steps=6, log_every=1))
    assert resumed.stdout.strip() == fingerprint(straight.state)


def test_a_second_signal_leaves_at_once(tmp_path):
    class Twice(SignalAfter):
        """What is said of the first signal brings the second."""

        def write(self, text):
            self.text = "SIGINT: saving" if len(self.numbers) == 1 else self.text
            return super().write(text)

    screen = Twice("step 3/", signal.SIGINT, signal.SIGINT)
    options = {"steps": STEPS, "log_every": 1}
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path / "run", **options), console=Console(file=screen, width=200))
    assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))
