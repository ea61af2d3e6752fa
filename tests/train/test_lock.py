"""The lock of a run's folder: one at a time, whoever is killed, and whatever the file system knows of locks."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from cnnjax.train import lock
from cnnjax.train.lock import LOCK, locked

SCRIPT = """
import sys, time
from pathlib import Path
from cnnjax.train.lock import locked
with locked(Path(sys.argv[1]), report=print):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process, which holds the lock of a folder."""
    with subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def soon(monkeypatch):
    """Signs of life come, and are missed, within a fraction of a second."""
    monkeypatch.setattr(lock, "_BEAT", 0.05)
    monkeypatch.setattr(lock, "_SILENCE", 0.4)


def hold(folder, report=print):
    with locked(folder, report=report) as check:
        check()


def test_it_says_whose_it_is_and_ends_with_a_process_that_is_killed(tmp_path, other):
    with pytest.raises(
        BlockingIOError, match=rf"is in use by process {other.pid} on .+ since 20.+; wait until it ends"
    ):
        hold(tmp_path)
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / LOCK).exists()
    hold(tmp_path)
    assert not (tmp_path / LOCK).exists()


def test_within_a_process_too(tmp_path):
    with locked(tmp_path, report=print), pytest.raises(BlockingIOError, match=f"by process {os.getpid()} on"):
        hold(tmp_path)
    hold(tmp_path)


@pytest.fixture(params=["no locks", "locks of this machine alone"])
def elsewhere(request, tmp_path, monkeypatch, soon):
    """A file system that does not tell of another machine's locks; calls say what machine this is."""
    if request.param == "no locks":

        def flock(descriptor, how):
            raise OSError("Function not implemented")

    else:

        def flock(descriptor, how):
            return None

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    return lambda name: monkeypatch.setattr(lock, "_machine", lambda: name)


def test_the_living_of_another_machine_keep_it_and_the_dead_do_not(tmp_path, elsewhere):
    elsewhere("there")
    said = []
    with locked(tmp_path, report=print) as check:
        content = (tmp_path / LOCK).read_bytes()
        elsewhere("here")
        with pytest.raises(BlockingIOError, match="is in use by process"):
            hold(tmp_path, said.append)
        assert "waiting 0 s for a sign of life" in said[0]
        check()
    # As a machine leaves it that has lost its power.
    (tmp_path / LOCK).write_bytes(content)
    hold(tmp_path, said.append)
    assert len(said) == 2
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"process": []}', "\0\0"])
def test_a_damaged_file_keeps_nobody_out(tmp_path, content):
    (tmp_path / LOCK).write_text(content)
    hold(tmp_path)
    assert not (tmp_path / LOCK).exists()


def test_who_has_lost_it_is_told_and_leaves_the_others_alone(tmp_path, soon):
    def lost(check):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            check()
            time.sleep(0.01)

    with locked(tmp_path, report=print) as check:
        (tmp_path / LOCK).unlink()
        with pytest.raises(OSError, match="lock was removed; this run writes no more there"):
            lost(check)
        with locked(tmp_path, report=print) as others, pytest.raises(OSError, match="was removed"):
            check()
        others()
    with locked(tmp_path, report=print) as check:
        other = json.dumps({"host": "far", "machine": "far", "process": 7, "since": "2026-01-02 03:04:05.6"})
        (tmp_path / LOCK).write_text(other)
        with pytest.raises(OSError, match="is that of process 7 on far since 2026-01-02 03:04:05 by now"):
            lost(check)
    assert (tmp_path / LOCK).read_text() == other
