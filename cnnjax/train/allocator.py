"""Memory kept between the steps of a run, instead of being given back to the system and asked for anew.

XLA asks for the memory of a step's intermediate results with every step. Where it comes from the system each time,
all of its pages are mapped and cleared anew, which takes a fifth of a ResNet's step on a CPU. glibc can be told to
keep them, in two parts: that all threads share one arena, before the first computation; and that nothing is mapped
apart or given back, once the state of the run is made. Told all at once, what was needed before the first step would
be kept too.
"""

import ctypes
import os
import sys

# The environment variable that leaves the C library as it is, with the value 0.
SWITCH = "CNNJAX_KEEP_MEMORY"

# Of glibc's mallopt: one arena for all threads; nothing mapped apart; nothing given back; so much taken at once.
_ARENA_MAX, _MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -8, -4, -1, -2
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}

_shared = False


def share_one_arena() -> bool:
    """The first part, before the first computation of a process that is nobody else's; returns whether it is done.

    Only where the C library is glibc, and CNNJAX_KEEP_MEMORY is not 0.
    """
    global _shared
    if os.environ.get(SWITCH) == "0" or sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    # Other C libraries have neither; musl's allocator has no such settings.
    if not hasattr(library, "gnu_get_libc_version") or not hasattr(library, "mallopt"):
        return False
    _shared = library.mallopt(_ARENA_MAX, 1) == 1
    return _shared


def keep_memory() -> bool:
    """The second part, before the first step; returns whether memory is kept. Nothing happens without the first."""
    if not _shared:
        return False
    library = ctypes.CDLL(None)
    taken = [library.mallopt(setting, value) for setting, value in _KEEPING.items()]
    return taken == [1] * len(taken)
