"""Memory that a process keeps: its pages are not mapped anew."""

import os
import platform
import subprocess
import sys

import pytest

from cnnjax.train import allocator

# Asks for 200 MB and gives them back, three times; says what was done, and the pages of the last time.
PROGRAM = """
import resource, sys
import numpy as np
from cnnjax.train import allocator

shared = "share" in sys.argv and allocator.share_one_arena()
kept = allocator.keep_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(50_000_000, np.float32).sum()
    pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(shared, kept, pages)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def run(*words, **environment):
    command = [sys.executable, "-c", PROGRAM, *words]
    told = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    shared, kept, pages = told.stdout.split()
    return shared == "True", kept == "True", int(pages)


@glibc
def test_pages_are_mapped_once():
    shared, kept, pages = run("share")
    assert shared
    assert kept
    # Of 48,829 of 4 KiB.
    assert pages < 500


@glibc
@pytest.mark.parametrize(("words", "switch"), [(("share",), "0"), ((), "1")], ids=["switched off", "not shared"])
def test_the_library_is_left_as_it_is(words, switch):
    shared, kept, pages = run(*words, **{allocator.SWITCH: switch})
    assert not shared
    assert not kept
    # Large pages may be mapped at once, where the system has them.
    assert pages > 90


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_have_no_such_settings(system, monkeypatch):
    monkeypatch.setattr(sys, "platform", system)
    assert not allocator.share_one_arena()


def test_another_c_library_has_no_such_settings(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())
    assert not allocator.share_one_arena()
