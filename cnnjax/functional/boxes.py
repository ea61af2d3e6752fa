"""Axis-aligned boxes `(x_min, y_min, x_max, y_max)`: areas and overlaps.

A box whose maximum lies below its minimum is empty, as is one of area zero. Overlaps of empty boxes, and their
gradients, are finite; those of boxes with a NaN are NaN.

In float32, sides (of an enclosing box too) up to 1e19 units have areas that do not overflow, and up to 1e9 the squares
of areas that gradients divide by. Areas below 1.1e-19, those of squares below 3.3e-10, count as empty. In float64, in
which boxes of that type are computed, the limits are 1e153, 1e76, 1.5e-154 and 1.2e-77.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.functional.operands import require_shape
from cnnjax.functional.precision import at_least_float32, require_floating


def area(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch"]:
    """Width times height, in squared units of the coordinates; zero for empty boxes.

    Raises:
        ValueError: the boxes are not floating point, or the last axis is not 4.

    >>> area(jnp.asarray([[0.0, 0.0, 4.0, 3.0], [2.0, 2.0, 1.0, 5.0]])).tolist()
    [12.0, 0.0]
    """
    boxes = _coordinates("boxes", boxes)
    return _area(boxes[..., :2], boxes[..., 2:])


def intersection_over_union(
    boxes: Float[Array, "*batch 4"], others: Float[Array, "*batch 4"]
) -> Float[Array, "*batch"]:
    r"""How much of what two boxes cover together both cover, box by box: 0 where they are apart, 1 where they agree.

    $$\mathrm{IoU} = |A \cap B| \, / \, |A \cup B|$$

    Zero where both are empty, NaN where a coordinate is.

    Raises:
        ValueError: the shapes differ, the last axis is not 4, or the boxes are not floating point.

    Reference: Rezatofighi et al. (2019), "Generalized Intersection over Union", equation 1.

    >>> intersection_over_union(jnp.asarray([0.0, 0.0, 2.0, 2.0]), jnp.asarray([0.0, 1.0, 2.0, 2.0])).item()
    0.5
    """
    return _overlap(*_pair(boxes, others))


def generalized_intersection_over_union(
    boxes: Float[Array, "*batch 4"], others: Float[Array, "*batch 4"]
) -> Float[Array, "*batch"]:
    r"""IoU less the share of the smallest enclosing box C that neither covers: from -1, far apart, to 1, box by box.

    $$\mathrm{GIoU} = \mathrm{IoU} - (|C| - |A \cup B|) \, / \, |C|$$

    Zero where C is empty, NaN where a coordinate is.

    Raises:
        ValueError: as `intersection_over_union`.

    Reference: Rezatofighi et al. (2019), "Generalized Intersection over Union", algorithm 1.

    >>> generalized_intersection_over_union(jnp.asarray([0.0, 0.0, 1.0, 1.0]), jnp.asarray([3.0, 0.0, 4.0, 1.0])).item()
    -0.5
    """
    return _generalized_overlap(*_pair(boxes, others))


def pairwise_intersection_over_union(boxes: Float[Array, "n 4"], others: Float[Array, "m 4"]) -> Float[Array, "n m"]:
    """`intersection_over_union` of every box with every other.

    Raises:
        ValueError: the boxes are not rows of 4 coordinates in floating point.
    """
    return _overlap(*_every_pair(boxes, others))


def pairwise_generalized_intersection_over_union(
    boxes: Float[Array, "n 4"], others: Float[Array, "m 4"]
) -> Float[Array, "n m"]:
    """`generalized_intersection_over_union` of every box with every other.

    Raises:
        ValueError: the boxes are not rows of 4 coordinates in floating point.
    """
    return _generalized_overlap(*_every_pair(boxes, others))


def _coordinates(name: str, boxes: jax.Array) -> jax.Array:
    boxes = jnp.asarray(boxes)
    require_floating(name, boxes)
    if boxes.shape[-1:] != (4,):
        raise ValueError(f"{name}: shape {boxes.shape} came, (*batch, 4) was expected: x_min, y_min, x_max, y_max")
    return boxes.astype(at_least_float32(boxes.dtype))


def _pair(boxes: jax.Array, others: jax.Array) -> tuple[jax.Array, jax.Array]:
    boxes, others = _coordinates("boxes", boxes), _coordinates("others", others)
    require_shape("others", others, boxes.shape, "that of boxes; for every pair there are the pairwise functions")
    return boxes, others.astype(boxes.dtype)


def _every_pair(boxes: jax.Array, others: jax.Array) -> tuple[jax.Array, jax.Array]:
    boxes, others = _coordinates("boxes", boxes), _coordinates("others", others)
    for name, rows in (("boxes", boxes), ("others", others)):
        if rows.ndim != 2:
            raise ValueError(f"{name}: shape {rows.shape} came, (number, 4) was expected; map over more axes with vmap")
    return boxes[:, None], others[None].astype(boxes.dtype)


def _area(low: jax.Array, high: jax.Array) -> jax.Array:
    span = jnp.maximum(high - low, 0.0)
    return span[..., 0] * span[..., 1]


def _intersection_and_union(boxes: jax.Array, others: jax.Array) -> tuple[jax.Array, jax.Array]:
    common = _area(jnp.maximum(boxes[..., :2], others[..., :2]), jnp.minimum(boxes[..., 2:], others[..., 2:]))
    return common, _area(boxes[..., :2], boxes[..., 2:]) + _area(others[..., :2], others[..., 2:]) - common


def _overlap(boxes: jax.Array, others: jax.Array) -> jax.Array:
    return _share(*_intersection_and_union(boxes, others))


def _generalized_overlap(boxes: jax.Array, others: jax.Array) -> jax.Array:
    common, union = _intersection_and_union(boxes, others)
    # Over all four corners: those of an empty box may be in the wrong order.
    low = jnp.minimum(*(jnp.minimum(corners[..., :2], corners[..., 2:]) for corners in (boxes, others)))
    high = jnp.maximum(*(jnp.maximum(corners[..., :2], corners[..., 2:]) for corners in (boxes, others)))
    enclosing = _area(low, high)
    return _share(common, union) - _share(enclosing - union, enclosing)


def _share(part: jax.Array, whole: jax.Array) -> jax.Array:
    """Part over whole, and zero where the whole is empty, or so small that the gradient, 1 / whole^2, overflows."""
    # Not by what is larger: a NaN is neither, and has to come through.
    none = whole <= jnp.sqrt(jnp.finfo(whole.dtype).tiny)
    return jnp.where(none, jnp.zeros_like(whole), part / jnp.where(none, jnp.ones_like(whole), whole))
