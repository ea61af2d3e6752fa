"""The receptive field of one layer: extents, strides and centres, and the field of any one position."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from cnnjax.analysis.reach import intervals
from cnnjax.analysis.reach.intervals import Reach
from cnnjax.view.table import format_extent


@dataclass(frozen=True, eq=False)
class AxisField:
    """A layer's receptive field along one input axis, in input pixels.

    Attributes:
        size: extent on the endless plane, the largest over positions.
        smallest: the smallest such extent.
        start: first pixel of the first position's field, negative inside the padding (the effective padding is
            `-start`).
        stride: pixels from one position's field to the next, on average: a `Fraction` after upsampling; None where
            no axis of the layer runs along the input (after flattening or global pooling), or not evenly.
        uniform: whether every position has the same size and stride.
        extent: pixels of the input along this axis.
        reach: the intervals themselves, for every element of the output: `reach.low` and `reach.high` are the first
            and last pixel it really depends on (low > high where it depends on none), `reach.plane_low` and
            `reach.plane_high` the same on the endless plane; arrays that broadcast to the output's shape.
    """

    size: int
    smallest: int
    start: int
    stride: int | Fraction | None
    uniform: bool
    extent: int
    reach: Reach

    def __repr__(self) -> str:
        return f"AxisField(size={self.size}, stride={self.stride}, start={self.start}, extent={self.extent})"

    @cached_property
    def lines(self) -> tuple[np.ndarray, np.ndarray]:
        """First and last pixel, on the plane, of each place along the layer's axis: all that is at it together.

        Where no axis runs along the input, every element stands for itself.
        """
        reach = self.reach if self.reach.axis is None else intervals.line(self.reach, self.reach.axis)
        return reach.plane_low.ravel(), reach.plane_high.ravel()

    @property
    def centres(self) -> np.ndarray:
        r"""Centre of each of `lines`, in pixels: $(low + high) / 2$; NaN where a place sees nothing.

        Where the field is uniform that of position u is $-P + u S + (r - 1) / 2$, P the effective padding, S the
        stride, r the size (Araujo et al. 2019).
        """
        low, high = self.lines
        return np.where(low > high, np.nan, (low + high) / 2)

    @property
    def sees_padding(self) -> np.ndarray:
        """Of each of `lines`, whether it reaches beyond the input."""
        low, high = self.lines
        return (low <= high) & ((low < 0) | (high >= self.extent))


@dataclass(frozen=True, eq=False)
class LayerField:
    """Receptive field of one layer: its name, the shape of its output, and a field per spatial axis of the input.

    A position is a place of the layer's own map: one number for each of its axes `position_axes`, in the order of
    the map, which is not the picture's where axes were exchanged. Boxes and centres are in the order of the picture.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[AxisField, ...]

    def __repr__(self) -> str:
        stride, size = format_extent(self.stride), format_extent(self.size)
        return f"LayerField({self.name!r}, shape={self.shape}, size={size}, stride={stride}, axes={len(self.axes)})"

    @property
    def size(self) -> tuple[int, ...]:
        """Extent per input axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def stride(self) -> tuple[int | Fraction | None, ...]:
        """Stride per input axis."""
        return tuple(axis.stride for axis in self.axes)

    @property
    def start(self) -> tuple[int, ...]:
        """First pixel of the first position's field per input axis."""
        return tuple(axis.start for axis in self.axes)

    @property
    def uniform(self) -> bool:
        """Whether all positions have a field of the same size, evenly spaced."""
        return all(axis.uniform for axis in self.axes)

    @cached_property
    def position_axes(self) -> tuple[int, ...]:
        """The axes of the map that positions lie along.

        Rows and columns of maps (batch, *spatial, channels) or (batch, channels, *spatial); else every axis along
        which fields change, but for the channels'. A pooled vector has none, and one field; of a flattened one, every
        element is a position.
        """
        return _position_axes(self.shape, [axis.reach for axis in self.axes])

    @property
    def positions(self) -> tuple[int, ...]:
        """How many positions there are along each of `position_axes`."""
        return tuple(self.shape[axis] for axis in self.position_axes)

    @property
    def middle(self) -> tuple[int, ...]:
        """The position in the middle of those that see anything."""
        seeing = np.argwhere(self._seeing)
        if not len(seeing):
            return tuple(size // 2 for size in self.positions)
        centre = [places[len(places) // 2] for places in map(np.unique, seeing.T)]
        return tuple(map(int, seeing[((seeing - centre) ** 2).sum(axis=1).argmin()]))

    def check_rows_and_columns(self) -> None:
        """That maps are (batch, rows, columns, channels), rows and columns running along the picture's.

        Raises:
            ValueError: they are not; in another layout, say, or without positions.
        """
        running = [axis.reach.axis for axis in self.axes]
        if len(self.shape) != 4 or running != [1, 2]:
            found = "" if None in running or len(running) != 2 else " (here along axes {} and {})".format(*running)
            raise ValueError(
                f"{self.name} has the shape {self.shape}; expected maps (batch, rows, columns, channels) that run along"
                f" the picture's rows and columns{found}"
            )

    @property
    def padding_share(self) -> float:
        """The share of positions whose field reaches beyond the input along any axis."""
        beyond = np.zeros(self.positions, bool)
        for axis, (low, high) in zip(self.axes, self._boxes, strict=True):
            beyond |= (low <= high) & ((low < 0) | (high >= axis.extent))
        return float(beyond.mean())

    def box(self, position: Sequence[int] | None = None, *, exact: bool = False) -> tuple[tuple[int, int], ...]:
        """First and last pixel per input axis of the field of a position; of the middle one where None.

        On the endless plane, or, with `exact`, only pixels of the input that it really depends on. A position that sees
        nothing has the field (0, -1).

        Raises:
            ValueError: the position is not one of the layer's.
        """
        place = self.middle if position is None else self._place(position)
        bounds = self._exact_boxes if exact else self._boxes
        box = [(int(_at(low, place)), int(_at(high, place))) for low, high in bounds]
        return tuple(box) if all(low <= high for low, high in box) else ((0, -1),) * len(box)

    def centre_position(self) -> tuple[int | None, ...]:
        """The position whose field `box()` gives, per input axis; None where no axis of the layer runs along it."""
        places: list[int | None] = []
        for axis in self.axes:
            low, high = axis.lines
            seeing = np.flatnonzero(low <= high)
            middle = int(seeing[len(seeing) // 2]) if len(seeing) else 0
            places.append(None if axis.reach.axis is None else middle)
        return tuple(places)

    def centre(self, position: Sequence[int]) -> tuple[float, ...]:
        """The pixel that a position is centred on, per input axis; halves lie between two pixels, NaN is nowhere.

        Raises:
            ValueError: the position is not one of the layer's.
        """
        place = self._place(position)
        return tuple(float(_at(centres, place)) for centres in self._centres)

    def position_at(self, pixel: Sequence[float]) -> tuple[int, ...]:
        """The position whose field's centre is nearest to a pixel; the first of equally near ones.

        Raises:
            ValueError: the pixel has another number of axes than the input, or no position sees anything.
        """
        if len(pixel) != len(self.axes):
            raise ValueError(f"pixel={tuple(pixel)}; expected {len(self.axes)} numbers, one per spatial axis")
        if not self._seeing.any():
            raise ValueError(f"no position of {self.name} sees anything of the input")
        distances = sum((centres - at) ** 2 for centres, at in zip(self._centres, pixel, strict=True))
        nearest = np.nanargmin(np.broadcast_to(distances, self.positions))
        return tuple(map(int, np.unravel_index(nearest, self.positions)))

    @cached_property
    def _boxes(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """First and last pixel on the plane, per input axis: arrays that broadcast to `positions`."""
        return [_of_positions(axis.reach.plane_low, axis.reach.plane_high, self.position_axes) for axis in self.axes]

    @cached_property
    def _exact_boxes(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [_of_positions(axis.reach.low, axis.reach.high, self.position_axes) for axis in self.axes]

    @cached_property
    def _centres(self) -> list[np.ndarray]:
        return [np.where(low > high, np.nan, (low + high) / 2) for low, high in self._boxes]

    @property
    def _seeing(self) -> np.ndarray:
        """Of each position, whether it sees anything."""
        seeing = np.ones(self.positions, bool)
        for low, high in self._boxes:
            seeing &= low <= high
        return seeing

    def _place(self, position: Sequence[int]) -> tuple[int, ...]:
        position = tuple(position)
        if not self.position_axes and position == (0,) * len(self.axes):
            return ()  # the one field of a pooled vector
        if len(position) != len(self.position_axes):
            axes = ", ".join(map(str, self.position_axes)) or "none"
            raise ValueError(
                f"position={position}; {self.name} has {len(self.position_axes)} spatial axes ({axes} of its shape"
                f" {self.shape}), and needs as many numbers, in this order"
            )
        for number, (place, count) in enumerate(zip(position, self.positions, strict=True)):
            if place not in range(count):
                raise ValueError(
                    f"position={position}; {self.name} has {count} positions along axis {number}, counted from 0"
                )
        return tuple(map(int, position))


def layer_field(name: str, shape: tuple[int, ...], image: Sequence[int], reaches: Sequence[Reach]) -> LayerField:
    """The field of a value from its reach along each spatial axis of an image of that shape."""
    positions = _position_axes(shape, reaches)
    axes = (_axis_field(reach, extent, positions) for reach, extent in zip(reaches, image[1:-1], strict=True))
    return LayerField(name, shape, tuple(axes))


def _axis_field(reach: Reach, extent: int, positions: Sequence[int]) -> AxisField:
    (low, high), stride = _of_positions(reach.plane_low, reach.plane_high, positions), reach.stride
    sizes = np.maximum(high - low + 1, 0)
    evenly = reach.axis is None or len(np.unique(np.diff(low, axis=positions.index(reach.axis)))) < 2
    return AxisField(
        size=int(sizes.max()),
        smallest=int(sizes.min()),
        start=int(low[sizes > 0][0]) if sizes.any() else 0,
        stride=stride.numerator if stride is not None and stride.denominator == 1 else stride,
        uniform=bool(sizes.min() == sizes.max()) and evenly,
        extent=extent,
        reach=reach,
    )


def _position_axes(shape: Sequence[int], reaches: Sequence[Reach]) -> tuple[int, ...]:
    """See `LayerField.position_axes`."""
    running = {reach.axis for reach in reaches if reach.axis is not None}
    if running and len(shape) == len(reaches) + 2:
        channels_last, channels_first = range(1, len(shape) - 1), range(2, len(shape))
        for spatial in (channels_last, channels_first):
            if running <= set(spatial):
                return tuple(spatial)
    changing = {axis for axis in range(len(shape)) if any(reach.low.shape[axis] > 1 for reach in reaches)}
    return tuple(sorted(running | changing.intersection(range(1, len(shape) - 1)) if running else changing))


def _of_positions(low: np.ndarray, high: np.ndarray, positions: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Bounds with the axes `positions` alone: what all elements at a position see together."""
    others = tuple(axis for axis in range(low.ndim) if axis not in positions)
    return np.asarray(low.min(axis=others)), np.asarray(high.max(axis=others))


def _at(array: np.ndarray, place: Sequence[int]) -> np.generic:
    """The element of a position, of an array that has size 1 along axes where nothing changes."""
    return array[tuple(at if size > 1 else 0 for at, size in zip(place, array.shape, strict=True))]
