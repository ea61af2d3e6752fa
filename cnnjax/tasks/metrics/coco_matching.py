"""Which detection takes which object, by COCO's rule: greedily by score, for all pictures and classes at once.

A detection's choice depends on those of surer detections of the same picture and class, and on nothing else. So the
first detections of all pictures and classes choose together, then all second ones, and so on, for every threshold and
range of areas. Only pairs that overlap enough for the lowest threshold take part, and they are few.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from cnnjax.functional.masks.overlaps import pair_iou
from cnnjax.functional.masks.runs import Regions
from cnnjax.tasks.metrics.objects import Table, box_areas, candidates, common_areas, pairs_of

# Pairs whose overlaps are computed at once.
_AT_ONCE = 2**20


class Judged(NamedTuple):
    """What each detection is, for every range of areas and threshold; one that is neither is not counted.

    Attributes:
        hits: it took an object that counts.
        false: it took none.
    """

    hits: Bool[np.ndarray, "areas thresholds detections"]
    false: Bool[np.ndarray, "areas thresholds detections"]


class Edges(NamedTuple):
    """Pairs of a detection and an object that it may take.

    Attributes:
        detections: place of the detection, rising.
        truths: place of the object.
        overlaps: intersection over union, or the share within a crowd.
    """

    detections: Int[np.ndarray, "edges"]
    truths: Int[np.ndarray, "edges"]
    overlaps: Float[np.ndarray, "edges"]


def match(
    found: Table,
    true: Table,
    ignored: Bool[np.ndarray, "truths areas"],
    outside: Bool[np.ndarray, "detections areas"],
    thresholds: Float[np.ndarray, "thresholds"],
    shapes: tuple[Regions, Regions] | None,
) -> Judged:
    """Judges all detections.

    Args:
        found: detections, sorted by class, picture and falling score.
        true: objects, sorted by class and picture, with a column `crowd`.
        ignored: whether an object is not counted: crowds, and those outside of a range of areas.
        outside: whether a detection's own area is outside of the range.
        thresholds: the least overlaps.
        shapes: the masks of detections and objects; boxes are compared where None.
    """
    edges = _edges(found, true, float(thresholds.min()), shapes)
    count = len(found.classes)
    false = np.ascontiguousarray(np.broadcast_to(~outside.T[:, None], (outside.shape[1], len(thresholds), count)))
    hits = np.zeros_like(false)
    with_edges, firsts = np.unique(edges.detections, return_index=True)
    # Which turn each of them has among those of its picture and class.
    new = np.ones(len(with_edges), bool)
    classes, pictures = found.classes[with_edges], found.pictures[with_edges]
    new[1:] = (np.diff(classes) != 0) | (np.diff(pictures) != 0)
    places = np.arange(len(with_edges))
    turns = places - np.maximum.accumulate(np.where(new, places, 0))
    of_edges = np.repeat(turns, np.diff(np.append(firsts, len(edges.detections))))
    # For each detection, from the least overlap to the largest; of equal ones the last object is the best.
    order = np.lexsort((edges.truths, edges.overlaps, edges.detections, of_edges))
    edges, of_edges = Edges(*(column[order] for column in edges)), of_edges[order]
    crowd = true.columns["crowd"].astype(bool)
    taken = np.zeros((len(crowd), ignored.shape[1], len(thresholds)), bool)
    bounds = np.searchsorted(of_edges, np.arange(of_edges.max(initial=-1) + 2))
    for begin, end in pairwise(bounds):
        part = Edges(*(column[begin:end] for column in edges))
        rows, some, counted = _choose(part, taken, ignored, crowd, thresholds)
        hits[:, :, rows] = np.moveaxis(counted, 0, -1)
        false[:, :, rows] &= ~np.moveaxis(some, 0, -1)
    return Judged(hits, false)


def _choose(
    edges: Edges,
    taken: Bool[np.ndarray, "truths areas thresholds"],
    ignored: Bool[np.ndarray, "truths areas"],
    crowd: Bool[np.ndarray, "truths"],
    thresholds: Float[np.ndarray, "thresholds"],
) -> tuple[
    Int[np.ndarray, "detections"],
    Bool[np.ndarray, "detections areas thresholds"],
    Bool[np.ndarray, "detections areas thresholds"],
]:
    """Lets one detection of each picture and class choose, and marks in `taken` what they take.

    Returns:
        The detections, whether each took something, and whether that is counted.
    """
    truths, count = edges.truths, len(edges.truths)
    free = ~taken[truths] | crowd[truths][:, None, None]
    free &= (edges.overlaps[:, None] >= thresholds)[:, None]
    # The later, the better; and all that are ignored are worse than all that are counted.
    value = np.arange(1, count + 1, dtype=np.int32)[:, None] + np.where(ignored[truths], 0, count).astype(np.int32)
    rows, firsts = np.unique(edges.detections, return_index=True)
    best = np.maximum.reduceat(np.where(free, value[:, :, None], 0), firsts, axis=0)
    some = best > 0
    _, areas, places = np.nonzero(some)
    taken[truths[(best[some] - 1) % count], areas, places] = True
    return rows, some, best > count


def _edges(found: Table, true: Table, least: float, shapes: tuple[Regions, Regions] | None) -> Edges:
    """All pairs of one picture and class that overlap by at least so much."""
    counts, first = candidates(found, true)
    crowd = true.columns["crowd"].astype(bool)
    sizes = [box_areas(side.boxes) for side in (found, true)]
    bounds = np.concatenate([[0], np.cumsum(counts)])
    parts, begin = [], 0
    while begin < len(counts):
        end = max(begin + 1, int(np.searchsorted(bounds, bounds[begin] + _AT_ONCE, side="right")) - 1)
        rows, columns = pairs_of(counts, first, begin, end)
        begin = end
        if shapes:
            overlaps = pair_iou(*shapes, rows, columns, crowd, least=least)
        else:
            common = common_areas(found.boxes[rows], true.boxes[columns])
            own = sizes[0][rows]
            union = np.where(crowd[columns], own, own + sizes[1][columns] - common)
            overlaps = np.divide(common, union, out=np.zeros_like(common), where=common > 0)
        enough = overlaps >= least
        parts.append(Edges(rows[enough], columns[enough], overlaps[enough]))
    if not parts:
        return Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Edges(*(np.concatenate(column) for column in zip(*parts, strict=True)))
