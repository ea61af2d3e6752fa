r"""Correlation as one product of three factors, and the primitive whose every derivative is itself.

$$T(x, w, y) = \sum_{n, p, t, c, k} x[n, p s + t d - P, c] \, w[t, c, k] \, y[n, p, k]$$

is linear in the images x, in the kernel w and in the output's cotangent y. Leaving one factor out gives the three
operations of a convolutional layer: without y the correlation itself, without x its adjoint with respect to the
images, without w its adjoint with respect to the kernel. The derivative of each with respect to either operand is
another of the three, so one primitive, told which factor is its result, carries derivatives of every order and mode.

It is lowered to `lax.conv_general_dilated` and that operation's own transposes, on a CPU by the methods of `cpu`.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad, batching

from cnnjax.functional import primitives
from cnnjax.functional.correlation import Correlation, Factor, reference_product, result_shape
from cnnjax.functional.cpu.product import cpu_product

_FACTORS: tuple[Factor, ...] = ("images", "kernel", "output")


def product(result: Factor, first: jax.Array, second: jax.Array, form: Correlation) -> jax.Array:
    """The factor `result` from the two others, in the order images, kernel, output."""
    first, second = primitives.vary_alike(first, second)
    return _correlation.bind(first, second, result=result, form=form)


_correlation = primitives.define(
    "correlation",
    reference_product,
    cpu=cpu_product,
    portable_cpu=partial(cpu_product, portable=True),
    partitioned_cpu=partial(cpu_product, portable=True, partitioned=True),
)


@_correlation.def_abstract_eval
def _type(first: Any, second: Any, *, result: Factor, form: Correlation) -> Any:
    return primitives.like(first, result_shape(result, first, second, form))


def _transpose(
    operand: int, cotangent: jax.Array, first: Any, second: Any, *, result: Factor, form: Correlation
) -> Any:
    """The cotangent of one operand: the product whose result it is, of the other operand and the result's cotangent."""
    operands = [factor for factor in _FACTORS if factor != result]
    known = {result: cotangent, operands[1 - operand]: (first, second)[1 - operand]}
    one, other = (known[factor] for factor in _FACTORS if factor in known)
    return product(operands[operand], one, other, form)


def _batch(arrays: Any, dims: Any, *, result: Factor, form: Correlation) -> tuple[jax.Array, int]:
    """Folds the mapped axis into the axis that the mapped factors share: batch, channels or, for all three, groups."""
    operands = [factor for factor in _FACTORS if factor != result]
    mapped = {result, *(factor for factor, dim in zip(operands, dims, strict=True) if dim is not None)}
    (size,) = {array.shape[dim] for array, dim in zip(arrays, dims, strict=True) if dim is not None}
    if not size:
        one, other = (
            array if dim is None else jnp.zeros(np.delete(array.shape, dim), array.dtype)
            for array, dim in zip(arrays, dims, strict=True)
        )
        return jnp.zeros((0, *result_shape(result, one, other, form)), one.dtype), 0
    folded = [
        array if dim is None else _fold(jnp.moveaxis(array, dim, 0), *_shared_axis(factor, mapped, form.groups))
        for factor, array, dim in zip(operands, arrays, dims, strict=True)
    ]
    grouped = replace(form, groups=form.groups * size) if len(mapped) == 3 else form
    outcome = product(result, folded[0], folded[1], grouped)
    return _unfold(outcome, size, *_shared_axis(result, mapped, form.groups)), 0


def _shared_axis(factor: Factor, mapped: set[Factor], groups: int) -> tuple[int, int]:
    """The axis of a factor that the mapped axis joins, and into how many runs that axis falls before it."""
    if len(mapped) == 3:
        return -1, 1
    if mapped == {"images", "output"}:
        return 0, 1
    if mapped == {"images", "kernel"}:
        return (-1, groups) if factor == "images" else (-2, 1)
    return -1, groups


def _fold(array: jax.Array, axis: int, runs: int) -> jax.Array:
    """Merges the leading axis into another: between its runs and what each run holds."""
    size, *shape = array.shape
    axis %= len(shape)
    split = array.reshape(size, *shape[:axis], runs, shape[axis] // runs, *shape[axis + 1 :])
    shape[axis] *= size
    return jnp.moveaxis(split, 0, axis + 1).reshape(shape)


def _unfold(array: jax.Array, size: int, axis: int, runs: int) -> jax.Array:
    """The inverse of `_fold`."""
    shape = list(array.shape)
    axis %= len(shape)
    shape[axis] //= size
    split = array.reshape(*shape[:axis], runs, size, shape[axis] // runs, *shape[axis + 1 :])
    return jnp.moveaxis(split, axis + 1, 0).reshape(size, *shape)


ad.defbilinear(_correlation, partial(_transpose, 0), partial(_transpose, 1))
batching.primitive_batchers[_correlation] = _batch
