"""Many devices: a mesh with one axis, the batch split over it, the state on every device."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cnnjax.settings.training import BatchNormStatistics, Strategy
from cnnjax.train.gradient import Replicas
from cnnjax.train.recipe import Recipe
from cnnjax.train.step import eval_step, train_step, train_steps

_AXIS = "data"


def make_mesh(devices: int | None = None) -> Mesh:
    """A mesh with the one axis "data" over the first `devices` devices, or all, of all processes.

    Raises:
        ValueError: there are fewer devices.
    """
    present = jax.devices()
    count = len(present) if devices is None else devices
    if count > len(present):
        raise ValueError(f"devices={count}, but there are only {len(present)}: {present[0].platform}")
    return jax.make_mesh((count,), (_AXIS,), axis_types=(AxisType.Auto,), devices=present[:count])


def check_batch_size(batch_size: int, mesh: Mesh, *, accumulate: int = 1) -> None:
    """Does nothing if devices and microbatches can share the batch evenly.

    Raises:
        ValueError: they cannot; the message names the nearest sizes that work.
    """
    if batch_size >= 2**31:
        raise ValueError(f"batch_size={batch_size}; expected less than 2**31, as examples are numbered by 32 bits")
    shares = mesh.size * accumulate
    if batch_size % shares:
        below = batch_size // shares * shares
        near = [size for size in (below, below + shares) if size]
        parts = f" in {accumulate} microbatches each" if accumulate > 1 else ""
        raise ValueError(
            f"batch_size={batch_size} cannot be split over {mesh.size} devices{parts};"
            f" {' and '.join(map(str, near))} can, or pass fewer devices"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of a state: whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Replicates arrays, equal on every process, over all devices of the mesh."""
    sharding = replicated(mesh)
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def put(leaf: Any) -> jax.Array:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)))
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))

    return jax.tree.map(put, tree)


def split(mesh: Mesh, *, steps: bool = False) -> NamedSharding:
    """The sharding of a batch, split along the first axis; of several steps' batches, along the second."""
    return NamedSharding(mesh, PartitionSpec(None, _AXIS) if steps else PartitionSpec(_AXIS))


@dataclass(frozen=True)
class Parallel:
    """How the step is spread over the devices of a mesh.

    "jit" is one program over the whole batch, divided by the compiler: batch normalisation is global. "shard_map" is a
    copy of the step on every device, with one reduction of all gradients; so is "pmap", by the classic interface, for
    one process. In these two, batch normalisation takes each replica's own statistics, or pools them.

    Attributes:
        mesh: the devices.
        strategy: jit, shard_map or pmap.
        statistics: of batch normalisation: global, or replica; by default what the strategy does by itself.

    Raises:
        ValueError: a strategy or statistics that are not on offer, or that do not go together.
    """

    mesh: Mesh
    strategy: Strategy = "jit"
    statistics: BatchNormStatistics | None = None

    def __post_init__(self) -> None:
        for name, value, kind in (
            ("strategy", self.strategy, Strategy),
            ("statistics", self.statistics, BatchNormStatistics),
        ):
            if value is not None and value not in get_args(kind):
                raise ValueError(f"{name}={value!r}; expected one of {', '.join(get_args(kind))}")
        if self.strategy == "jit" and self.statistics == "replica":
            raise ValueError(
                "batch normalisation is global under jit (--devices.batch-norm-statistics global); for each replica's"
                " own statistics pass --devices.strategy shard_map"
            )
        if self.strategy == "pmap" and jax.process_count() > 1:
            raise ValueError(f"pmap takes one process, not {jax.process_count()}; pass --devices.strategy shard_map")

    @property
    def replicas(self) -> Replicas | None:
        """What the step knows about its copies; None where there is one step over the whole batch."""
        return None if self.strategy == "jit" else Replicas(_AXIS, pooled=self.statistics == "global")

    def replicate(self, state: Any) -> Any:
        """A state, or resident examples, as the compiled training step takes them: whole on every device."""
        if self.strategy != "pmap":
            return replicate(self.mesh, state)
        copies = jax.jit(
            partial(jax.tree.map, lambda leaf: jax.numpy.broadcast_to(leaf, (self.mesh.size, *leaf.shape))),
            out_shardings=split(self.mesh),
        )
        return copies(state)

    def unreplicate(self, state: Any) -> Any:
        """The inverse of `replicate`."""
        if self.strategy != "pmap":
            return state
        return jax.jit(partial(jax.tree.map, lambda leaf: leaf[0]), out_shardings=replicated(self.mesh))(state)

    def to_devices(self, batches: Iterable[Any], *, training: bool = False) -> Iterator[Any]:
        """Batches on the mesh, each process giving its own part of every one; the next is sent while one is in use.

        For training, a list of batches is sent as one, for a call of several steps.
        """
        sent = None
        for batch in batches:
            before, sent = sent, self._sent(batch, training=training)
            if before is not None:
                yield before
        if sent is not None:
            yield sent

    def _sent(self, batch: Any, *, training: bool) -> Any:
        steps = isinstance(batch, list)
        if steps:
            batch = jax.tree.map(lambda *leaves: np.stack(leaves), *batch)
        if training and self.strategy == "pmap":
            batch = jax.tree.map(partial(_by_device, self.mesh.size, int(steps)), batch)
            steps = False
        return jax.tree.map(partial(jax.make_array_from_process_local_data, split(self.mesh, steps=steps)), batch)

    def shapes(self, batch: Any, *, steps: int = 1) -> Any:
        """What `to_devices` gives for training, as shapes, for a process's part of a batch that is given as shapes."""

        def shape(leaf: Any) -> jax.ShapeDtypeStruct:
            rows, *rest = leaf.shape
            several = (steps,) if steps > 1 else ()
            if self.strategy == "pmap":
                return jax.ShapeDtypeStruct((self.mesh.size, *several, rows // self.mesh.size, *rest), leaf.dtype)
            return jax.ShapeDtypeStruct((*several, rows * jax.process_count(), *rest), leaf.dtype)

        return jax.tree.map(shape, batch)

    def compile_training(self, recipe: Recipe, state: Any, batch: Any, examples: Any, *, steps: int = 1) -> Any:
        """Compiles `(state, batch, examples) -> (state, metrics)`, of one step or several; the state is donated.

        All three come as `replicate` and `to_devices` give them; of the batch its `shapes` suffice.
        """
        step = partial(train_step if steps == 1 else train_steps, recipe=recipe, replicas=self.replicas)
        if self.strategy == "pmap":
            return (
                jax.pmap(
                    step, axis_name=_AXIS, out_axes=(0, None), devices=list(self.mesh.devices.flat), donate_argnums=0
                )
                .lower(state, batch, examples)
                .compile()
            )
        whole, divided = replicated(self.mesh), split(self.mesh, steps=steps > 1)
        if self.strategy == "shard_map":
            specs = whole.spec, divided.spec, whole.spec
            # Every result is reduced over the axis by the step itself, which the checker cannot see.
            step = jax.shard_map(step, mesh=self.mesh, in_specs=specs, out_specs=whole.spec, check_vma=False)
        jitted = jax.jit(step, in_shardings=(whole, divided, whole), out_shardings=whole, donate_argnums=0)
        return jitted.lower(state, batch, examples).compile()

    def compile_evaluation(self, recipe: Recipe, state: Any, batch: Any, examples: Any) -> Callable[..., Any]:
        """Compiles `(state, batch, examples) -> (metrics, predictions)`, predictions staying split; always by jit."""
        whole, divided = replicated(self.mesh), split(self.mesh)
        jitted = jax.jit(
            partial(eval_step, recipe=recipe),
            in_shardings=(whole, divided, whole),
            out_shardings=(whole, divided),
        )
        return jitted.lower(state, batch, examples).compile()


def _by_device(devices: int, axis: int, rows: np.ndarray) -> np.ndarray:
    """The batch axis divided over a new, leading axis of devices."""
    shape = (*rows.shape[:axis], devices, rows.shape[axis] // devices, *rows.shape[axis + 1 :])
    return np.moveaxis(rows.reshape(shape), axis, 0)
