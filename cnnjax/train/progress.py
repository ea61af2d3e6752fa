"""The progress of a run on the screen."""

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cnnjax.train.log import describe
from cnnjax.view.text import printable


def print_text(console: Console, text: str) -> None:
    """Prints text as it is, without markup; names in it cannot steer the terminal."""
    console.print(printable(text, keep="\n"), highlight=False, markup=False, soft_wrap=True)


class RunProgress:
    """Progress of a run: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, progress: Progress | None, total: int, done: int):
        """Use `reporting`."""
        self._console = console
        self._progress = progress
        self._task = progress.add_task("", total=total, completed=done) if progress else None
        self._total = total
        self._first: tuple[float, int] | None = None

    def say(self, text: str) -> None:
        """A line of text."""
        print_text(self._console, text)

    def advance(self, steps: int) -> None:
        """Steps are done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, steps)

    def row(self, row: Mapping[str, Any]) -> None:
        """The numbers of a logged row; without a bar, also how far the run is."""
        text = f"epoch {row['epoch']:.4g}  {describe(row)}  {row['examples_per_second']:,.0f} examples/s"
        if self._progress is None:
            text = f"step {row['step']}/{self._total}  {text}  {self._seconds_left(row):.0f} s left"
        self.say(text)

    def _seconds_left(self, row: Mapping[str, Any]) -> float:
        """From the pace since the first row, so that compiling does not count; at that row, from its own."""
        now, step = time.perf_counter(), row["step"]
        if self._first is None or step <= self._first[1]:
            self._first = (now, step)
            pace = row["seconds_per_step"]
        else:
            pace = (now - self._first[0]) / (step - self._first[1])
        return (self._total - step) * pace


@contextmanager
def reporting(total: int, done: int, console: Console | None = None) -> Generator[RunProgress, None, None]:
    """Shows the progress of a run of `total` steps that starts after `done`."""
    console = console or Console()
    if not console.is_terminal:
        yield RunProgress(console, None, total, done)
        return
    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeElapsedColumn(),
        TextColumn("done,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as progress:
        yield RunProgress(console, progress, total, done)
