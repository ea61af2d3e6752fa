"""The memory that a compiled step takes, compared with what a device has."""

import os
from typing import Any

import jax
from jax.sharding import Mesh
from rich.filesize import decimal


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
