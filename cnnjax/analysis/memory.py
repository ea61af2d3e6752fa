"""Bytes that a program holds at once, and those that training keeps for the backward pass."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.analysis.program import Program
from cnnjax.analysis.reach.rules import ELEMENTWISE
from cnnjax.analysis.tracing import trace_call
from cnnjax.models import Model, inference_options

# What XLA reads in place of writing it down.
_FREE = frozenset("broadcast_in_dim iota reshape squeeze transpose slice convert_element_type copy".split())


def bytes_of(tree: Any) -> int:
    """Bytes of all arrays of a tree, or of their shapes and types."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def live_bytes(program: Program) -> tuple[int, ...]:
    """Bytes of intermediate values that are alive while each equation runs, one after the other; the largest is a peak.

    A value lives from the equation that makes it to the last one that reads it. Arguments, constants and weights are
    not counted, nor what is only another view of a value (a reshape, a broadcast); elementwise work that reads a value
    of the size of its output for the last time overwrites it. A compiler that fuses more needs less.
    """
    last: dict[int, float] = {value: index for index, eqn in enumerate(program.equations) for value in eqn.inputs}
    last |= {value: math.inf for _, value in program.outputs}
    held: dict[int, int] = {}
    owners: dict[int, int] = {}
    alive, found = 0, []
    for index, equation in enumerate(program.equations):
        views = equation.primitive in _FREE
        source = next((owners[value] for value in equation.inputs if value in owners), None) if views else None
        if source is not None:
            # A view keeps alive what it looks at.
            for value in equation.outputs:
                owners[value] = source
                last[source] = max(last.get(source, index), last.get(value, index))
            found.append(alive)
            continue
        sizes = {value: _bytes(program, value) for value in equation.outputs}
        ending = [
            owner
            for owner in dict.fromkeys(owners[value] for value in equation.inputs if value in owners)
            if last.get(owner, index) <= index
        ]
        inside = max((max(live_bytes(inner), default=0) for inner in equation.inner), default=0)
        overwrites = equation.primitive in ELEMENTWISE
        reused = max((held[owner] for owner in ending if overwrites and held[owner] in sizes.values()), default=0)
        found.append(alive + inside + (0 if views else sum(sizes.values())) - reused)
        for owner in ending:
            alive -= held.pop(owner)
        for value, size in sizes.items():
            if views or value not in last:
                continue
            owners[value], held[value] = value, size
            alive += size
    return tuple(found)


def kept_bytes(function: Callable[..., Any], params: Any, image: Any) -> dict[str, int]:
    """Bytes that reverse differentiation keeps of what each layer makes, by layer; not those of the parameters.

    The image itself, where it is kept, and what is made outside of all layers have names of their own.
    """
    program = trace_call(lambda params, image: jax.tree.leaves(jax.vjp(function, params, image)[1]), params, image)
    makers = {value: place for place, equation in enumerate(program.equations) for value in equation.outputs}
    kept: dict[str, int] = {}
    # What a scan collects over its turns is kept by what made it in each.
    pending = list(dict.fromkeys(value for _, value in program.outputs))
    while pending:
        value = pending.pop()
        place = makers.get(value)
        if place is not None and program.equations[place].primitive == "stack":
            pending += program.equations[place].inputs
        elif place is not None or value == program.image:
            name = "(input)" if place is None else program.layer_of(place)
            kept[name] = kept.get(name, 0) + _bytes(program, value)
    return kept


def kept_in_training(model: Model, shape: tuple[int, ...], dtype: Any) -> dict[str, int]:
    """`kept_bytes` of a training step of a model on pictures of a shape."""
    options: dict[str, Any] = dict.fromkeys(inference_options(model), True)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    image = jax.ShapeDtypeStruct(shape, dtype)
    variables = jax.eval_shape(partial(model.init, **options), keys, image)
    params = variables.get("params", {})
    others = {name: value for name, value in variables.items() if name != "params"}

    def outputs(params: Any, image: jax.Array) -> Any:
        state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), others)
        rngs = {"dropout": jax.random.key(1)}
        return model.apply({"params": params, **state}, image, **options, rngs=rngs, mutable=[*others])[0]

    return kept_bytes(outputs, params, image)


def _bytes(program: Program, value: int) -> int:
    dtype = program.dtypes[value]
    return 0 if dtype is None else math.prod(program.shapes[value]) * dtype.itemsize
