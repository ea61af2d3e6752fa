"""Elements that change their places: reshapes, gathers, running totals and products with constant matrices."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from cnnjax.analysis.reach.intervals import NOWHERE, Bound, Reach, bounds_of, compress, line, nowhere, whole

# Steps that repeat themselves after more elements than this are told by the ratio of the sizes.
_LONGEST_PERIOD = 64


def reshape(reach: Reach, old: Sequence[int], new: Sequence[int]) -> Reach:
    """Merges or splits axes; the finest grouping of old and new axes of equal extent is worked out first."""
    groups = _reshape_groups(old, new)
    axis, factor = _follow_axis(reach.axis, groups, old, new)

    def move(bound: np.ndarray) -> np.ndarray:
        wide = list(bound.shape)
        shape: list[int] = []
        for olds, news in groups:
            if any(bound.shape[dim] > 1 for dim in olds):
                for dim in olds:
                    wide[dim] = old[dim]
                shape += [new[dim] for dim in news]
            else:
                shape += [1] * len(news)
        return compress(np.broadcast_to(bound, wide).reshape(shape), keep=axis)

    if axis is not None:
        return reach.map(move, axis=axis, stride=None if reach.stride is None else reach.stride * factor)
    # What was merged may be split again: the axis is then looked for, but not where axes are merged.
    apart = [dim for olds, news in groups if not _count(olds, old) > 1 >= _count(news, new) for dim in news]
    return along(reach.map(move, axis=None, stride=None), among=apart)


def moved(sources: Sequence[Reach | None], shapes: Sequence[Sequence[int]], origin: np.ndarray) -> Reach:
    """Elements taken from where `origin` says: places in all sources, flat, one after the other; -1 is nowhere."""
    full = [nowhere(len(shape)) if reach is None else reach for reach, shape in zip(sources, shapes, strict=True)]

    def take(bounds: Sequence[np.ndarray], empty: int) -> np.ndarray:
        flat = [np.broadcast_to(bound, shape).ravel() for bound, shape in zip(bounds, shapes, strict=True)]
        elements = np.concatenate([*flat, [empty]])
        return compress(elements[np.where(origin < 0, len(elements) - 1, origin)], keep=None)

    low, high, plane_low, plane_high = (
        take(bounds, empty)
        for bounds, empty in zip(zip(*map(bounds_of, full), strict=True), (NOWHERE, -NOWHERE) * 2, strict=True)
    )
    strides = [reach.stride for reach in sources if reach is not None and reach.stride is not None]
    return along(Reach(low, high, plane_low, plane_high, None, None), next(iter(strides), None))


def picked(reach: Reach, axis: int, chosen: np.ndarray, shape: Sequence[int]) -> Reach:
    """A product along `axis` with a matrix: output o sees what the inputs i with `chosen[i, o]` see.

    `shape` is the value's; its axis stays where it is, with the outputs along it.
    """

    def choose(extreme: Callable, empty: int) -> Bound:
        def apply(bound: np.ndarray) -> np.ndarray:
            lines = np.moveaxis(bound, axis, -1)
            outputs = [extreme(np.where(column, lines, empty), axis=-1) for column in chosen.T]
            return np.stack(outputs, axis)

        return apply

    full = whole(reach, shape, [axis])
    found = full.map(choose(np.min, NOWHERE), choose(np.max, -NOWHERE), axis=None, stride=None)
    bounds = [compress(bound, keep=reach.axis) for bound in bounds_of(found)]
    if reach.axis == axis and reach.stride is not None:
        return along(Reach(*bounds, axis=None, stride=None), reach.stride * Fraction(*chosen.shape))
    return Reach(*bounds, axis=reach.axis, stride=reach.stride)


def running(reach: Reach, axis: int, shape: Sequence[int], *, backwards: bool) -> Reach:
    """Each element along `axis` of a value of that shape sees what it and all before it saw, or all after it."""
    turn = (slice(None),) * axis + (slice(None, None, -1 if backwards else 1),)
    return whole(reach, shape, [axis]).map(
        lambda low: compress(np.minimum.accumulate(low[turn], axis)[turn], keep=reach.axis),
        lambda high: compress(np.maximum.accumulate(high[turn], axis)[turn], keep=reach.axis),
        axis=reach.axis,
        stride=reach.stride,
    )


def along(reach: Reach, stride: Fraction | None = None, *, among: Sequence[int] | None = None) -> Reach:
    """Finds the axis that runs along the input, the one along which the centres move, and how far per step.

    Axes that move are told apart by what their places see together: of a picture of which a block is blanked, or of
    rows in line that are split again, each axis of the picture moves along one axis of the map. Where centres move
    along several, an inner axis goes before the last and the first, which are the channels' and the batch's, and the
    one with the longer way before the others.

    Args:
        reach: of a value of which this is not known.
        stride: what is expected; where centres stray from it by a pixel, it is what the steps come to that repeat
            themselves every few elements, and where none do, what is expected.
        among: the axes that are looked at; all where left out.
    """
    lines, ways = {}, {}
    for dim in range(reach.rank) if among is None else among:
        places = line(reach, dim)
        ends = np.where(places.plane_low > places.plane_high, np.nan, places.plane_low + places.plane_high).ravel()
        if (ends != ends[0]).any() and not np.isnan(ends).all() and (way := np.nanmax(ends) - np.nanmin(ends)):
            lines[dim], ways[dim] = ends, (0 < dim < reach.rank - 1, way)
    if not lines:
        return reach
    axis = max(lines, key=ways.__getitem__)
    step = _step(lines[axis], stride)
    return Reach(*bounds_of(reach), axis=axis, stride=stride if step is None else step)


def _step(ends: np.ndarray, expected: Fraction | None) -> Fraction | None:
    """Input positions per element along an axis whose intervals have the sums `ends`; NaN where they are empty."""
    places = np.flatnonzero(~np.isnan(ends))
    first = places[0]
    if expected is not None:
        even = ends[first] + 2 * float(expected) * (places - first)
        if (abs(ends[places] - even) < 2).all():
            return expected
    # Of the periods the first that nearly all steps keep, else the one that most keep.
    best, step = 0.5, None
    begin, end = places[len(places) // 4], places[3 * len(places) // 4]
    for period in range(1, min(_LONGEST_PERIOD, len(ends) // 2) + 1):
        steps = ends[period:] - ends[:-period]
        steps = steps[~np.isnan(steps)]
        if not len(steps):
            continue
        usual = np.median(steps)
        share = (steps == usual).mean()
        # Steps that lead nowhere, as those of columns in line, which begin anew in every row, are no stride.
        goes_on = (ends[end] - ends[begin]) * np.sign(usual) >= abs(usual) / period * (end - begin) / 2
        if share > best and usual and goes_on:
            best, step = share, Fraction(int(usual), 2 * period)
        # But for the borders, where a resized picture's weights are cut off.
        if best >= 0.9:
            break
    return step


def _reshape_groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Splits both shapes into consecutive groups of equal product, as fine as can be."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        olds, news = [], []
        left = right = 1
        if i < len(old):
            olds, left, i = [i], old[i], i + 1
        if j < len(new):
            news, right, j = [j], new[j], j + 1
        while left != right:
            if left < right:
                olds.append(i)
                left, i = left * old[i], i + 1
            else:
                news.append(j)
                right, j = right * new[j], j + 1
        groups.append((olds, news))
    return groups


def _follow_axis(
    axis: int | None, groups: Sequence[tuple[list[int], list[int]]], old: Sequence[int], new: Sequence[int]
) -> tuple[int | None, Fraction]:
    """Where the axis along the input goes, and how many of its elements one element there is.

    Splitting it keeps its outer part; merging it keeps it where it is the outermost (an upsampling by repetition),
    but not into the last axis, which is the channels' (a flattening). Where several axes are cut anew into several, it
    is not known.
    """
    for olds, news in groups:
        if axis not in olds or (_count(olds, old) > 1 and _count(news, new) > 1):
            continue
        inner = math.prod(old[dim] for dim in olds if dim > axis)
        for dim in news:
            step = math.prod(new[other] for other in news if other > dim)
            splits = step % inner == 0
            repeats = inner % step == 0 and len(old) - 1 not in olds
            trivial = new[dim] == 1 and old[axis] > 1
            if step * new[dim] <= inner * old[axis] and (splits or repeats) and not trivial:
                return dim, Fraction(step, inner)
    return None, Fraction(1)


def _count(axes: Sequence[int], shape: Sequence[int]) -> int:
    """How many of the axes have more than one element."""
    return sum(shape[axis] > 1 for axis in axes)
