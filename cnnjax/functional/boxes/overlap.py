"""Overlaps of boxes: intersection over union, and what generalises it, box by box or every pair.

A box whose maximum lies below its minimum is empty, as is one of area zero. Overlaps of empty boxes, and their
gradients, are finite; those of boxes with a NaN are NaN.

In float32, sides (of an enclosing box too) up to 1e19 units have areas that do not overflow, and up to 1e9 the squares
of areas that gradients divide by. Areas below 1.1e-19, those of squares below 3.3e-10, count as empty. In float64, in
which boxes of that type are computed, the limits are 1e153, 1e76, 1.5e-154 and 1.2e-77.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.functional.boxes.coordinates import as_coordinates, as_rows, spanned
from cnnjax.functional.operands import require_shape


def iou(boxes: Float[Array, "*batch 4"], others: Float[Array, "*batch 4"]) -> Float[Array, "*batch"]:
    r"""How much of what two boxes cover together both cover, box by box: 0 where they are apart, 1 where they agree.

    $$\mathrm{IoU} = |A \cap B| \, / \, |A \cup B|$$

    Zero where both are empty, NaN where a coordinate is.

    Raises:
        ValueError: the shapes differ, the last axis is not 4, or the boxes are not floating point.

    Reference: Rezatofighi et al. (2019), "Generalized Intersection over Union", equation 1.

    >>> iou(jnp.asarray([0.0, 0.0, 2.0, 2.0]), jnp.asarray([0.0, 1.0, 2.0, 2.0])).item()
    0.5
    """
    return _overlap(*_pair(boxes, others))


def giou(boxes: Float[Array, "*batch 4"], others: Float[Array, "*batch 4"]) -> Float[Array, "*batch"]:
    r"""IoU less the share of the smallest enclosing box C that neither covers: from -1, far apart, to 1, box by box.

    $$\mathrm{GIoU} = \mathrm{IoU} - (|C| - |A \cup B|) \, / \, |C|$$

    Zero where C is empty, NaN where a coordinate is.

    Raises:
        ValueError: as `iou`.

    Reference: Rezatofighi et al. (2019), "Generalized Intersection over Union", algorithm 1.

    >>> giou(jnp.asarray([0.0, 0.0, 1.0, 1.0]), jnp.asarray([3.0, 0.0, 4.0, 1.0])).item()
    -0.5
    """
    return _generalized_overlap(*_pair(boxes, others))


def diou(boxes: Float[Array, "*batch 4"], others: Float[Array, "*batch 4"]) -> Float[Array, "*batch"]:
    r"""IoU less the squared distance of the centres, as a share of the enclosing box's squared diagonal.

    $$\mathrm{DIoU} = \mathrm{IoU} - d^2 / c^2$$

    From -1, far apart, to 1. The last term is zero where both boxes are one point.

    Raises:
        ValueError: as `iou`.

    Reference: Zheng et al. (2020), "Distance-IoU Loss", equation 6.

    >>> round(diou(jnp.asarray([0.0, 0.0, 2.0, 2.0]), jnp.asarray([0.0, 2.0, 2.0, 4.0])).item(), 4)
    -0.2
    """
    boxes, others = _pair(boxes, others)
    return _overlap(boxes, others) - _distance(boxes, others)


def ciou(boxes: Float[Array, "*batch 4"], others: Float[Array, "*batch 4"]) -> Float[Array, "*batch"]:
    r"""DIoU less how different the ratios of the sides are, which counts where the boxes overlap.

    $$\mathrm{CIoU} = \mathrm{DIoU} - \alpha v, \qquad
    v = \frac{4}{\pi^2} \left(\arctan \frac{w_b}{h_b} - \arctan \frac{w_a}{h_a}\right)^2, \qquad
    \alpha = \frac{v}{1 - \mathrm{IoU} + v}$$

    As in the paper, no gradient goes through $\alpha$. A box without a height counts as infinitely wide.

    Raises:
        ValueError: as `iou`.

    Reference: Zheng et al. (2020), "Distance-IoU Loss", equations 8 to 11.
    """
    boxes, others = _pair(boxes, others)
    overlap = _overlap(boxes, others)
    difference = 4 / math.pi**2 * jnp.square(_angle(others) - _angle(boxes))
    apart = 1 - overlap + difference
    weight = jax.lax.stop_gradient(jnp.where(apart > 0, difference / jnp.where(apart > 0, apart, 1.0), 0.0))
    return overlap - _distance(boxes, others) - weight * difference


def pairwise_iou(boxes: Float[Array, "n 4"], others: Float[Array, "m 4"]) -> Float[Array, "n m"]:
    """`iou` of every box with every other.

    Raises:
        ValueError: the boxes are not rows of 4 coordinates in floating point.
    """
    return _overlap(*_every_pair(boxes, others))


def pairwise_giou(boxes: Float[Array, "n 4"], others: Float[Array, "m 4"]) -> Float[Array, "n m"]:
    """`giou` of every box with every other.

    Raises:
        ValueError: the boxes are not rows of 4 coordinates in floating point.
    """
    return _generalized_overlap(*_every_pair(boxes, others))


def _pair(boxes: jax.Array, others: jax.Array) -> tuple[jax.Array, jax.Array]:
    boxes, others = as_coordinates("boxes", boxes), as_coordinates("others", others)
    require_shape("others", others, boxes.shape, "that of boxes; for every pair there are the pairwise functions")
    return boxes, others.astype(boxes.dtype)


def _every_pair(boxes: jax.Array, others: jax.Array) -> tuple[jax.Array, jax.Array]:
    boxes, others = as_rows("boxes", boxes), as_rows("others", others)
    return boxes[:, None], others[None].astype(boxes.dtype)


def _intersection_and_union(boxes: jax.Array, others: jax.Array) -> tuple[jax.Array, jax.Array]:
    common = spanned(jnp.maximum(boxes[..., :2], others[..., :2]), jnp.minimum(boxes[..., 2:], others[..., 2:]))
    return common, spanned(boxes[..., :2], boxes[..., 2:]) + spanned(others[..., :2], others[..., 2:]) - common


def _overlap(boxes: jax.Array, others: jax.Array) -> jax.Array:
    return _share(*_intersection_and_union(boxes, others))


def _generalized_overlap(boxes: jax.Array, others: jax.Array) -> jax.Array:
    common, union = _intersection_and_union(boxes, others)
    enclosing = spanned(*_hull(boxes, others))
    return _share(common, union) - _share(enclosing - union, enclosing)


def _distance(boxes: jax.Array, others: jax.Array) -> jax.Array:
    """The squared distance of the centres over the squared diagonal of what encloses both."""
    between = 0.5 * (boxes[..., :2] + boxes[..., 2:] - others[..., :2] - others[..., 2:])
    low, high = _hull(boxes, others)
    return _share(jnp.sum(jnp.square(between), -1), jnp.sum(jnp.square(high - low), -1))


def _angle(boxes: jax.Array) -> jax.Array:
    """The arc tangent of width over height; pi / 2 where there is no height, zero where there is no width either."""
    width, height = jnp.moveaxis(jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), -1, 0)
    point = (width == 0) & (height == 0)
    return jnp.arctan2(width, jnp.where(point, jnp.ones_like(height), height))


def _hull(boxes: jax.Array, others: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The corners of the smallest box around two, over all four corners: those of an empty one may be inverted."""
    low = jnp.minimum(*(jnp.minimum(corners[..., :2], corners[..., 2:]) for corners in (boxes, others)))
    high = jnp.maximum(*(jnp.maximum(corners[..., :2], corners[..., 2:]) for corners in (boxes, others)))
    return low, high


def _share(part: jax.Array, whole: jax.Array) -> jax.Array:
    """Part over whole, and zero where the whole is empty, or so small that the gradient, 1 / whole^2, overflows."""
    # Not by what is larger: a NaN is neither, and has to come through.
    none = whole <= jnp.sqrt(jnp.finfo(whole.dtype).tiny)
    return jnp.where(none, jnp.zeros_like(whole), part / jnp.where(none, jnp.ones_like(whole), whole))
