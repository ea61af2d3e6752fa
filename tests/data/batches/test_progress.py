import io

import pytest
from rich.console import Console

from cnnjax.data.batches import progress as room
from cnnjax.data.batches.progress import counted, progress


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(room, "time", clock)
    return clock


def test_without_a_terminal_a_line_comes_every_few_seconds(clock):
    console = Console(file=io.StringIO(), width=40)
    for _ in counted(range(2000), "reading [examples] of pets", console=console):
        clock.now += 0.01
    # At 2 s, and then 5 s after each; one thing takes 10 ms.
    assert console.file.getvalue().splitlines() == [
        "reading [examples] of pets: 200 of 2,000, 2 s so far, about 18 s left",
        "reading [examples] of pets: 700 of 2,000, 7 s so far, about 13 s left",
        "reading [examples] of pets: 1,200 of 2,000, 12 s so far, about 8 s left",
        "reading [examples] of pets: 1,700 of 2,000, 17 s so far, about 3 s left",
    ]


def test_what_is_soon_done_is_not_shown(clock):
    for terminal in (False, True):
        console = Console(file=io.StringIO(), force_terminal=terminal)
        for _ in counted(range(100), "reading", console=console):
            clock.now += 0.01
        assert console.file.getvalue() == ""


def test_a_terminal_shows_a_bar(clock):
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with progress("reading [x]", 10, console=console) as advance:
        clock.now += 3
        advance(4)
    assert "reading [x]" in console.file.getvalue()


def test_without_a_console_the_error_stream_is_told(clock, capsys):
    with progress("indexing", 10) as advance:
        clock.now += 3
        advance(5)
    assert capsys.readouterr() == ("", "indexing: 5 of 10, 3 s so far, about 3 s left\n")


def test_names_do_not_steer_the_terminal(clock):
    console = Console(file=io.StringIO(), width=200)
    for _ in counted(range(3), "reading examples of \x1b[2Jpets\u202e", console=console):
        clock.now += 3
    assert r"reading examples of \x1b[2Jpets\u202e" in console.file.getvalue()
    assert "\x1b" not in console.file.getvalue()
