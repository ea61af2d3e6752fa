"""Many devices: a mesh with one axis, the batch split over it, the state on every device."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(devices: int | None = None) -> Mesh:
    """A mesh with the one axis "data" over the first `devices` devices, or all.

    Raises:
        ValueError: there are fewer devices.
    """
    present = jax.devices()
    count = len(present) if devices is None else devices
    if count > len(present):
        raise ValueError(f"devices={count}, but there are only {len(present)}: {present[0].platform}")
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=present[:count])


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises ValueError, naming the nearest sizes that work, unless the devices can share the batch evenly."""
    if batch_size % mesh.size:
        below = batch_size // mesh.size * mesh.size
        near = [size for size in (below, below + mesh.size) if size]
        raise ValueError(
            f"batch_size={batch_size} cannot be split over {mesh.size} devices;"
            f" {' and '.join(map(str, near))} can, or pass fewer devices"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of a state: whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: split along the first axis."""
    return NamedSharding(mesh, PartitionSpec("data"))


def to_devices(batches: Iterable[dict[str, np.ndarray]], mesh: Mesh) -> Iterator[Any]:
    """Batches on the mesh, each process giving its own part of every one; the next is sent while one is in use."""
    sharding = split(mesh)
    sent = None
    for batch in batches:
        before, sent = sent, jax.tree.map(partial(jax.make_array_from_process_local_data, sharding), batch)
        if before is not None:
            yield before
    if sent is not None:
        yield sent


def compile_step(
    step: Callable[..., Any], mesh: Mesh, state: Any, batch: Any, examples: Any, *, donate_state: bool = False
) -> Callable[..., Any]:
    """Compiles a step `(state, batch, examples) -> (state, metrics)` or `-> (metrics, predictions)` for the mesh.

    `examples`, those that live on the device, are whole on every one. With `donate_state` the first result is a state,
    and takes the memory of the old one; without, the second result has one entry per example and stays split.
    """
    jitted = jax.jit(
        step,
        in_shardings=(replicated(mesh), split(mesh), replicated(mesh)),
        out_shardings=(replicated(mesh), replicated(mesh) if donate_state else split(mesh)),
        donate_argnums=(0,) if donate_state else (),
    )
    return jitted.lower(state, batch, examples).compile()
