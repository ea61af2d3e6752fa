"""Non-maximum suppression: of boxes that overlap too much the one of highest score stays.

All of it runs under `jit` and `vmap`: shapes are static, and what is kept comes as indices, -1 for none, and a count.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from cnnjax.functional.boxes.coordinates import as_rows
from cnnjax.functional.operands import require_shape

# Boxes that are compared with one another at once.
_TILE = 256


class Kept(NamedTuple):
    """What suppression leaves.

    Attributes:
        indices: of the boxes that stay, highest score first; -1 in the places after them.
        count: how many they are.
    """

    indices: Int[Array, "most"]
    count: Int[Array, ""]


class SoftlyKept(NamedTuple):
    """What soft suppression leaves.

    Attributes:
        indices: of the boxes that stay, highest new score first; -1 in the places after them.
        scores: their scores after suppression; 0 in the places after them.
        count: how many they are.
    """

    indices: Int[Array, "most"]
    scores: Float[Array, "most"]
    count: Int[Array, ""]


class _Rows(NamedTuple):
    """Boxes by their coordinates, each a row, with their classes and their indices."""

    corners: jax.Array
    classes: jax.Array
    indices: jax.Array


def nms(
    boxes: Float[Array, "boxes 4"], scores: Float[Array, "boxes"], *, threshold: float, most: int | None = None
) -> Kept:
    """Greedy suppression: goes by falling score, and drops what overlaps a kept box by more than `threshold`.

    Exact, whatever the threshold: tiles of boxes are compared with all that were kept before them, then with one
    another until nothing changes. Of equal scores the first box counts as higher. A box without area overlaps
    nothing, so it is kept and suppresses none. Boxes with a score of minus infinity or NaN are left out: a score is
    how a filter drops a box where shapes are static.

    Args:
        boxes: in any unit; negative coordinates are ordinary.
        scores: one for each box.
        threshold: boxes of an IoU above it are too alike. 0.7 for region proposals, 0.5 in heads of R-CNNs, 0.45 in
            SSD.
        most: how many are kept at most, and the length of the result; None for the number of boxes.

    Returns:
        Indices in the order of falling scores, and their count.

    Raises:
        ValueError: `threshold` is not from 0 to 1, `most` is not positive, or the shapes disagree.

    Reference: Felzenszwalb et al. (2010), "Object Detection with Discriminatively Trained Part-Based Models",
    section 7.1 (non-maximum suppression).

    >>> boxes = jnp.asarray([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0], [9.0, 9.0, 11.0, 11.0]])
    >>> nms(boxes, jnp.asarray([0.5, 0.9, 0.7]), threshold=0.5)
    Kept(indices=Array([ 1,  2, -1], dtype=int32), count=Array(2, dtype=int32))
    """
    return _suppress(boxes, scores, None, threshold, most)


def class_nms(
    boxes: Float[Array, "boxes 4"],
    scores: Float[Array, "boxes"],
    classes: Int[Array, "boxes"],
    *,
    threshold: float,
    most: int | None = None,
) -> Kept:
    """`nms` in which a box suppresses only boxes of its own class (elsewhere "batched NMS").

    Classes are compared, not put into the coordinates, which would round them.

    Args:
        boxes: in any unit.
        scores: one for each box.
        classes: the class of each box.
        threshold: boxes of one class and an IoU above it are too alike.
        most: how many are kept at most, of all classes together; None for the number of boxes.

    Returns:
        Indices in the order of falling scores, and their count.

    Raises:
        ValueError: as `nms`.

    >>> boxes = jnp.asarray([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0], [0.0, 0.0, 4.0, 4.0]])
    >>> class_nms(boxes, jnp.asarray([0.5, 0.9, 0.7]), jnp.asarray([0, 0, 1]), threshold=0.5).indices.tolist()
    [1, 2, -1]
    """
    classes = jnp.asarray(classes)
    require_shape("classes", classes, jnp.shape(scores), "a class for each score")
    return _suppress(boxes, scores, classes, threshold, most)


def soft_nms(
    boxes: Float[Array, "boxes 4"],
    scores: Float[Array, "boxes"],
    *,
    threshold: float | None = None,
    sigma: float = 0.5,
    least: float = 0.001,
    most: int | None = None,
) -> SoftlyKept:
    r"""Suppression that lowers the scores of boxes near a kept one, instead of dropping them.

    A score s of a box that overlaps the kept one by o becomes $s \exp(-o^2 / \sigma)$, or, with a `threshold`,
    $s (1 - o)$ where o is above it.

    Args:
        boxes: in any unit.
        scores: one for each box, positive.
        threshold: for the linear form; None for the Gaussian.
        sigma: of the Gaussian; above zero.
        least: boxes whose score falls to this or below are dropped.
        most: how many are kept at most; None for the number of boxes. Each costs one pass over all boxes.

    Returns:
        Indices, new scores and the count, in the order in which they are kept.

    Raises:
        ValueError: an option is out of range, or as `nms`.

    Reference: Bodla et al. (2017), "Soft-NMS: Improving Object Detection With One Line of Code", section 3.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma={sigma}; expected a positive number")
    if threshold is not None:
        _check_threshold(threshold)
    boxes, scores, most = _checked(boxes, scores, most)
    areas = _area(boxes.T)

    def step(index: jax.Array, state: tuple[jax.Array, SoftlyKept]) -> tuple[jax.Array, SoftlyKept]:
        left, kept = state
        best = jnp.argmax(left)
        score = left[best]
        alive = score > least
        overlap = _iou(boxes[best][:, None], areas[best][None], boxes.T, areas)[0]
        overlap = jnp.where(jnp.isnan(overlap), 0.0, overlap)
        if threshold is None:
            decay = jnp.exp(-jnp.square(overlap) / sigma)
        else:
            decay = jnp.where(overlap > threshold, 1 - overlap, 1.0)
        lowered = (left * decay).at[best].set(-jnp.inf)
        kept = SoftlyKept(
            kept.indices.at[index].set(jnp.where(alive, best, -1).astype(jnp.int32)),
            kept.scores.at[index].set(jnp.where(alive, score, 0.0)),
            kept.count + alive.astype(jnp.int32),
        )
        return jnp.where(alive, lowered, left), kept

    none = SoftlyKept(jnp.full(most, -1, jnp.int32), jnp.zeros(most, scores.dtype), jnp.zeros((), jnp.int32))
    if not len(boxes):
        return none
    start = jnp.where(scores > least, scores, -jnp.inf)
    return lax.fori_loop(0, most, step, (start, none))[1]


def _suppress(
    boxes: jax.Array, scores: jax.Array, classes: jax.Array | None, threshold: float, most: int | None
) -> Kept:
    limit = _below(_check_threshold(threshold), jnp.asarray(boxes).dtype)
    boxes, scores, most = _checked(boxes, scores, most)
    if not len(boxes):
        return Kept(jnp.full(most, -1, jnp.int32), jnp.zeros((), jnp.int32))
    return _go_by_score(boxes, scores, classes, jnp.asarray(limit, boxes.dtype), most)


@partial(jax.jit, static_argnames="most")
def _go_by_score(boxes: jax.Array, scores: jax.Array, classes: jax.Array | None, limit: jax.Array, most: int) -> Kept:
    """Suppression tile by tile; compiled once for all thresholds."""
    number = len(boxes)
    tile = min(_TILE, number)
    tiles = -(-number // tile)
    order = jnp.argsort(-scores, stable=True).astype(jnp.int32)
    left_out = (0, tiles * tile - number)
    sorted_boxes = _Rows(
        jnp.pad(boxes[order], (left_out, (0, 0))).T,
        jnp.zeros(tiles * tile, jnp.int32) if classes is None else jnp.pad(classes[order].astype(jnp.int32), left_out),
        jnp.pad(order, left_out),
    )
    candidate = jnp.pad(scores[order] > -jnp.inf, left_out)
    # What is kept stands side by side, with room for a tile more than is asked for.
    room = -(-min(most, number) // tile) * tile + tile
    nothing = jax.tree.map(lambda array: jnp.zeros((*array.shape[:-1], room), array.dtype), sorted_boxes)
    earlier = jnp.arange(tile)[:, None] < jnp.arange(tile)[None]

    def part(array: jax.Array, which: jax.Array) -> jax.Array:
        return lax.dynamic_slice_in_dim(array, which * tile, tile, axis=-1)

    def too_alike(first: _Rows, second: _Rows) -> jax.Array:
        """Which boxes of the first (rows) suppress which of the second (columns)."""
        alike = _iou(first.corners, _area(first.corners), second.corners, _area(second.corners)) > limit
        return alike if classes is None else alike & (first.classes[:, None] == second.classes[None])

    def one_tile(state: tuple[jax.Array, _Rows, jax.Array]) -> tuple[jax.Array, _Rows, jax.Array]:
        which, kept, count = state
        here = jax.tree.map(lambda array: part(array, which), sorted_boxes)

        def suppressed_by(before: jax.Array, suppressed: jax.Array) -> jax.Array:
            is_kept = before * tile + jnp.arange(tile, dtype=jnp.int32) < count
            some = jax.tree.map(lambda array: part(array, before), kept)
            return suppressed | jnp.any(too_alike(some, here) & is_kept[:, None], axis=0)

        before = (count + tile - 1) // tile
        alive = part(candidate, which) & ~lax.fori_loop(0, before, suppressed_by, jnp.zeros(tile, bool))
        within = too_alike(here, here) & earlier
        stays = _fixed_point(lambda kept: alive & ~jnp.any(within & kept[:, None], axis=0), alive)
        place = jnp.where(stays, count + jnp.cumsum(stays, dtype=jnp.int32) - 1, room)
        kept = jax.tree.map(lambda all_, some: all_.at[..., place].set(some, mode="drop"), kept, here)
        return which + 1, kept, count + jnp.sum(stays, dtype=jnp.int32)

    def unfinished(state: tuple[jax.Array, _Rows, jax.Array]) -> jax.Array:
        # Candidates come first, so that a tile that begins with none has none.
        first = candidate[jnp.minimum(state[0], tiles - 1) * tile]
        return (state[0] < tiles) & (state[2] < most) & first

    zero = jnp.zeros((), jnp.int32)
    _, kept, count = lax.while_loop(unfinished, one_tile, (zero, nothing, zero))
    count = jnp.minimum(count, most)
    indices = jnp.pad(kept.indices, (0, max(most - room, 0)))[:most]
    return Kept(jnp.where(jnp.arange(most, dtype=jnp.int32) < count, indices, -1), count)


def _fixed_point(advance: Callable[[jax.Array], jax.Array], start: jax.Array) -> jax.Array:
    """Where `advance` changes nothing any more: after each turn one more box of the tile is settled at least."""

    def turn(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return state[1], advance(state[1])

    return lax.while_loop(lambda state: jnp.any(state[0] != state[1]), turn, turn((start, start)))[1]


def _area(corners: jax.Array) -> jax.Array:
    return jnp.maximum(corners[2] - corners[0], 0) * jnp.maximum(corners[3] - corners[1], 0)


def _iou(first: jax.Array, first_area: jax.Array, second: jax.Array, second_area: jax.Array) -> jax.Array:
    """IoU of all pairs of boxes, whose coordinates are rows; NaN, which is above nothing, where both have no area."""
    first = first[:, :, None]
    width = jnp.maximum(jnp.minimum(first[2], second[2][None]) - jnp.maximum(first[0], second[0][None]), 0)
    height = jnp.maximum(jnp.minimum(first[3], second[3][None]) - jnp.maximum(first[1], second[1][None]), 0)
    common = width * height
    return common / (first_area[:, None] + second_area[None] - common)


def _checked(boxes: jax.Array, scores: jax.Array, most: int | None) -> tuple[jax.Array, jax.Array, int]:
    boxes, scores = as_rows("boxes", boxes), jnp.asarray(scores)
    require_shape("scores", scores, boxes.shape[:1], "a score for each box")
    most = len(boxes) if most is None else most
    if most < 1 and len(boxes):
        raise ValueError(f"most={most}; expected the number of boxes to keep, 1 at least")
    return boxes, scores, most


def _check_threshold(threshold: float) -> float:
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold}; expected an IoU from 0 to 1")
    return threshold


def _below(threshold: float, dtype: jnp.dtype) -> float:
    """The largest number of the overlaps' type up to the threshold: above it means above the threshold, exactly."""
    if dtype == jnp.float64:
        return threshold
    nearest = np.float32(threshold)
    return float(nearest if float(nearest) <= threshold else np.nextafter(nearest, np.float32(-1)))
