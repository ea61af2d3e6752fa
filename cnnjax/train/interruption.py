"""Signals: the first asks a run to finish its step and save, the second ends it at once.

A handler only notes its signal, for it may come in the middle of any other line of Python: a print, a save. The loop
asks between two steps. An output whose reader has gone counts as SIGPIPE, the signal that it is for other programs.
"""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnnjax.train.output import Output
from cnnjax.train.plan import CALLS_AHEAD

# Not every system has the last.
_SIGNALS = [number for number in signal.Signals if number.name in ("SIGTERM", "SIGINT", "SIGHUP")]

# SIGPIPE, which not every system has either.
BROKEN_PIPE = 13


class Interruption:
    """Whether a signal has come, to this process or to any that trains with it.

    Several processes must stop after the same step, so each tells the others whenever it is asked, and all act on what
    was told some calls ago.
    """

    def __init__(self, output: Output, mesh: Mesh | None = None):
        """Use `interruptible`; a mesh is given where several processes share it."""
        self.signal: int | None = None
        self._output = output
        self._mesh = mesh
        self._told: list[jax.Array] = []

    def asked(self) -> int | None:
        """The signal, if one has come; among several processes, if one had come to any of them some calls ago."""
        here = self.signal or (BROKEN_PIPE if isinstance(self._output.error, BrokenPipeError) else None)
        if self._mesh is None:
            return here
        sharding = NamedSharding(self._mesh, PartitionSpec("data"))
        local = np.full(len(self._mesh.local_devices), here or 0, np.int32)
        self._told.append(_largest(jax.make_array_from_process_local_data(sharding, local), self._mesh))
        if len(self._told) <= CALLS_AHEAD:
            return None
        return int(np.asarray(self._told.pop(0))) or None


@contextmanager
def interruptible(mesh: Mesh, output: Output) -> Generator[Interruption, None, None]:
    """Notes signals in place of their handlers, which come back at the end, and at once for a second signal.

    They are SIGTERM, SIGINT and, but where it is ignored as under `nohup`, SIGHUP. Outside of the main thread, where
    Python takes no handlers, nothing is noted.
    """
    interruption = Interruption(output, mesh if jax.process_count() > 1 else None)
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    earlier = {number: signal.getsignal(number) for number in _SIGNALS}
    # A shell's background jobs ignore SIGINT too, and should still stop for it.
    earlier = {one: handler for one, handler in earlier.items() if one.name != "SIGHUP" or handler != signal.SIG_IGN}

    def restore() -> None:
        for number, handler in earlier.items():
            # None is a handler that was not set from Python, and cannot be set from it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def note(number: int, frame: FrameType | None) -> None:
        if interruption.signal is None:
            interruption.signal = number
            return
        restore()
        signal.raise_signal(number)

    for number in earlier:
        signal.signal(number, note)
    try:
        yield interruption
    finally:
        restore()


def describe_signal(number: int) -> str:
    """Its name, such as SIGTERM."""
    return "a closed output" if number == BROKEN_PIPE else signal.Signals(number).name


def leave(number: int) -> NoReturn:
    """Ends the run as its signal would have: KeyboardInterrupt, or exit code 128 + the signal's number.

    Raises:
        KeyboardInterrupt: for SIGINT.
        SystemExit: for all others.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _largest(values: Any, mesh: Mesh) -> jax.Array:
    return jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))(values)
