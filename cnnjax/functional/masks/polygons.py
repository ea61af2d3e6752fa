"""COCO's polygon rule: which pixels are within a polygon."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cnnjax.functional.masks.run_lengths import merge_rle
from cnnjax.functional.masks.runs import code_of_changes

# The grid that the outline is walked on is this much finer than the pixels.
_FINER = 5


def polygons_to_rle(polygons: Sequence[Sequence[float] | np.ndarray], height: int, width: int) -> dict[str, Any]:
    """The run-length code of the pixels within any of an object's polygons, by COCO's rule.

    The outline is rounded to a grid five times as fine as the pixels and walked on it point by point. Where it crosses
    the middle of a column of pixels, the column changes between inside and outside from the next pixel down. (A rule
    by the middles of pixels, as drawing libraries have it, differs by up to a pixel at the border.)

    Args:
        polygons: one or more, each [x1, y1, x2, y2, ...] as in COCO's files, or an array (points, 2); in pixels from
            the upper left corner of the picture. Points outside of the picture are allowed.
        height: of the picture, in pixels.
        width: of the picture, in pixels.

    Raises:
        ValueError: there is no polygon, or one has fewer than three points, half a point, or a coordinate that is not
            finite.

    Reference: Lin et al. (2014), "Microsoft COCO: Common Objects in Context", and its code (`rleFrPoly`).

    >>> polygons_to_rle([[1, 1, 4, 1, 4, 3, 1, 3]], 4, 5)
    {'size': [4, 5], 'counts': '5220003'}
    """
    if not len(polygons):
        raise ValueError("polygons: none came, one was expected at least; an object without an outline has no mask")
    codes = [_code(_points(polygon, place), height, width) for place, polygon in enumerate(polygons)]
    return codes[0] if len(codes) == 1 else merge_rle(codes)


def _points(polygon: Sequence[float] | np.ndarray, place: int) -> Float[np.ndarray, "points 2"]:
    points = np.asarray(polygon, np.float64)
    if points.ndim == 1 and points.size % 2 == 0:
        points = points.reshape(-1, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(
            f"polygons: number {place} has shape {points.shape}; expected [x1, y1, x2, y2, ...] or (points, 2)"
        )
    if len(points) < 3:
        raise ValueError(f"polygons: number {place} has {len(points)} points; an area needs three at least")
    # What is rounded has to be a 32-bit integer, as in COCO's code.
    if not (np.abs(points) < 2**31 / (2 * _FINER)).all():
        raise ValueError(f"polygons: number {place} has coordinates that are NaN, infinite or too large for a picture")
    return points


def _code(points: Float[np.ndarray, "points 2"], height: int, width: int) -> dict[str, Any]:
    # Rounding is by adding a half and cutting towards zero, below zero too.
    columns, rows = _walk(np.trunc(_FINER * points + 0.5).astype(np.int64))
    moved = np.flatnonzero(columns[1:] != columns[:-1])
    # A step to the left or right crosses the finer column that is the lower of the two, or the one left of it.
    before, after = columns[moved], columns[moved + 1]
    x = (np.where(after < before, after, after - 1) + 0.5) / _FINER - 0.5
    y = (np.minimum(rows[moved], rows[moved + 1]) + 0.5) / _FINER - 0.5
    middle = (np.floor(x) == x) & (x >= 0) & (x <= width - 1)
    y = np.ceil(np.clip(y[middle], 0, height)).astype(np.int64)
    changes, counts = np.unique(x[middle].astype(np.int64) * height + y, return_counts=True)
    # Two changes at one pixel are none.
    changes = changes[counts % 2 == 1]
    return code_of_changes(changes[changes < height * width], height, width)


def _walk(corners: Int[np.ndarray, "points 2"]) -> tuple[Int[np.ndarray, "steps"], Int[np.ndarray, "steps"]]:
    """All points of the outline on the finer grid, edge by edge, each edge with both ends."""
    start, end = corners, np.roll(corners, -1, axis=0)
    span = np.abs(end - start)
    flat = span[:, 0] >= span[:, 1]
    # Every edge is computed in one direction, that in which its longer side grows.
    long = np.where(flat, 0, 1)
    edge = np.arange(len(corners))
    turned = start[edge, long] > end[edge, long]
    low, high = np.where(turned[:, None], end, start), np.where(turned[:, None], start, end)
    length = span[edge, long]
    rise = high[edge, 1 - long] - low[edge, 1 - long]
    slope = rise / np.maximum(length, 1)
    which = np.repeat(edge, length + 1)
    first = np.cumsum(length + 1) - (length + 1)
    step = np.arange(len(which)) - first[which]
    step = np.where(turned[which], length[which] - step, step)
    along = low[edge, long][which] + step
    across = np.trunc(low[edge, 1 - long][which] + slope[which] * step + 0.5).astype(np.int64)
    return np.where(flat[which], along, across), np.where(flat[which], across, along)
