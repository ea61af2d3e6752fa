"""Where a run's text goes: an output that fails, or that nobody reads, never ends a run nor holds it up for good."""

import io
import os
import select
from copy import copy
from typing import IO, cast

from rich.console import Console

# Seconds that a text waits for the reader of a full pipe, or for a stopped terminal, before it is dropped.
PATIENCE = 5.0

_DROPPED = b"\n(nobody read what came here: it is left out)\n"


class Output:
    """A stream of text that drops what cannot be written, and remembers why.

    What is written to a file, pipe or terminal goes there at once, past the buffer of the stream. Where its reader
    does not read, a text waits for `PATIENCE` seconds, and what comes after it is dropped until there is room again.

    Attributes:
        error: the first error of writing, after which everything is dropped; None while there was none.
        encoding: that of the stream.
    """

    def __init__(self, stream: IO[str] | io.TextIOBase):
        """Writes to `stream`."""
        self.error: OSError | ValueError | None = None
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self._stream = stream
        self._dropping = False
        try:
            stream.flush()
            # Other streams may have the number of a file that is not theirs: a notebook's has that of its server's log.
            self._descriptor = stream.fileno() if type(stream) is io.TextIOWrapper and hasattr(select, "poll") else None
        except io.UnsupportedOperation:
            self._descriptor = None
        except (OSError, ValueError) as error:
            self.error = error

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.error is None and self._stream.isatty()

    def fileno(self) -> int:
        """The number of the stream's file."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Writes a text, or drops it."""
        if self.error is None:
            try:
                if self._descriptor is None:
                    self._stream.write(text)
                else:
                    self._send(self._descriptor, text.encode(self.encoding, "backslashreplace"))
            except (OSError, ValueError) as error:
                self.error = error
        return len(text)

    def flush(self) -> None:
        """Hands on what the stream holds back."""
        if self.error is None and self._descriptor is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self.error = error

    def _send(self, descriptor: int, data: bytes) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        while data:
            if not poll.poll(0 if self._dropping else 1000 * PATIENCE):
                self._dropping = True
                return
            if self._dropping:
                data, self._dropping = _DROPPED + data, False
            self._stream.flush()  # what was printed past this object comes first
            # Where there is room for any, there is room for so many bytes: this never waits.
            data = data[os.write(descriptor, data[: select.PIPE_BUF]) :]


def outlasting(console: Console) -> tuple[Console, Output]:
    """A console like another, that writes through an `Output`, and this."""
    output = console.file if isinstance(console.file, Output) else Output(console.file)
    like = copy(console)
    like.file = cast("IO[str]", output)
    return like, output
