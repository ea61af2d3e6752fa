"""How far something is: a bar on a terminal, elsewhere a line every few seconds; nothing of what is soon done."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console

from cnnjax.view.text import printable

_Item = TypeVar("_Item")

# Seconds after which the progress is shown, and from one line to the next.
SHOWN_AFTER, EVERY = 2.0, 5.0


@contextmanager
def progress(text: str, total: int, *, console: Console | None = None) -> Generator[Callable[[int], None], None, None]:
    """Gives a function that is told of how many more the work is done, and shows it after some seconds.

    Args:
        text: What is done, such as "reading examples of digits".
        total: Of how many.
        console: Where it is shown; the error stream where None.
    """
    from rich.markup import escape
    from rich.progress import Progress

    text, console = printable(text), console or Console(stderr=True)
    bar = Progress(console=console, transient=True)
    task = bar.add_task(escape(text), total=total)
    began = time.monotonic()
    next_line, done = began + SHOWN_AFTER, 0

    def advance(count: int) -> None:
        nonlocal next_line, done
        done += count
        bar.update(task, advance=count)
        now = time.monotonic()
        if now < next_line:
            return
        next_line = now + EVERY
        if console.is_terminal:
            bar.start()
        else:
            left = (now - began) * (total - done) / done if done else 0
            line = f"{text}: {done:,} of {total:,}, {now - began:.0f} s so far, about {left:.0f} s left"
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    try:
        yield advance
    finally:
        # One that was never started would print an empty line.
        if bar.live.is_started:
            bar.stop()


def counted(items: Sequence[_Item], text: str, *, console: Console | None = None) -> Iterator[_Item]:
    """The items one after the other, the progress through them being shown."""
    with progress(text, len(items), console=console) as advance:
        for item in items:
            yield item
            advance(1)
