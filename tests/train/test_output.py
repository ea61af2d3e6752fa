"""Outputs that fail or stand still: real pipes, a full disk, streams that are none."""

import errno
import io
import os

import pytest
from rich.console import Console

from cnnjax.train import output
from cnnjax.train.output import Output, outlasting


@pytest.fixture
def pipe(monkeypatch):
    """The number of a pipe's reading end, and a stream of text that writes to the other."""
    monkeypatch.setattr(output, "PATIENCE", 0.05)
    reading, writing = os.pipe()
    with open(writing, "w", encoding="ascii") as stream:
        yield reading, stream
    os.close(reading)


def fill(descriptor):
    """Writes until the pipe is full; returns how many bytes."""
    os.set_blocking(descriptor, False)
    written = 0
    try:
        while True:
            written += os.write(descriptor, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(descriptor, True)
    return written


def test_text_goes_through_a_pipe_at_once_and_in_order(pipe):
    reading, stream = pipe
    stream.write("printed\n")
    assert Output(stream).write("said \N{GREEK SMALL LETTER ALPHA}\n") == 7
    stream.write("printed")
    Output(stream).write(" again")
    assert os.read(reading, 100) == b"printed\nsaid \\u03b1\nprinted again"


def test_a_full_pipe_is_waited_for_a_while_and_what_is_left_out_is_said(pipe):
    reading, stream = pipe
    told = Output(stream)
    filled = fill(stream.fileno())
    told.write("lost")
    told.write("too")
    assert told.error is None
    assert os.read(reading, filled) == b"." * filled
    told.write("back\n")
    assert os.read(reading, 1000) == b"\n(nobody read what came here: it is left out)\nback\n"


def test_a_long_text_that_finds_room_for_its_beginning_does_not_wait_for_the_rest(pipe):
    reading, stream = pipe
    filled = fill(stream.fileno())
    os.read(reading, 4096)
    Output(stream).write("x" * 10_000)
    assert os.read(reading, filled).rstrip(b"x") == b"." * (filled - 4096)


def test_a_reader_that_has_gone_is_remembered():
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream:
        told = Output(stream)
        assert told.write("nobody") == 6
        assert isinstance(told.error, BrokenPipeError)
        told.write("again")
        told.flush()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no file that is a full disk")
def test_a_full_disk_is_remembered():
    with open("/dev/full", "w") as stream:
        told = Output(stream)
        told.write("no room")
        assert told.error.errno == errno.ENOSPC


def test_streams_without_a_file_are_written_as_they_are():
    stream = io.StringIO()
    told = Output(stream)
    told.write("said")
    assert stream.getvalue() == "said"
    stream.close()
    told.write("nobody")
    assert "closed file" in str(told.error)


def test_a_console_writes_through_it_and_its_like_is_left_as_it_was():
    screen = io.StringIO()
    console = Console(file=screen, width=33)
    like, told = outlasting(console)
    like.print("said")
    assert (like.file, console.file, like.width) == (told, screen, 33)
    assert screen.getvalue() == "said\n"
    assert outlasting(like)[1] is told
