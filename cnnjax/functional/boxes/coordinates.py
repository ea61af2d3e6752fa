"""Coordinates of boxes: the one convention inside, converters to and from the others, clipping, validity, area.

Inside, a box is `(x_min, y_min, x_max, y_max)`, floating point and continuous: the pixel in column i and row j covers i
to i + 1 and j to j + 1, and a width is x_max - x_min.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnnjax.functional.precision import at_least_float32, require_floating

Boxes = Float[Array, "*batch 4"]


def area(boxes: Boxes) -> Float[Array, "*batch"]:
    """Width times height, in squared units of the coordinates; zero for empty boxes.

    Raises:
        ValueError: the boxes are not floating point, or the last axis is not 4.

    >>> area(jnp.asarray([[0.0, 0.0, 4.0, 3.0], [2.0, 2.0, 1.0, 5.0]])).tolist()
    [12.0, 0.0]
    """
    boxes = as_coordinates("boxes", boxes)
    return spanned(boxes[..., :2], boxes[..., 2:])


def is_valid(boxes: Boxes, *, smallest: float = 0.0) -> Bool[Array, "*batch"]:
    """Whether all four numbers are finite and both sides are above zero and at least `smallest`.

    Raises:
        ValueError: `smallest` is negative, or as `area`.

    >>> is_valid(jnp.asarray([[0.0, 0.0, 4.0, 3.0], [2.0, 2.0, 1.0, 5.0], [0.0, 0.0, 4.0, jnp.nan]])).tolist()
    [True, False, False]
    """
    if not smallest >= 0:
        raise ValueError(f"smallest={smallest}; expected zero or more, in the units of the coordinates")
    boxes = as_coordinates("boxes", boxes)
    sides = boxes[..., 2:] - boxes[..., :2]
    return jnp.all(jnp.isfinite(boxes), axis=-1) & jnp.all((sides > 0) & (sides >= smallest), axis=-1)


def clip(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    """The part of each box that lies in a picture of the height and width `size`; of boxes outside, no area remains.

    Raises:
        ValueError: `size` is not two positive numbers, or as `area`.

    >>> clip(jnp.asarray([-3.0, 2.0, 9.0, 20.0]), (10, 8)).tolist()
    [0.0, 2.0, 8.0, 10.0]
    """
    boxes = as_coordinates("boxes", boxes)
    return jnp.clip(boxes, 0.0, _corners(size, boxes))


def from_xywh(boxes: Boxes) -> Boxes:
    """From `(x_min, y_min, width, height)`, as COCO writes boxes.

    Raises:
        ValueError: as `area`.

    >>> from_xywh(jnp.asarray([1.0, 2.0, 3.0, 4.0])).tolist()
    [1.0, 2.0, 4.0, 6.0]
    """
    boxes = as_coordinates("boxes", boxes)
    return jnp.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def to_xywh(boxes: Boxes) -> Boxes:
    """To `(x_min, y_min, width, height)`, as COCO writes boxes.

    Raises:
        ValueError: as `area`.
    """
    boxes = as_coordinates("boxes", boxes)
    return jnp.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def from_centre(boxes: Boxes) -> Boxes:
    """From `(x_centre, y_centre, width, height)`, as SSD and YOLO write boxes (elsewhere "cxcywh").

    Raises:
        ValueError: as `area`.

    >>> from_centre(jnp.asarray([3.0, 4.0, 2.0, 6.0])).tolist()
    [2.0, 1.0, 4.0, 7.0]
    """
    boxes = as_coordinates("boxes", boxes)
    half = 0.5 * boxes[..., 2:]
    return jnp.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def to_centre(boxes: Boxes) -> Boxes:
    """To `(x_centre, y_centre, width, height)`, as SSD and YOLO write boxes (elsewhere "cxcywh").

    Raises:
        ValueError: as `area`.
    """
    boxes = as_coordinates("boxes", boxes)
    centre = 0.5 * (boxes[..., :2] + boxes[..., 2:])
    return jnp.concatenate([centre, boxes[..., 2:] - boxes[..., :2]], axis=-1)


def from_voc(boxes: Boxes) -> Boxes:
    """From Pascal VOC's `(x_min, y_min, x_max, y_max)`: pixels that count from 1, the last one inside the box.

    Raises:
        ValueError: as `area`.

    >>> from_voc(jnp.asarray([1.0, 1.0, 10.0, 20.0])).tolist()
    [0.0, 0.0, 10.0, 20.0]
    """
    boxes = as_coordinates("boxes", boxes)
    return boxes - jnp.asarray([1, 1, 0, 0], boxes.dtype).reshape((1,) * (boxes.ndim - 1) + (4,))


def to_voc(boxes: Boxes) -> Boxes:
    """To Pascal VOC's `(x_min, y_min, x_max, y_max)`: pixels that count from 1, the last one inside the box.

    Raises:
        ValueError: as `area`.
    """
    boxes = as_coordinates("boxes", boxes)
    return boxes + jnp.asarray([1, 1, 0, 0], boxes.dtype).reshape((1,) * (boxes.ndim - 1) + (4,))


def from_relative(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    """From shares of the picture's width and height to pixels; `size` is height and width.

    It scales boxes of any convention, corners or centres.

    Raises:
        ValueError: `size` is not two positive numbers, or as `area`.

    >>> from_relative(jnp.asarray([0.5, 0.25, 1.0, 0.5]), (80, 200)).tolist()
    [100.0, 20.0, 200.0, 40.0]
    """
    boxes = as_coordinates("boxes", boxes)
    return boxes * _corners(size, boxes)


def to_relative(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    """From pixels to shares of the picture's width and height; `size` is height and width.

    Raises:
        ValueError: `size` is not two positive numbers, or as `area`.
    """
    boxes = as_coordinates("boxes", boxes)
    return boxes / _corners(size, boxes)


def as_coordinates(name: str, boxes: jax.Array) -> jax.Array:
    """The boxes in float32 or float64.

    Raises:
        ValueError: they are not floating point, or their last axis is not 4; the message calls them `name`.
    """
    boxes = jnp.asarray(boxes)
    require_floating(name, boxes)
    if boxes.shape[-1:] != (4,):
        raise ValueError(f"{name}: shape {boxes.shape} came, (*batch, 4) was expected: x_min, y_min, x_max, y_max")
    return boxes.astype(at_least_float32(boxes.dtype))


def as_rows(name: str, boxes: jax.Array) -> jax.Array:
    """Rows of boxes, as `as_coordinates`.

    Raises:
        ValueError: they have not two axes, or as `as_coordinates`.
    """
    boxes = as_coordinates(name, boxes)
    if boxes.ndim != 2:
        raise ValueError(f"{name}: shape {boxes.shape} came, (number, 4) was expected; map over more axes with vmap")
    return boxes


def spanned(low: jax.Array, high: jax.Array) -> jax.Array:
    """The area between lower and upper corners, zero where they are in the wrong order."""
    span = jnp.maximum(high - low, 0.0)
    return span[..., 0] * span[..., 1]


def _corners(size: tuple[int, int], boxes: jax.Array) -> jax.Array:
    """Width, height, width, height, with as many axes as the boxes."""
    if len(size) != 2 or min(size) <= 0:
        raise ValueError(f"size={size}; expected the height and the width of the picture, both above zero")
    height, width = size
    return jnp.asarray([width, height, width, height], boxes.dtype).reshape((1,) * (boxes.ndim - 1) + (4,))
