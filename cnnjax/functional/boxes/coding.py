"""Boxes as offsets from reference boxes, which detectors learn, and back."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.functional.boxes.coordinates import Boxes, as_coordinates, to_centre
from cnnjax.functional.operands import require_shape

# The largest logarithm of a ratio of sides that torchvision, detectron2 and scenic decode: that of 1000 / 16.
LARGEST_LOG_RATIO = math.log(1000 / 16)


def encode(boxes: Boxes, anchors: Boxes, *, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Boxes:
    r"""Offsets of centre and size from reference boxes, box by box.

    $$t = \left(w_x \frac{x - x_a}{W_a}, \; w_y \frac{y - y_a}{H_a}, \; w_w \log \frac{W}{W_a}, \;
    w_h \log \frac{H}{H_a}\right)$$

    with the centres (x, y), widths W and heights H of boxes and anchors. Offsets of a box, or to an anchor, without
    area are not finite: leave them out by a mask before they are encoded.

    Args:
        boxes: what is to be found.
        anchors: the reference boxes, of the boxes' shape.
        weights: (1, 1, 1, 1) in region proposal networks and R-CNN; (10, 10, 5, 5) in SSD, whose "variances" are 0.1
            and 0.2, and in the heads of Fast, Faster and Mask R-CNN.

    Returns:
        The offsets, of the boxes' shape.

    Raises:
        ValueError: the shapes differ, `weights` are not four positive numbers, or as `area`.

    Reference: Girshick et al. (2014), "Rich Feature Hierarchies", appendix C, equations 6 to 9.

    >>> encode(jnp.asarray([2.0, 0.0, 6.0, 4.0]), jnp.asarray([0.0, 0.0, 4.0, 4.0])).tolist()
    [0.5, 0.0, 0.0, 0.0]
    """
    boxes, anchors = as_coordinates("boxes", boxes), as_coordinates("anchors", anchors)
    require_shape("anchors", anchors, boxes.shape, "that of boxes")
    ours, theirs = to_centre(boxes), to_centre(anchors.astype(boxes.dtype))
    shift = (ours[..., :2] - theirs[..., :2]) / theirs[..., 2:]
    growth = jnp.log(ours[..., 2:] / theirs[..., 2:])
    return jnp.concatenate([shift, growth], axis=-1) * _weights(weights, boxes)


def decode(
    offsets: Boxes,
    anchors: Boxes,
    *,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    largest_log_ratio: float | None = LARGEST_LOG_RATIO,
) -> Boxes:
    r"""The boxes that offsets from reference boxes mean: the inverse of `encode`.

    $$x = x_a + t_x W_a / w_x, \qquad W = W_a \exp(\min(t_w / w_w, c))$$

    and y and H alike.

    Args:
        offsets: what `encode` gives, or a net.
        anchors: the reference boxes, of the offsets' shape.
        weights: those of `encode`.
        largest_log_ratio: the limit c, which keeps sizes finite: log(1000 / 16) as in torchvision and detectron2, or
            None for no limit, as in the Caffe versions of SSD and Faster R-CNN.

    Returns:
        Boxes, of the offsets' shape.

    Raises:
        ValueError: as `encode`.

    Reference: Girshick et al. (2014), "Rich Feature Hierarchies", appendix C, equations 1 to 4.

    >>> decode(jnp.asarray([0.5, 0.0, 0.0, 0.0]), jnp.asarray([0.0, 0.0, 4.0, 4.0])).tolist()
    [2.0, 0.0, 6.0, 4.0]
    """
    offsets, anchors = as_coordinates("offsets", offsets), as_coordinates("anchors", anchors)
    require_shape("anchors", anchors, offsets.shape, "that of offsets")
    offsets = offsets / _weights(weights, offsets)
    theirs = to_centre(anchors.astype(offsets.dtype))
    growth = offsets[..., 2:]
    if largest_log_ratio is not None:
        growth = jnp.minimum(growth, largest_log_ratio)
    centre = theirs[..., :2] + offsets[..., :2] * theirs[..., 2:]
    half = 0.5 * theirs[..., 2:] * jnp.exp(growth)
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def _weights(weights: Sequence[float], boxes: Float[Array, "*batch 4"]) -> jax.Array:
    if len(weights) != 4 or not min(weights) > 0:
        raise ValueError(f"weights={tuple(weights)}; expected four positive numbers: of x, y, width and height")
    return jnp.asarray(weights, boxes.dtype).reshape((1,) * (boxes.ndim - 1) + (4,))
