"""Operations of our own: one equation in a program, with rules of their own for each platform and each derivative."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import mlir
from jax.sharding import PartitionSpec

# What each is short for, in operations of `lax`: the same arrays and parameters give the same result.
REFERENCES: dict[Primitive, Callable[..., jax.Array]] = {}


def define(
    name: str,
    reference: Callable[..., jax.Array],
    *,
    cpu: Callable[..., jax.Array],
    portable_cpu: Callable[..., jax.Array] | None = None,
    partitioned_cpu: Callable[..., jax.Array] | None = None,
) -> Primitive:
    """A primitive that computes what `reference` does, and is lowered to that, on a CPU to `cpu`.

    `portable_cpu` takes the place of `cpu` in a program that is exported, which another version of XLA will run, and
    `partitioned_cpu` where XLA divides the program over several devices by itself. All take the arrays, and the
    parameters by name. Type, derivatives and batching are the caller's to add.
    """
    primitive = Primitive(name)

    @cache
    def compiled(names: tuple[str, ...]) -> Callable[..., jax.Array]:
        return jax.jit(lambda *arrays, **params: primitive.bind(*arrays, **params), static_argnames=names)

    @primitive.def_impl
    def run(*arrays: jax.Array, **params: Any) -> jax.Array:
        # Compiled under `jax.disable_jit` too, where it would otherwise come back here for ever.
        with jax.disable_jit(False):
            return compiled(tuple(params))(*arrays, **params)

    mlir.register_lowering(primitive, mlir.lower_fun(reference, multiple_results=False))
    here, exported, divided = (
        mlir.lower_fun(rule or cpu, multiple_results=False) for rule in (cpu, portable_cpu, partitioned_cpu)
    )

    def lower_for_cpu(context: mlir.LoweringRuleContext, *arrays: Any, **params: Any) -> Any:
        module = context.module_context
        if _is_partitioned(module.axis_context):
            return divided(context, *arrays, **params)
        return (exported if module.lowering_parameters.for_export else here)(context, *arrays, **params)

    mlir.register_lowering(primitive, lower_for_cpu, platform="cpu")
    REFERENCES[primitive] = reference
    return primitive


def _is_partitioned(devices: Any) -> bool:
    """Whether XLA divides a program over devices by itself, be it along some axes of a mesh only."""
    if isinstance(devices, mlir.SPMDAxisContext):
        return any(size > 1 for axis, size in devices.mesh.shape.items() if axis not in devices.manual_axes)
    return isinstance(devices, mlir.ShardingContext) and devices.num_devices > 1


def like(array: Any, shape: tuple[int, ...]) -> Any:
    """The type of an array, with another shape.

    Raises:
        ValueError: the array is sharded over a mesh axis of explicit type, whose rules have no word for convolution.
    """
    if any(entry is not None for entry in array.sharding.spec):
        raise ValueError(
            f"an array of shape {array.shape} is sharded as {array.sharding.spec} over mesh axes of explicit type;"
            f" expected automatic ones, so make the mesh with axis_types=(AxisType.Auto,) or use `jax.shard_map`"
        )
    unsharded = array.sharding.update(spec=PartitionSpec(*[None] * len(shape)))
    return array.update(shape=shape, sharding=unsharded, weak_type=False)


def vary_alike(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Under `shard_map`, marks all operands as varying over every mesh axis that any of them varies over."""
    axes = frozenset[str]().union(*map(_varying_axes, arrays))
    return tuple(_vary_over(array, axes) for array in arrays)


def _varying_axes(array: jax.Array) -> frozenset[str]:
    kind = jax.typeof(array)
    # jax 0.9 calls it vma.
    return kind.vma if hasattr(kind, "vma") else kind.manual_axis_type.varying


def _vary_over(array: jax.Array, axes: frozenset[str]) -> jax.Array:
    missing = tuple(sorted(axes - _varying_axes(array)))
    return lax.pcast(array, missing, to="varying") if missing else array
