"""Bytes that a program holds at once, and those that training keeps for the backward pass."""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.analysis.program import Program
from cnnjax.analysis.rules import ELEMENTWISE
from cnnjax.models import Model

# What XLA reads in place of writing it down.
_FREE = frozenset("broadcast_in_dim iota reshape squeeze transpose slice convert_element_type copy".split())


def bytes_of(tree: Any) -> int:
    """Bytes of all arrays of a tree, or of their shapes and types."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def peak_bytes(program: Program) -> int:
    """The most bytes of intermediate values that are alive at once while the equations run in order.

    A value lives from the equation that makes it to the last one that reads it. Arguments, constants and weights are
    not counted, nor what is only another view of a value (a reshape, a broadcast); elementwise work that reads a value
    of the size of its output for the last time overwrites it. A compiler that fuses more needs less.
    """
    last: dict[int, float] = {value: index for index, eqn in enumerate(program.equations) for value in eqn.inputs}
    last |= {value: math.inf for _, value in program.outputs}
    held: dict[int, int] = {}
    owners: dict[int, int] = {}
    alive = most = 0
    for index, equation in enumerate(program.equations):
        views = equation.primitive in _FREE
        source = next((owners[value] for value in equation.inputs if value in owners), None) if views else None
        if source is not None:
            # A view keeps alive what it looks at.
            for value in equation.outputs:
                owners[value] = source
                last[source] = max(last.get(source, index), last.get(value, index))
            continue
        sizes = {value: _bytes(program, value) for value in equation.outputs}
        ending = [
            owner
            for owner in dict.fromkeys(owners[value] for value in equation.inputs if value in owners)
            if last.get(owner, index) <= index
        ]
        inside = max((peak_bytes(inner) for inner in equation.inner), default=0)
        overwrites = equation.primitive in ELEMENTWISE
        reused = max((held[owner] for owner in ending if overwrites and held[owner] in sizes.values()), default=0)
        most = max(most, alive + inside + (0 if views else sum(sizes.values())) - reused)
        for owner in ending:
            alive -= held.pop(owner)
        for value, size in sizes.items():
            if views or value not in last:
                continue
            owners[value], held[value] = value, size
            alive += size
    return most


def kept_bytes(function: Callable[..., Any], params: Any, image: Any) -> int:
    """Bytes that reverse differentiation keeps between the forward and the backward pass, without the parameters."""
    kept = jax.make_jaxpr(lambda params, image: jax.vjp(function, params, image)[1])(params, image)
    given = {*kept.jaxpr.invars[: len(jax.tree.leaves(params))]}
    values = dict.fromkeys(variable for variable in kept.jaxpr.outvars if not hasattr(variable, "val"))
    return bytes_of([value.aval for value in values if value not in given])


def training_bytes(model: Model, shape: tuple[int, ...], dtype: Any) -> int:
    """Bytes of a training step of a model: parameters, their gradients, and what the backward pass keeps.

    What an optimizer remembers comes on top: as much as the parameters for momentum, twice as much for Adam.
    """
    options: dict[str, Any] = {"train": True} if "train" in inspect.signature(type(model).__call__).parameters else {}
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    image = jax.ShapeDtypeStruct(shape, dtype)
    variables = jax.eval_shape(partial(model.init, **options), keys, image)
    params = variables.get("params", {})
    others = {name: value for name, value in variables.items() if name != "params"}
    zeros = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), others)

    def loss(params: Any, image: jax.Array) -> Any:
        state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), zeros)
        rngs = {"dropout": jax.random.key(1)}
        return model.apply({"params": params, **state}, image, **options, rngs=rngs, mutable=[*others])[0]

    return 2 * bytes_of(params) + kept_bytes(loss, params, image)


def _bytes(program: Program, value: int) -> int:
    dtype = program.dtypes[value]
    return 0 if dtype is None else math.prod(program.shapes[value]) * dtype.itemsize
