"""Signals: the first asks a run to finish its step and save, the second ends it at once."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Whether a signal has come, to this process or to any that trains with it.

    Several processes must stop after the same step, so each tells the others with every call, and all act on what was
    told some calls ago.
    """

    def __init__(self, mesh: Mesh | None = None):
        """Use `interruptible`; a mesh is given where several processes share it."""
        self.signal: int | None = None
        self._mesh = mesh
        self._told: list[jax.Array] = []

    def tell(self) -> None:
        """Tells the other processes, on the way, whether a signal has come here; once a call."""
        if self._mesh is not None:
            sharding = NamedSharding(self._mesh, PartitionSpec("data"))
            local = np.full(len(self._mesh.local_devices), self.signal or 0, np.int32)
            self._told.append(_largest(jax.make_array_from_process_local_data(sharding, local), self._mesh))

    def asked(self, *, calls_ago: int) -> int | None:
        """The signal, if one had come to any process so many calls ago; None before."""
        if self._mesh is None:
            return self.signal
        if len(self._told) <= calls_ago:
            return None
        return int(np.asarray(self._told.pop(0))) or None


@contextmanager
def interruptible(mesh: Mesh, say: Callable[[str], None]) -> Generator[Interruption, None, None]:
    """Notes SIGTERM and SIGINT in place of their handlers, which come back at the end, and at once for a second one.

    Outside of the main thread, where Python takes no handlers, nothing is noted.
    """
    interruption = Interruption(mesh if jax.process_count() > 1 else None)
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    earlier = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in earlier.items():
            # None is a handler that was not set from Python, and cannot be set from it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def note(number: int, frame: FrameType | None) -> None:
        if interruption.signal is None:
            interruption.signal = number
            say(f"{signal.Signals(number).name}: finishing the step, then saving; once more leaves at once")
            return
        restore()
        signal.raise_signal(number)

    for number in _SIGNALS:
        signal.signal(number, note)
    try:
        yield interruption
    finally:
        restore()


def leave(number: int) -> None:
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
