"""How far values reach into the input: intervals of input positions, and how reshaping and sliding carry them.

A value's reach along one input axis is an interval [low, high] for every element of the value. The arrays have the
value's rank and size 1 wherever the interval does not change, so a feature map of any width costs one short array.

Two intervals are kept. The exact one holds the input positions that an element really depends on. The plane one
is what the field calls the receptive field: the same on a plane, where the input and every padding go on for ever,
so that it does not shrink at the border.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np

# An empty interval is [NOWHERE, -NOWHERE]; minimum and maximum then need no special case.
NOWHERE = 2**40

Bound: TypeAlias = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Reach:
    """Where along one input axis every element of a value looks.

    `low`, `high`: exact intervals; `plane_low`, `plane_high`: on the endless plane. `axis`: the value's axis that
    runs along the input axis, if one does; `stride`: input positions per step on it.
    """

    low: np.ndarray
    high: np.ndarray
    plane_low: np.ndarray
    plane_high: np.ndarray
    axis: int | None
    stride: Fraction | None

    def __post_init__(self) -> None:
        """Gives all four bounds one shape."""
        bounds = np.broadcast_arrays(self.low, self.high, self.plane_low, self.plane_high)
        for name, bound in zip(("low", "high", "plane_low", "plane_high"), bounds, strict=True):
            object.__setattr__(self, name, bound)

    @property
    def rank(self) -> int:
        """Axes of the value."""
        return self.low.ndim

    def map(self, lower: Bound, upper: Bound | None = None, *, axis: int | None, stride: Fraction | None) -> "Reach":
        """The same array operation on all four bounds; `upper` where the upper bounds need another."""
        upper = upper or lower
        return Reach(lower(self.low), upper(self.high), lower(self.plane_low), upper(self.plane_high), axis, stride)


def of_input(rank: int, axis: int, size: int) -> Reach:
    """Every input position sees itself."""
    positions = np.arange(size).reshape([size if dim == axis else 1 for dim in range(rank)])
    return Reach(positions, positions, positions, positions, axis, Fraction(1))


def hull(reach: Reach, rank: int) -> Reach:
    """All that any element sees, for every element of a value of `rank` axes."""
    ones = (1,) * rank
    return reach.map(
        lambda low: low.min(keepdims=True).reshape(ones),
        lambda high: high.max(keepdims=True).reshape(ones),
        axis=None,
        stride=None,
    )


def join(reaches: Sequence[Reach]) -> Reach:
    """Element by element, the smallest intervals that hold all the given ones, of values of one rank."""
    lead = next((reach for reach in reaches if reach.axis is not None), reaches[0])
    return _combine(reaches, _least, _greatest, lead)


def reduce(reach: Reach, axes: Sequence[int]) -> Reach:
    """Elements along `axes` become one that sees all they saw; the axes stay, with size 1."""
    lost = reach.axis in axes
    return reach.map(
        lambda low: low.min(tuple(axes), keepdims=True),
        lambda high: high.max(tuple(axes), keepdims=True),
        axis=None if lost else reach.axis,
        stride=None if lost else reach.stride,
    )


def rearrange(reach: Reach, axes: Sequence[int | None]) -> Reach:
    """Builds a value whose axis i is the old axis `axes[i]`, or a new one; old axes left out must have size 1."""
    kept = [axis for axis in axes if axis is not None]

    def move(bound: np.ndarray) -> np.ndarray:
        dropped = tuple(axis for axis in range(bound.ndim) if axis not in kept)
        order = [sorted(kept).index(axis) for axis in kept]
        moved = bound.squeeze(dropped).transpose(order)
        return moved.reshape([1 if axis is None else bound.shape[axis] for axis in axes])

    axis = axes.index(reach.axis) if reach.axis in kept else None
    return reach.map(move, axis=axis, stride=None if axis is None else reach.stride)


def nowhere(rank: int) -> Reach:
    """A value of `rank` axes that sees nothing."""
    low, high = (np.full((1,) * rank, bound) for bound in (NOWHERE, -NOWHERE))
    return Reach(low, high, low, high, None, None)


def mix_groups(reach: Reach, axis: int, groups: int, outputs: int) -> Reach:
    """Channels along `axis` become `outputs` channels, each of which sees all of its own group's."""
    inputs = reach.low.shape[axis]
    if inputs == 1 or groups == 1:
        return reduce(reach, [axis])

    def mix(extreme: Callable) -> Bound:
        def apply(bound: np.ndarray) -> np.ndarray:
            lines = np.moveaxis(bound, axis, 0)
            grouped = extreme(lines.reshape(groups, inputs // groups, *lines.shape[1:]), axis=1)
            return np.moveaxis(np.repeat(grouped, outputs // groups, axis=0), 0, axis)

        return apply

    lost = reach.axis == axis
    return reach.map(mix(np.min), mix(np.max), axis=None if lost else reach.axis, stride=None if lost else reach.stride)


def concatenate(reaches: Sequence[Reach | None], sizes: Sequence[int], dimension: int, rank: int) -> Reach:
    """Values one after the other along an axis; None sees nothing."""
    # The largest piece says how the whole runs: a reflected edge runs backwards, and is small.
    present = [(reach, size) for reach, size in zip(reaches, sizes, strict=True) if reach is not None]
    lead, _ = max(present, key=lambda piece: (piece[0].axis is not None, piece[1]))
    full = [nowhere(rank) if reach is None else reach for reach in reaches]

    def stack(bounds: Sequence[np.ndarray]) -> np.ndarray:
        shape = np.broadcast_shapes(*(_without(bound.shape, dimension) for bound in bounds))
        wide = [
            np.broadcast_to(bound, [size if dim == dimension else shape[dim] for dim in range(rank)])
            for bound, size in zip(bounds, sizes, strict=True)
        ]
        return _compress(np.concatenate(wide, dimension), keep=lead.axis)

    return _combine(full, stack, stack, lead)


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
        return _compress(np.broadcast_to(bound, wide).reshape(shape), keep=axis)

    stride = None if axis is None or reach.stride is None else reach.stride * factor
    return reach.map(move, axis=axis, stride=stride)


def tap_positions(outputs: int, window: int, *, stride: int, before: int, dilation: int) -> np.ndarray:
    """Where each tap (column) of a window falls at each output position (row): `j * stride - before + t * dilation`.

    >>> tap_positions(2, 3, stride=2, before=1, dilation=1).tolist()
    [[-1, 0, 1], [1, 2, 3]]
    """
    return np.arange(outputs)[:, None] * stride - before + np.arange(window)[None, :] * dilation


def slide(
    reach: Reach,
    dimension: int,
    size: int,
    outputs: int,
    *,
    window: int,
    stride: int = 1,
    before: int = 0,
    dilation: int = 1,
    base_dilation: int = 1,
) -> Reach:
    """A window of taps `dilation` apart slides along one axis of a value that has `size` elements there.

    Output j holds what taps `j * stride - before + t * dilation` see, on the axis stretched by `base_dilation`;
    taps between the stretched elements see nothing. Beyond the ends the exact reach sees nothing, and the plane
    goes on with the value's own stride.
    """
    step = reach.stride if reach.axis == dimension else None
    taps = tap_positions(outputs, window, stride=stride, before=before, dilation=dilation)
    between = taps % base_dilation != 0
    taps = taps // base_dilation
    outside = (taps < 0) | (taps >= size)
    exact = between | outside
    if step is None and reach.low.shape[dimension] == 1 and not exact.all(axis=1).any():
        return reach
    plane = exact if step is None else between

    def gather(
        bound: np.ndarray, empty: int, extreme: Callable, hidden: np.ndarray, beyond: Fraction | None
    ) -> np.ndarray:
        line = np.moveaxis(bound, dimension, 0)
        line = np.broadcast_to(line, (size, *line.shape[1:]))
        seen = _continued(line, taps, beyond)
        wide = (...,) + (None,) * (line.ndim - 1)
        return np.moveaxis(extreme(np.where(hidden[wide] | (abs(seen) >= NOWHERE), empty, seen), axis=1), 0, dimension)

    return Reach(
        gather(reach.low, NOWHERE, np.min, exact, None),
        gather(reach.high, -NOWHERE, np.max, exact, None),
        gather(reach.plane_low, NOWHERE, np.min, plane, step),
        gather(reach.plane_high, -NOWHERE, np.max, plane, step),
        reach.axis,
        reach.stride if step is None else step * stride / base_dilation,
    )


def take(reach: Reach, dimension: int, start: int, stop: int, step: int) -> Reach:
    """A slice of one axis."""
    index = (slice(None),) * dimension + (slice(start, stop, step),)
    stride = reach.stride * step if reach.axis == dimension and reach.stride is not None else reach.stride
    return reach.map(
        lambda bound: bound[index] if bound.shape[dimension] > 1 else bound, axis=reach.axis, stride=stride
    )


def reverse(reach: Reach, dimensions: Sequence[int]) -> Reach:
    """The value read backwards along some axes."""
    turned = reach.axis in dimensions and reach.stride is not None
    return reach.map(
        lambda bound: np.flip(bound, tuple(dimensions)),
        axis=reach.axis,
        stride=-reach.stride if turned and reach.stride is not None else reach.stride,
    )


def _continued(line: np.ndarray, taps: np.ndarray, stride: Fraction | None) -> np.ndarray:
    """What taps see along the first axis, those beyond its ends as if the value went on.

    A stride of a/b repeats itself every b elements: beyond an end, the last elements that many apart are continued
    with their own difference (zero where all see the same), or with the stride where there are too few.
    """
    size = len(line)
    inside = np.clip(taps, 0, size - 1)
    if stride is None or (taps == inside).all():
        return line[inside]
    period = stride.denominator if stride.denominator <= size else 1
    beyond = taps - inside
    periods = np.sign(beyond) * -(-abs(beyond) // period)
    stand_in = taps - periods * period
    seen = line[stand_in]
    shift: np.ndarray | int = int(stride * period)
    if 2 * period <= size:
        inner = stand_in - np.sign(beyond) * period
        shift = np.sign(beyond)[(..., *(None,) * (line.ndim - 1))] * (seen - line[inner])
        empty = (abs(seen) >= NOWHERE) | (abs(line[inner]) >= NOWHERE)
        shift = np.where(empty, int(stride * period), shift)
    moved = seen + periods[(..., *(None,) * (line.ndim - 1))] * shift
    return np.where(abs(seen) >= NOWHERE, seen, moved)


def _combine(
    reaches: Sequence[Reach],
    lower: Callable[[Sequence[np.ndarray]], np.ndarray],
    upper: Callable[[Sequence[np.ndarray]], np.ndarray],
    lead: Reach,
) -> Reach:
    """One reach from several, bound by bound; it runs along the input as `lead` does."""
    return Reach(
        lower([reach.low for reach in reaches]),
        upper([reach.high for reach in reaches]),
        lower([reach.plane_low for reach in reaches]),
        upper([reach.plane_high for reach in reaches]),
        lead.axis,
        lead.stride,
    )


def _least(bounds: Sequence[np.ndarray]) -> np.ndarray:
    return functools.reduce(np.minimum, bounds)


def _greatest(bounds: Sequence[np.ndarray]) -> np.ndarray:
    return functools.reduce(np.maximum, bounds)


def _without(shape: Sequence[int], dimension: int) -> tuple[int, ...]:
    return tuple(1 if dim == dimension else size for dim, size in enumerate(shape))


def _compress(bound: np.ndarray, *, keep: int | None) -> np.ndarray:
    """Size 1 on every axis along which nothing changes, but for the axis that runs along the input."""
    for dim in range(bound.ndim):
        if dim != keep and bound.shape[dim] > 1:
            first = bound[(slice(None),) * dim + (slice(0, 1),)]
            if (bound == first).all():
                bound = first
    return bound


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
    but not into the last axis, which is the channels' (a flattening).
    """
    for olds, news in groups:
        if axis not in olds:
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
