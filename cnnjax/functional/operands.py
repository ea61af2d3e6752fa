"""What losses are called with: the checks at the door, and the arrays as they compute on them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from cnnjax.functional.precision import at_least_float32, require_floating

# A logit so low that no sum of exponentials knows it, and far from overflow.
BARRED = -1e30

# How far a tag may lie outside [0, 1]: mixing labels in half precision rounds to 1.0078.
_ROUNDING = 0.01


def require_shape(name: str, array: jax.Array, expected: Sequence[int], meaning: str) -> None:
    """Raises ValueError unless the array has the expected shape."""
    if array.shape != tuple(expected):
        raise ValueError(f"{name}: shape {array.shape} came, {tuple(expected)} was expected: {meaning}")


def require_mask(where: jax.Array | None, shape: Sequence[int], meaning: str = "a flag per example") -> None:
    """Raises ValueError unless the mask is None, or booleans of that shape."""
    if where is not None:
        where = jnp.asarray(where)
        require_shape("where", where, shape, meaning)
        if where.dtype != bool:
            raise ValueError(f"where: {where.dtype} came, bool was expected; compare first, as in where=count > 0")


def masked(array: jax.Array, where: jax.Array | None) -> jax.Array:
    """The array, with zeros where the mask, whose axes are the array's first, is False.

    Applied to what a loss reads as well as to what it returns, so that no NaN gets into the gradient.
    """
    if where is None:
        return array
    where = jnp.asarray(where)
    return jnp.where(where.reshape(*where.shape, *(1,) * (array.ndim - where.ndim)), array, jnp.zeros_like(array))


def in_float32(outputs: jax.Array, rank: int, expected: str) -> jax.Array:
    """A model's outputs in float32 or float64.

    Raises:
        ValueError: they are not floating point, have less than `rank` axes, or nothing on the last one.
    """
    outputs = jnp.asarray(outputs)
    require_floating("outputs", outputs)
    if outputs.ndim < rank or not outputs.shape[-1]:
        raise ValueError(f"outputs: shape {outputs.shape} came, {expected} was expected")
    return outputs.astype(at_least_float32(outputs.dtype))


def check_regression(outputs: jax.Array, targets: jax.Array, where: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Outputs and targets of one shape and type, examples first, zero where the mask is False.

    Raises:
        ValueError: the shapes differ, outputs are not floating point, or the mask is not one flag per example.
    """
    outputs = in_float32(outputs, 1, "(*batch, features)")
    targets = jnp.asarray(targets)
    require_shape("targets", targets, outputs.shape, "that of outputs")
    require_mask(where, outputs.shape[:-1])
    return masked(outputs, where), masked(targets.astype(outputs.dtype), where)


def check_tags(outputs: jax.Array, targets: jax.Array, where: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """`check_regression`, for targets in [0, 1]: others become NaN, except that what rounding added is clipped."""
    outputs, targets = check_regression(outputs, targets, where)
    known = (targets >= -_ROUNDING) & (targets <= 1 + _ROUNDING)
    return outputs, jnp.where(known, jnp.clip(targets, 0.0, 1.0), jnp.nan)


def check_classes(outputs: jax.Array, targets: jax.Array, where: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Logits and a distribution over the classes, examples first; both zero, or class 0, where the mask is False.

    Raises:
        ValueError: fewer than two classes, or as `check_regression` and `as_distribution`.
    """
    outputs = in_float32(outputs, 1, "(*batch, classes)")
    if outputs.shape[-1] < 2:
        raise ValueError(
            f"outputs: shape {outputs.shape} came, two classes or more were expected on the last axis;"
            " one logit alone is for the sigmoid losses"
        )
    require_mask(where, outputs.shape[:-1])
    return masked(outputs, where), as_distribution(targets, outputs.shape, outputs.dtype, where)


def bounded(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Finite logits of the same softmax, and which classes have no chance in it.

    A logit of minus infinity bars its class, one of plus infinity all others. Their derivatives are zero.
    """
    sure = jnp.isposinf(logits)
    barred = jnp.isneginf(logits) | (jnp.any(sure, axis=-1, keepdims=True) & ~sure)
    return jnp.where(barred, BARRED, jnp.where(sure, 0.0, logits)), barred


def unlimited(share: jax.Array) -> jax.Array:
    """The cost of a target with so much of what has no chance: infinite, unless that is zero; NaN stays."""
    return jnp.where(share > 0, jnp.inf, 0.0 * share)


def as_distribution(targets: jax.Array, shape: Sequence[int], dtype: DTypeLike, where: jax.Array | None) -> jax.Array:
    """A distribution over classes from itself or from integers; what is none, or names no class, becomes NaN.

    Raises:
        ValueError: integers that are not one per example, other types that are not floating point, or
            distributions of another shape.
    """
    targets = jnp.asarray(targets)
    *batch, classes = shape
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        require_floating("targets", targets)
        if targets.shape == tuple(batch):
            raise ValueError(
                f"targets: {targets.dtype} of shape {targets.shape} came; expected classes as integers, such as"
                f" targets.astype(jnp.int32), or a distribution over the {classes} classes for each, {tuple(shape)}"
            )
        require_shape("targets", targets, shape, f"a distribution over classes for each; or integers of {tuple(batch)}")
        targets = masked(targets.astype(dtype), where)
        # All zeros where masked; elsewhere each at least zero and together one, but for rounding.
        shares = jnp.all(targets >= -_ROUNDING, -1) & (jnp.abs(jnp.sum(targets, -1) - 1) <= _ROUNDING)
        known = shares if where is None else shares | ~where
        return jnp.where(known[..., None], targets, jnp.nan)
    require_shape("targets", targets, batch, f"a class for each; or, in floating point, distributions {tuple(shape)}")
    # In a byte, one_hot would count the classes modulo 256.
    labels = masked(targets if targets.dtype.itemsize >= 4 else targets.astype(jnp.int32), where)
    known = (labels >= 0) & (labels < classes)
    return jnp.where(known[..., None], jax.nn.one_hot(labels, classes, dtype=dtype), jnp.nan)
