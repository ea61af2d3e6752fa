"""The receptive field of one layer: extents, strides and centres, and the field of any one position."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from cnnjax.analysis import reach as reaching
from cnnjax.analysis.reach import Reach


@dataclass(frozen=True, eq=False)
class AxisField:
    """A layer's receptive field along one input axis, in input pixels.

    Attributes:
        size: extent on the endless plane, the largest over positions.
        smallest: the smallest such extent.
        start: first pixel of the first position's field, negative inside the padding (the effective padding is
            `-start`).
        stride: pixels from one position's field to the next, on average: a `Fraction` after upsampling; None where
            no axis of the layer runs along the input (after flattening or global pooling).
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

    @cached_property
    def lines(self) -> tuple[np.ndarray, np.ndarray]:
        """First and last pixel, on the plane, of each position along the axis."""
        return _lines(self.reach)

    @property
    def centres(self) -> np.ndarray:
        r"""Centre of each position's field, in pixels: $(low + high) / 2$; NaN where a position sees nothing.

        Where the field is uniform that of position u is $-P + u S + (r - 1) / 2$, P the effective padding, S the
        stride, r the size (Araujo et al. 2019).
        """
        low, high = self.lines
        return np.where(low > high, np.nan, (low + high) / 2)

    @property
    def sees_padding(self) -> np.ndarray:
        """Of each position, whether its field reaches beyond the input."""
        low, high = self.lines
        return (low <= high) & ((low < 0) | (high >= self.extent))


@dataclass(frozen=True, eq=False)
class LayerField:
    """Receptive field of one layer: its name, the shape of its output, and a field per spatial axis of the input."""

    name: str
    shape: tuple[int, ...]
    axes: tuple[AxisField, ...]

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

    def check_rows_and_columns(self) -> None:
        """That maps are (batch, rows, columns, channels), rows and columns running along the picture's.

        Raises:
            ValueError: they are not; in another layout, say, or without positions.
        """
        if len(self.shape) != 4 or [axis.reach.axis for axis in self.axes] != [1, 2]:
            raise ValueError(
                f"{self.name} has the shape {self.shape}; expected maps (batch, rows, columns, channels) that run along"
                " the picture's rows and columns"
            )

    @property
    def padding_share(self) -> float:
        """The share of positions whose field reaches beyond the input along any axis."""
        return 1.0 - float(np.prod([1.0 - axis.sees_padding.mean() for axis in self.axes]))

    def box(self, position: Sequence[int] | None = None, *, exact: bool = False) -> tuple[tuple[int, int], ...]:
        """First and last pixel per input axis of the field of a position; of the centre one where None.

        On the endless plane, or, with `exact`, only pixels of the input that it really depends on. A position that sees
        nothing has the field (0, -1).

        Raises:
            ValueError: the position is not one of the layer's.
        """
        bounds = []
        for number, axis in enumerate(self.axes):
            low, high = _lines(axis.reach, exact=True) if exact else axis.lines
            place = self._place(position, number, len(low))
            if place is None:
                seeing = np.flatnonzero(low <= high)  # positions that see nothing have no field
                place = int(seeing[len(seeing) // 2]) if len(seeing) else 0
            bounds.append((int(low[place]), int(high[place])) if low[place] <= high[place] else (0, -1))
        return tuple(bounds)

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
        """The pixel that a position is centred on, per input axis; halves lie between two pixels.

        Raises:
            ValueError: the position is not one of the layer's.
        """
        places = [self._place(position, number, len(axis.centres)) for number, axis in enumerate(self.axes)]
        return tuple(float(axis.centres[place or 0]) for axis, place in zip(self.axes, places, strict=True))

    def position_at(self, pixel: Sequence[float]) -> tuple[int, ...]:
        """The position whose field's centre is nearest to a pixel, per input axis; the first of equally near ones.

        Raises:
            ValueError: the pixel has another number of axes than the input.
        """
        if len(pixel) != len(self.axes):
            raise ValueError(f"pixel={tuple(pixel)}; expected {len(self.axes)} numbers, one per spatial axis")
        return tuple(int(np.nanargmin(abs(axis.centres - at))) for axis, at in zip(self.axes, pixel, strict=True))

    def _place(self, position: Sequence[int] | None, number: int, count: int) -> int | None:
        if position is None:
            return None
        if len(position) != len(self.axes):
            raise ValueError(
                f"position={tuple(position)}; {self.name} has {len(self.axes)} spatial axes, and needs as many numbers"
            )
        place = position[number]
        if self.axes[number].reach.axis is None and self.axes[number].stride is None and count == 1:
            return 0
        if not 0 <= place < count:
            raise ValueError(f"position={tuple(position)}; {self.name} has {count} positions along axis {number}")
        return place


def layer_field(name: str, shape: tuple[int, ...], image: Sequence[int], reaches: Sequence[Reach]) -> LayerField:
    """The field of a value from its reach along each spatial axis of an image of that shape."""
    axes = (_axis_field(reach, extent) for reach, extent in zip(reaches, image[1:-1], strict=True))
    return LayerField(name, shape, tuple(axes))


def _axis_field(reach: Reach, extent: int) -> AxisField:
    (low, high), stride = _lines(reach), reach.stride
    sizes = np.maximum(high - low + 1, 0)
    evenly = reach.axis is None or len(np.unique(np.diff(low))) < 2
    return AxisField(
        size=int(sizes.max()),
        smallest=int(sizes.min()),
        start=int(low[sizes > 0][0]) if sizes.any() else 0,
        stride=stride.numerator if stride is not None and stride.denominator == 1 else stride,
        uniform=bool(sizes.min() == sizes.max()) and evenly,
        extent=extent,
        reach=reach,
    )


def _lines(reach: Reach, *, exact: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """First and last pixel of each position along the axis: all channels and other axes together.

    Where no axis runs along the input, every element stands for itself.
    """
    if reach.axis is not None:
        reach = reaching.reduce(reach, [axis for axis in range(reach.rank) if axis != reach.axis])
    low, high = (reach.low, reach.high) if exact else (reach.plane_low, reach.plane_high)
    return low.ravel(), high.ravel()
