"""What is known of a run before its first step: what it computes on, how much memory it takes, how fast it could be."""

import functools
import os
import platform
import statistics
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from rich.filesize import decimal

from cnnjax.cache import private_folder
from cnnjax.data.sources.fingerprint import fingerprint
from cnnjax.train.config import Precision

# Side of the square matrices whose product measures a device: a few milliseconds' work.
_SIDE = {"cpu": 1024}
_SIDE_ELSEWHERE = 8192

# Forward, and in the backward pass the gradients of inputs and of parameters; a multiplication and an addition each.
OPERATIONS_PER_MAC = 6

# Calls that a profile covers, after some that warm up.
_PROFILED = (5, 10)


def choose_precision(precision: Precision) -> Precision:
    """The type to compute in: for "auto" bfloat16 on accelerators and float32 on CPUs, which are slower in bfloat16."""
    if precision != "auto":
        return precision
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def keep_compiled() -> Path | None:
    """Has XLA keep what it compiles, for the next run, in a private folder of the cache; returns it.

    A folder chosen by JAX_COMPILATION_CACHE_DIR is left as it is. Machines whose processors differ have each their own,
    for a home folder that they share.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return Path(jax.config.jax_compilation_cache_dir)
    try:
        processor = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        processor = platform.processor()
    folder = private_folder(f"compiled-{fingerprint(platform.machine(), processor)[:12]}")
    if folder is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def memory_needed(compiled: Any) -> int | None:
    """Bytes on each device that a compiled program takes, its arguments included; None where the backend tells none."""
    try:
        told = compiled.memory_analysis()
    except NotImplementedError:
        return None
    if told is None:
        return None
    return (
        told.argument_size_in_bytes
        + told.output_size_in_bytes
        - told.alias_size_in_bytes
        + told.temp_size_in_bytes
        + told.generated_code_size_in_bytes
    )


def memory_present(device: jax.Device) -> int | None:
    """Bytes that a device has for this process; None where it is not known."""
    told = device.memory_stats()
    if told and "bytes_limit" in told:
        return told["bytes_limit"]
    if device.platform == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def check_memory(compiled: Any, state: Any, mesh: Mesh, *, batch_size: int, accumulate: int = 1) -> int | None:
    """The bytes that the step needs on a device, where that is known.

    Raises:
        MemoryError: the device has less; the message names the largest batch size that fits, taking the memory beside
            the state to be proportional to it.
    """
    needed, device = memory_needed(compiled), mesh.local_devices[0]
    present = memory_present(device)
    if needed is None or present is None:
        return needed
    if device.platform == "cpu":
        needed *= len(mesh.local_devices)
    if needed <= present:
        return needed
    fixed = sum(leaf.nbytes for leaf in jax.tree.leaves(state) if hasattr(leaf, "nbytes"))
    share = mesh.size * accumulate
    fits = int(batch_size * max(present - fixed, 0) / max(needed - fixed, 1)) // share * share
    cure = f"a batch size of {fits} should fit (--batch-size {fits})" if fits else "not even a smaller batch would fit"
    raise MemoryError(
        f"a step of batch_size={batch_size} needs {decimal(needed)}, and there are {decimal(present)} on"
        f" {device.device_kind}; {cure}; --accumulate and --remat need less memory too"
    )


def peak(mesh: Mesh, precision: str) -> float:
    """Floating-point operations a second of all devices, as the product of two large matrices reaches them.

    Several devices that a CPU plays share its cores, and count as one in each process.
    """
    devices = jax.process_count() if _is_cpu(mesh) else mesh.size
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


def describe(seconds: float, needed: int | None, macs: int | None, mesh: Mesh) -> str:
    """What compiling told, in a line."""
    told = [f"compiled in {seconds:.1f} s"]
    if needed is not None:
        told.append(f"a step needs {decimal(needed)} on {'this machine' if _is_cpu(mesh) else 'each device'}")
    if macs is not None:
        told.append(f"and {3 * macs:,} multiply-accumulates")
    return ", ".join(told)


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


def _is_cpu(mesh: Mesh) -> bool:
    return mesh.devices.flat[0].platform == "cpu"
