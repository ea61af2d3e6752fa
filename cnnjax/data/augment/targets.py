"""Boxes, proposals, masks and key points that move with their pictures.

Coordinates are (x, y) in pixels from the picture's upper left corner: the pixel in column i and row j covers i to
i + 1 and j to j + 1, its centre is (i + 0.5, j + 0.5), and the box of the whole picture is (0, 0, width, height).
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from cnnjax.data.augment.draws import Images, Result

Points: TypeAlias = Float[Array, "batch n 2"]


class Targets(NamedTuple):
    """What of a label has a place in the picture; what a batch does not have is None.

    Attributes:
        boxes: (batch, n, 4), floating point, (x_min, y_min, x_max, y_max) in pixels. A moved box is the one around its
            four moved corners, cut at the picture's border; a box that is empty (and so padding), or is outside of
            the picture then, becomes (0, 0, 0, 0).
        masks: (batch, height, width) or (batch, height, width, n), of any type; sampled, never interpolated, and zero
            where there was no picture.
        keypoints: (batch, ..., 2), such as (batch, n, points, 2), floating point, (x, y) in pixels; they may leave the
            picture.
        present: (batch, n), whether there is an object for each box; False where a moved box is empty.
        proposals: (batch, m, 4), boxes in which something may be; they move as boxes do.
    """

    boxes: Float[Array, "batch n 4"] | None = None
    masks: Shaped[Array, "..."] | None = None
    keypoints: Float[Array, "batch *n 2"] | None = None
    present: Bool[Array, "batch n"] | None = None
    proposals: Float[Array, "batch m 4"] | None = None


def check_targets(targets: Targets | None, images: Images) -> None:
    """Raises ValueError unless the targets' shapes and types fit those of the images."""
    if targets is None:
        return
    batch, height, width, _ = images.shape
    for name, array, axis in (
        ("boxes", targets.boxes, 4),
        ("proposals", targets.proposals, 4),
        ("keypoints", targets.keypoints, 2),
    ):
        if array is None:
            continue
        deeper = name == "keypoints" and array.ndim > 3
        if (array.ndim != 3 and not deeper) or array.shape[0] != batch or array.shape[-1] != axis:
            raise ValueError(f"{name} have shape {array.shape}; expected ({batch}, n, {axis}) for {batch} images")
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name} are {array.dtype}; expected floating point: they move by parts of pixels")
    boxes, present = targets.boxes, targets.present
    if boxes is not None and present is not None and (present.dtype != bool or present.shape != boxes.shape[:2]):
        raise ValueError(
            f"present is {present.dtype} of shape {present.shape}; expected bool, {boxes.shape[:2]}, one for each box"
        )
    masks = targets.masks
    if masks is not None and (masks.ndim not in (3, 4) or masks.shape[:3] != (batch, height, width)):
        raise ValueError(f"masks have shape {masks.shape}; expected {(batch, height, width)}, or one axis more")


def joined(images: Images, targets: Targets | None) -> Result:
    """Images alone where no targets came, both otherwise."""
    return images if targets is None else (images, targets)


def moved(
    targets: Targets,
    *,
    points: Callable[[jax.Array], jax.Array],
    masks: Callable[[jax.Array], jax.Array],
    size: tuple[int, int],
) -> Targets:
    """Targets after a map given by what it does to points (batch, n, 2) and to masks (batch, height, width, n)."""
    boxes, keypoints, present = targets.boxes, targets.keypoints, targets.present
    if boxes is not None:
        boxes = _moved_boxes(boxes, points, size)
        present = None if present is None else present & ~(boxes[..., 2:] <= boxes[..., :2]).any(-1)
    if keypoints is not None:
        flat = keypoints.astype(jnp.float32).reshape(keypoints.shape[0], -1, 2)
        keypoints = points(flat).reshape(keypoints.shape).astype(keypoints.dtype)
    proposals = None if targets.proposals is None else _moved_boxes(targets.proposals, points, size)
    return Targets(boxes, moved_masks(targets.masks, masks), keypoints, present, proposals)


def moved_masks(
    masks: Shaped[Array, "..."] | None, move: Callable[[jax.Array], jax.Array]
) -> Shaped[Array, "..."] | None:
    """Masks after a map of arrays of four axes."""
    if masks is None:
        return None
    return move(masks) if masks.ndim == 4 else move(masks[..., None])[..., 0]


def choose(chosen: Shaped[Array, " batch"], some: Targets, others: Targets) -> Targets:
    """Image by image, the targets of `some` where chosen, of `others` elsewhere."""
    return jax.tree.map(lambda a, b: jnp.where(chosen.reshape(-1, *(1,) * (a.ndim - 1)), a, b), some, others)


def _moved_boxes(
    boxes: Float[Array, "batch n 4"], points: Callable[[jax.Array], jax.Array], size: tuple[int, int]
) -> Float[Array, "batch n 4"]:
    batch, count, _ = boxes.shape
    corners = boxes.astype(jnp.float32)[..., jnp.asarray([0, 1, 2, 1, 2, 3, 0, 3])].reshape(batch, count * 4, 2)
    corners = points(corners).reshape(batch, count, 4, 2)
    border = jnp.asarray(size[::-1], jnp.float32)[None, None]
    low, high = (jnp.clip(ends, 0.0, border) for ends in (corners.min(2), corners.max(2)))
    # Not "unless larger": boxes with a NaN are not empty, and stay NaN.
    empty = ((boxes[..., 2:] <= boxes[..., :2]) | (high <= low)).any(-1, keepdims=True)
    return jnp.where(empty, 0.0, jnp.concatenate([low, high], -1)).astype(boxes.dtype)
