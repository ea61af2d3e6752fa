"""How much masks overlap, from their runs: no mask is decoded.

The pixels of a mask before a place p are a function of p that is straight between the ends of its runs. What two masks
have in common is therefore a sum over the intervals [s, e) of one of them: F(e) - F(s), with F of the other.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from cnnjax.functional.masks.runs import Code, Intervals, Regions, read_runs, regions

# Interval ends that are looked up at once: more would only take memory.
_AT_ONCE = 2**21


def rle_iou(
    detections: Sequence[Code], truths: Sequence[Code], crowd: Sequence[bool] | np.ndarray | None = None
) -> Float[np.ndarray, "detections truths"]:
    r"""Intersection over union of every detected mask with every true one: $|D \cap T| / |D \cup T|$.

    With a crowd, a region of many objects, it is the share of the detection within it, $|D \cap T| / |D|$.

    Args:
        detections: run-length codes.
        truths: run-length codes of masks of the same size.
        crowd: whether each truth is a crowd; none is where None.

    Returns:
        One row for each detection, zero where nothing is in common, empty masks included.

    Raises:
        ValueError: a code is no mask, the sizes differ, or there is not one flag for each truth.

    Reference: Lin et al. (2014), "Microsoft COCO: Common Objects in Context", and its evaluation code (crowds).

    >>> half, whole = {"size": [1, 4], "counts": [2, 2]}, {"size": [1, 4], "counts": [0, 4]}
    >>> rle_iou([half], [whole, whole], [False, True]).tolist()
    [[0.5, 1.0]]
    """
    first, second = regions(read_runs(detections, "detections")), regions(read_runs(truths, "truths"))
    crowds = np.zeros(len(truths), bool) if crowd is None else np.asarray(crowd).astype(bool)
    if crowds.shape != (len(truths),):
        raise ValueError(f"crowd: shape {crowds.shape} came, ({len(truths)},) was expected: a flag for each truth")
    sizes = np.concatenate([first.sizes, second.sizes])
    if (sizes != sizes[:1]).any():
        raise ValueError(
            f"detections and truths: masks of the sizes {np.unique(sizes, axis=0).tolist()} came, one size was expected"
        )
    rows, columns = (axis.ravel() for axis in np.indices((len(detections), len(truths))))
    return pair_iou(first, second, rows, columns, crowds).reshape(len(detections), len(truths))


def pair_iou(
    first: Regions,
    second: Regions,
    rows: Int[np.ndarray, "pairs"],
    columns: Int[np.ndarray, "pairs"],
    crowd: Bool[np.ndarray, "masks"],
    *,
    least: float = 0.0,
) -> Float[np.ndarray, "pairs"]:
    """`rle_iou` for chosen pairs: mask `rows[i]` of the first with mask `columns[i]` of the second, of equal size.

    What cannot reach `least` by the boxes around the masks and by their areas is not looked at, and zero.
    """
    found = np.zeros(len(rows))
    ours, theirs = first.boxes[rows], second.boxes[columns]
    span = np.minimum(ours[:, :2] + ours[:, 2:], theirs[:, :2] + theirs[:, 2:]) - np.maximum(ours[:, :2], theirs[:, :2])
    span = np.maximum(span, 0.0)
    own, other = first.areas[rows], second.areas[columns]

    def share(common: np.ndarray, where: np.ndarray | slice = slice(None)) -> np.ndarray:
        union = np.where(crowd[columns[where]], own[where], own[where] + other[where] - common)
        return common / np.maximum(union, 1)

    # Whole numbers: a quotient that is rounded is never above that of a larger common area.
    most = np.minimum(np.minimum(own, other), span[:, 0] * span[:, 1])
    reach = np.flatnonzero((most > 0) & (share(most) >= least))
    found[reach] = share(_common(first, second, rows[reach], columns[reach]), reach)
    return found


def _common(
    first: Regions, second: Regions, rows: Int[np.ndarray, "pairs"], columns: Int[np.ndarray, "pairs"]
) -> Int[np.ndarray, "pairs"]:
    """Pixels that the masks of each pair have in common."""
    ours, theirs = first.where, second.where
    # The masks with fewer intervals are looked up in the others.
    if np.diff(ours.first)[rows].sum() > np.diff(theirs.first)[columns].sum():
        ours, theirs, rows, columns, second = theirs, ours, columns, rows, first
    # Every mask of theirs has a stretch of its own on one long axis.
    stretch = np.concatenate([[0], np.cumsum(second.sizes[:, 0] * second.sizes[:, 1])])
    shift = np.repeat(stretch[:-1], np.diff(theirs.first))
    places = np.stack([theirs.starts + shift, theirs.ends + shift], axis=-1).ravel().astype(np.float64)
    total = np.concatenate([[0], np.cumsum(theirs.ends - theirs.starts)])
    before = np.stack([total[:-1], total[1:]], axis=-1).ravel().astype(np.float64)
    found = np.zeros(len(rows), np.int64)
    if not len(places):
        return found
    counts = np.diff(ours.first)[rows]
    bounds = np.concatenate([[0], np.cumsum(counts)])
    begin = 0
    while begin < len(rows):
        end = max(begin + 1, int(np.searchsorted(bounds, bounds[begin] + _AT_ONCE, side="right")) - 1)
        part = slice(begin, end)
        found[part] = _looked_up(ours, rows[part], stretch[columns[part]], places, before)
        begin = end
    return found


def _looked_up(
    ours: Intervals,
    rows: Int[np.ndarray, "pairs"],
    shift: Int[np.ndarray, "pairs"],
    places: Float[np.ndarray, "knots"],
    before: Float[np.ndarray, "knots"],
) -> Int[np.ndarray, "pairs"]:
    counts = np.diff(ours.first)[rows]
    bounds = np.concatenate([[0], np.cumsum(counts)])
    own = np.arange(bounds[-1]) + np.repeat(ours.first[rows] - bounds[:-1], counts)
    moved = np.repeat(shift, counts)
    # Whole numbers below 2^53, on straight lines of slope 0 or 1: exact.
    inside = np.interp((ours.ends[own] + moved).astype(np.float64), places, before)
    inside -= np.interp((ours.starts[own] + moved).astype(np.float64), places, before)
    return np.diff(np.concatenate([[0], np.cumsum(inside.astype(np.int64))])[bounds])
