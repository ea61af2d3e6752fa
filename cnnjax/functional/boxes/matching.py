"""Which object each reference box is to find: static shapes, images without objects are ordinary.

Objects of a picture are padded to a fixed number, and `present` says which of them are there. Map over a batch with
`jax.vmap`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cnnjax.functional.boxes.coordinates import as_rows, to_centre
from cnnjax.functional.operands import require_mask


class Matches(NamedTuple):
    """What each anchor is to find.

    Attributes:
        objects: the index of its object, or -1 where it has none.
        ignored: it neither has an object nor counts as background.
    """

    objects: Int[Array, "anchors"]
    ignored: Bool[Array, "anchors"]


def match_by_thresholds(
    overlaps: Float[Array, "objects anchors"],
    present: Bool[Array, "objects"],
    *,
    high: float = 0.7,
    low: float = 0.3,
    low_quality: bool = True,
) -> Matches:
    """Each anchor has the object that it overlaps most, from `high` on; below `low` it is background.

    With `low_quality` each object also gets every anchor that overlaps it most of all, ties included; such an anchor
    takes its own best object, which may be another one. As in the references, an object that no anchor overlaps makes
    all anchors that overlap nothing positive: leave out objects outside the picture.

    Args:
        overlaps: `pairwise_iou` of objects and anchors.
        present: which objects are there.
        high: 0.7 for region proposals, 0.5 for the heads of R-CNNs.
        low: 0.3 for region proposals, 0.5 for the heads; what lies between the two is ignored.
        low_quality: True for region proposals, False for heads.

    Returns:
        `Matches`; without objects all anchors are background.

    Raises:
        ValueError: not 0 <= low <= high <= 1, or the shapes disagree.

    Reference: Ren et al. (2015), "Faster R-CNN", section 3.1.2.

    >>> overlaps = jnp.asarray([[0.8, 0.1, 0.4], [0.0, 0.2, 0.1]])
    >>> matches = match_by_thresholds(overlaps, jnp.asarray([True, True]))
    >>> matches.objects.tolist(), matches.ignored.tolist()
    ([0, 1, -1], [False, False, True])
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(f"low={low} and high={high}; expected 0 <= low <= high <= 1")
    overlaps = _of_present(overlaps, present)
    best, most = _best(overlaps)
    objects = jnp.where(most >= high, best, -1)
    ignored = (most >= low) & (most < high)
    if low_quality:
        highest = jnp.max(overlaps, axis=1, keepdims=True, initial=-1.0)
        forced = jnp.any((overlaps == highest) & present[:, None], axis=0)
        objects = jnp.where(forced, best, objects)
        ignored = ignored & ~forced
    return Matches(objects, ignored)


def match_with_forced(
    overlaps: Float[Array, "objects anchors"], present: Bool[Array, "objects"], *, threshold: float = 0.5
) -> Matches:
    """Each anchor has the object it overlaps most, from `threshold` on, and each object its best anchor in any case.

    Of two objects with the same best anchor the later one has it. Nothing is ignored.

    Args:
        overlaps: `pairwise_iou` of objects and anchors.
        present: which objects are there.
        threshold: the IoU from which on an anchor has an object, 0.5 in the paper.

    Returns:
        `Matches`; without objects all anchors are background.

    Raises:
        ValueError: `threshold` is not between 0 and 1, or the shapes disagree.

    Reference: Liu et al. (2016), "SSD", section 2.2, matching strategy.

    >>> overlaps = jnp.asarray([[0.3, 0.1, 0.6], [0.4, 0.2, 0.1]])
    >>> match_with_forced(overlaps, jnp.asarray([True, True])).objects.tolist()
    [1, -1, 0]
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold}; expected a number from 0 to 1")
    overlaps = _of_present(overlaps, present)
    best, most = _best(overlaps)
    objects = jnp.where(most >= threshold, best, -1)
    # No scatter: with two writes to one place it has no defined order.
    number, anchors = overlaps.shape
    own = jnp.argmax(overlaps, axis=1).astype(jnp.int32)[:, None] == jnp.arange(anchors, dtype=jnp.int32)[None]
    claims = jnp.where(own & present[:, None], jnp.arange(number, dtype=jnp.int32)[:, None], -1)
    forced = jnp.max(claims, axis=0, initial=-1)
    return Matches(jnp.where(forced >= 0, forced, objects).astype(jnp.int32), jnp.zeros(anchors, bool))


def match_cells(
    boxes: Float[Array, "objects 4"], present: Bool[Array, "objects"], *, cells: tuple[int, int], size: tuple[int, int]
) -> Int[Array, "rows columns"]:
    """The object whose centre lies in each cell of a grid over the picture, -1 where there is none.

    A cell has one object: of several the first.

    Args:
        boxes: in pixels.
        present: which of them are there; one whose centre lies outside the picture is left out.
        cells: rows and columns of the grid; (7, 7) in the paper.
        size: height and width of the picture, in pixels.

    Raises:
        ValueError: `cells` or `size` are not two positive numbers, or the shapes disagree.

    Reference: Redmon et al. (2016), "You Only Look Once", section 2.

    >>> match_cells(jnp.asarray([[0.0, 0.0, 4.0, 4.0]]), jnp.asarray([True]), cells=(2, 2), size=(6, 6)).tolist()
    [[0, -1], [-1, -1]]
    """
    for name, pair in (("cells", cells), ("size", size)):
        if len(pair) != 2 or min(pair) <= 0:
            raise ValueError(f"{name}={pair}; expected two positive numbers, of rows and of columns")
    boxes = as_rows("boxes", boxes)
    require_mask(present, boxes.shape[:1], "a flag per object")
    rows, columns = cells
    centres = to_centre(boxes)[:, :2]
    inside = jnp.all((centres >= 0) & (centres < jnp.asarray(size[::-1], boxes.dtype)[None]), axis=-1)
    scale = jnp.asarray([columns / size[1], rows / size[0]], boxes.dtype)
    column, row = jnp.moveaxis(jnp.floor(centres * scale[None]).astype(jnp.int32), -1, 0)
    here = (row[:, None, None] == jnp.arange(rows, dtype=jnp.int32)[None, :, None]) & (
        column[:, None, None] == jnp.arange(columns, dtype=jnp.int32)[None, None, :]
    )
    here = here & (present & inside)[:, None, None]
    number = len(boxes)
    first = jnp.min(jnp.where(here, jnp.arange(number, dtype=jnp.int32)[:, None, None], number), axis=0, initial=number)
    return jnp.where(first < number, first, -1).astype(jnp.int32)


def _of_present(overlaps: jax.Array, present: jax.Array) -> jax.Array:
    """Overlaps, -1 for what is not there."""
    overlaps = jnp.asarray(overlaps)
    if overlaps.ndim != 2:
        raise ValueError(
            f"overlaps: shape {overlaps.shape} came, (objects, anchors) was expected; use vmap for batches"
        )
    require_mask(present, overlaps.shape[:1], "a flag per object")
    return jnp.where(present[:, None], overlaps, -1.0)


def _best(overlaps: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The object that each anchor overlaps most, the first of several, and by how much; -1 without objects."""
    if not len(overlaps):
        return jnp.full(overlaps.shape[1], -1, jnp.int32), jnp.full(overlaps.shape[1], -1, overlaps.dtype)
    return jnp.argmax(overlaps, axis=0).astype(jnp.int32), jnp.max(overlaps, axis=0)
