"""The screen of a run: a bar on a terminal, plain lines elsewhere."""

import io

import pytest
from rich.console import Console

from cnnjax.train.progress import reporting


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_steps_metrics_and_time_left(terminal):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=160)
    row = {"epoch": 0.1, "test": {"accuracy": 0.985}, "examples_per_second": 1234.0, "seconds_per_step": 0.5}
    with reporting(20, 0, console) as report:
        report.say("run folder: [here]")
        for step in (1, 2):
            report.advance(1)
            report.row(row | {"step": step})
    text = screen.getvalue()
    assert "run folder: [here]" in text
    assert "test accuracy 98.50%" in text
    assert "2/20" in text
    # At the first row from its own pace: 19 steps of half a second.
    assert ("step 1/20" in text and "10 s left" in text) is not terminal
    assert ("\x1b[" in text) is terminal


def test_names_do_not_steer_the_terminal():
    screen = io.StringIO()
    with reporting(1, 0, Console(file=screen, force_terminal=True, width=160)) as report:
        report.say("warning: class '\x1b[2J\u202e' [bold]\nsecond line")
    assert r"warning: class '\x1b[2J\u202e' [bold]" in screen.getvalue()
    assert "\x1b[2J" not in screen.getvalue()
    assert "second line" in [line.strip() for line in screen.getvalue().splitlines()]
