"""How fast a device could be, and a trace of what it does: both to judge the speed of a run by."""

import functools
import statistics
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

# Side of the square matrices whose product measures a device: a few milliseconds' work.
_SIDE = {"cpu": 1024}
_SIDE_ELSEWHERE = 8192

# Forward, and in the backward pass the gradients of inputs and of parameters; a multiplication and an addition each.
OPERATIONS_PER_MAC = 6

# Calls that a profile covers, after some that warm up.
_PROFILED = (5, 10)


def peak(mesh: Mesh, precision: str) -> float:
    """Floating-point operations a second of all devices, as the product of two large matrices reaches them.

    Several devices that a CPU plays share its cores, and count as one in each process.
    """
    devices = jax.process_count() if mesh.devices.flat[0].platform == "cpu" else mesh.size
    return devices * _peak_of_one(precision)


@functools.cache
def _peak_of_one(dtype: str, rounds: int = 5) -> float:
    device = jax.local_devices()[0]
    side = _SIDE.get(device.platform, _SIDE_ELSEWHERE)
    matrix = jax.device_put(jnp.ones((side, side), dtype), device)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(seconds)


class Profile:
    """Writes a trace of some calls of a run; of none without a folder."""

    def __init__(self, folder: Path | None):
        """Use `profiling`."""
        self._folder, self._calls, self._open = folder, 0, False

    def call(self) -> None:
        """A call is about to be made."""
        if self._folder is not None and self._calls == _PROFILED[0]:
            jax.profiler.start_trace(str(self._folder))
            self._open = True
        if self._calls == _PROFILED[1]:
            self.close()
        self._calls += 1

    def close(self) -> None:
        """Writes what there is."""
        if self._open:
            jax.profiler.stop_trace()
            self._open = False


@contextmanager
def profiling(folder: Path | None) -> Generator[Profile, None, None]:
    """A profile of some early calls of a run, for TensorBoard or Perfetto, in a folder."""
    profile = Profile(folder)
    try:
        yield profile
    finally:
        profile.close()
