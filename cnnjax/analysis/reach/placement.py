"""Elements that are taken from, or put into, places known beforehand: gathers, scatters, slices with a start."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnjax.analysis.reach import intervals, rearranging
from cnnjax.analysis.reach.case import Case
from cnnjax.analysis.reach.intervals import Reach

# Which inputs move, by primitive; the others say where to.
MOVED = {"gather": (0,), "dynamic_slice": (0,), "dynamic_update_slice": (0, 1), "scatter": (0, 2), "tile": (0,)}


def move(case: Case) -> list[Reach] | None:
    """Elements that change places: the same is done to their numbers, and tells where each comes from."""
    arrays, counted, sources = [], 0, []
    for number, (reach, shape) in enumerate(zip(case.inputs, case.before, strict=True)):
        if number in MOVED[case.equation.primitive]:
            size = math.prod(shape)
            arrays.append(jnp.arange(counted, counted + size, dtype=jnp.int32).reshape(shape))
            sources.append((reach, shape))
            counted += size
        elif reach is not None or (known := case.constant(number)) is None:
            return None  # where elements go is decided by the image, or not known
        else:
            arrays.append(jnp.asarray(known))
    with jax.ensure_compile_time_eval():
        origin = np.asarray(_numbers(case, arrays))
    return [rearranging.moved([reach for reach, _ in sources], [shape for _, shape in sources], origin)]


def _numbers(case: Case, arrays: Sequence[Any]) -> Any:
    """The primitive on the numbers of elements, with -1 for what it fills in."""
    params = case.params
    match case.equation.primitive:
        case "gather":
            return lax.gather_p.bind(*arrays, **{**params, "fill_value": -1})
        case "scatter":
            operand, indices, updates = arrays
            return _scatter(lax.scatter, operand, indices, updates, params)
    (result,) = case.equation.operation(*arrays)
    return result


def scatter_combined(case: Case) -> list[Reach] | None:
    """What is added into places is seen from there, beside what was there."""
    if case.inputs[1] is not None or (indices := case.constant(1)) is None:
        return None
    shapes = (case.before[0], case.before[2])
    operand, updates = (
        intervals.whole(intervals.nowhere(len(shape)) if reach is None else reach, shape)
        for reach, shape in zip((case.inputs[0], case.inputs[2]), shapes, strict=True)
    )
    limit = 2**30
    found = []
    with jax.ensure_compile_time_eval():
        for number, (into, added) in enumerate(
            zip(intervals.bounds_of(operand), intervals.bounds_of(updates), strict=True)
        ):
            scatter = lax.scatter_max if number % 2 else lax.scatter_min
            into, added = (jnp.asarray(bound.clip(-limit, limit), jnp.int32) for bound in (into, added))
            bound = np.asarray(_scatter(scatter, into, jnp.asarray(indices), added, case.params)).astype(int)
            bound = np.where(abs(bound) == limit, np.sign(bound) * intervals.NOWHERE, bound)
            found.append(intervals.compress(bound, keep=None))
    stride = next((reach.stride for reach in case.present if reach.stride is not None), None)
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
