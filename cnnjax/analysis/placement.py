"""Elements that are taken from, or put into, places known beforehand: gathers, scatters, slices with a start."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnjax.analysis import reach as reaching
from cnnjax.analysis import rearranging
from cnnjax.analysis.reach import Reach
from cnnjax.analysis.step import Step

# Which inputs move, by primitive; the others say where to.
MOVED = {"gather": (0,), "dynamic_slice": (0,), "dynamic_update_slice": (0, 1), "scatter": (0, 2), "tile": (0,)}


def move(step: Step) -> list[Reach] | None:
    """Elements that change places: the same is done to their numbers, and tells where each comes from."""
    arrays, counted, sources = [], 0, []
    for number, (reach, shape) in enumerate(zip(step.inputs, step.before, strict=True)):
        if number in MOVED[step.equation.primitive]:
            size = math.prod(shape)
            arrays.append(jnp.arange(counted, counted + size, dtype=jnp.int32).reshape(shape))
            sources.append((reach, shape))
            counted += size
        elif reach is not None or (known := step.constant(number)) is None:
            return None  # where elements go is decided by the image, or not known
        else:
            arrays.append(jnp.asarray(known))
    with jax.ensure_compile_time_eval():
        origin = np.asarray(_numbers(step, arrays))
    return [rearranging.moved([reach for reach, _ in sources], [shape for _, shape in sources], origin)]


def _numbers(step: Step, arrays: Sequence[Any]) -> Any:
    """The primitive on the numbers of elements, with -1 for what it fills in."""
    params = step.params
    match step.equation.primitive:
        case "gather":
            return lax.gather_p.bind(*arrays, **{**params, "fill_value": -1})
        case "scatter":
            operand, indices, updates = arrays
            return _scatter(lax.scatter, operand, indices, updates, params)
    (result,) = step.equation.operation(*arrays)
    return result


def scatter_combined(step: Step) -> list[Reach] | None:
    """What is added into places is seen from there, beside what was there."""
    if step.inputs[1] is not None or (indices := step.constant(1)) is None:
        return None
    shapes = (step.before[0], step.before[2])
    operand, updates = (
        reaching.whole(reaching.nowhere(len(shape)) if reach is None else reach, shape)
        for reach, shape in zip((step.inputs[0], step.inputs[2]), shapes, strict=True)
    )
    limit = 2**30
    found = []
    with jax.ensure_compile_time_eval():
        for number, (into, added) in enumerate(
            zip(reaching.bounds_of(operand), reaching.bounds_of(updates), strict=True)
        ):
            scatter = lax.scatter_max if number % 2 else lax.scatter_min
            into, added = (jnp.asarray(bound.clip(-limit, limit), jnp.int32) for bound in (into, added))
            bound = np.asarray(_scatter(scatter, into, jnp.asarray(indices), added, step.params)).astype(int)
            bound = np.where(abs(bound) == limit, np.sign(bound) * reaching.NOWHERE, bound)
            found.append(reaching.compress(bound, keep=None))
    stride = next((reach.stride for reach in step.present if reach.stride is not None), None)
    return [rearranging.along(Reach(*found, axis=None, stride=None), stride)]


def _scatter(scatter: Callable, operand: Any, indices: Any, updates: Any, params: Any) -> Any:
    return scatter(
        operand,
        indices,
        updates,
        params["dimension_numbers"],
        indices_are_sorted=params["indices_are_sorted"],
        unique_indices=params["unique_indices"],
        mode=params["mode"],
    )
