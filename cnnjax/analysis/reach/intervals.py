"""How far values reach into the input: intervals of input positions, and how reshaping and sliding carry them.

A value's reach along one input axis is an interval [low, high] for every element of the value. The arrays have the
value's rank and size 1 wherever the interval does not change, so a feature map of any width costs one short array.

Two intervals are kept. The exact one holds the input positions that an element really depends on. The plane one
is what the field calls the receptive field: the same on a plane, where the input and every padding go on for ever,
so that it does not shrink at the border.
"""

import functools
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
    runs along the input axis, if one does; `stride`: input positions per step on it, None where steps are irregular.
    The intervals may change along other axes too, as where a block of a map was blanked.
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

    def __repr__(self) -> str:
        return f"Reach(shape={self.low.shape}, axis={self.axis}, stride={self.stride})"

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
    if not axes:
        return reach
    lost = reach.axis in axes
    return reach.map(
        lambda low: low.min(tuple(axes), keepdims=True),
        lambda high: high.max(tuple(axes), keepdims=True),
        axis=None if lost else reach.axis,
        stride=None if lost else reach.stride,
    )


def line(reach: Reach, axis: int) -> Reach:
    """What the elements at each place along one axis see, those of all other axes together."""
    return reduce(reach, [other for other in range(reach.rank) if other != axis])


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


def everything(rank: int, size: int) -> Reach:
    """A value of `rank` axes whose every element sees all of an input axis of `size`."""
    low, high = np.zeros((1,) * rank, int), np.full((1,) * rank, size - 1)
    return Reach(low, high, low, high, None, None)


def same(one: Reach, other: Reach) -> bool:
    """Whether two values of one shape see the same, on the picture and on the plane."""
    return all((first == second).all() for first, second in zip(bounds_of(one), bounds_of(other), strict=True))


def whole(reach: Reach, shape: Sequence[int], axes: Sequence[int] | None = None) -> Reach:
    """The same, with an interval for every element of the shape, or for every one along some axes."""

    def widen(bound: np.ndarray) -> np.ndarray:
        wanted = range(bound.ndim) if axes is None else axes
        return np.broadcast_to(bound, [shape[dim] if dim in wanted else n for dim, n in enumerate(bound.shape)])

    return reach.map(widen, axis=reach.axis, stride=reach.stride)


def bounds_of(reach: Reach) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All four."""
    return reach.low, reach.high, reach.plane_low, reach.plane_high


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
        return compress(np.concatenate(wide, dimension), keep=lead.axis)

    return _combine(full, stack, stack, lead)


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
    return np.asarray(functools.reduce(np.minimum, bounds))  # of scalars, NumPy gives no array


def _greatest(bounds: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(functools.reduce(np.maximum, bounds))


def _without(shape: Sequence[int], dimension: int) -> tuple[int, ...]:
    return tuple(1 if dim == dimension else size for dim, size in enumerate(shape))


def compress(bound: np.ndarray, *, keep: int | None) -> np.ndarray:
    """Size 1 on every axis along which nothing changes, but for the axis that runs along the input."""
    for dim in range(bound.ndim):
        if dim != keep and bound.shape[dim] > 1:
            first = bound[(slice(None),) * dim + (slice(0, 1),)]
            if (bound == first).all():
                bound = first
    return bound
