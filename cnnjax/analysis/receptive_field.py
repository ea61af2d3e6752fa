"""Receptive fields read from the program itself: which input pixels every layer's every position depends on.

Reference: Araujo, Norris and Sim (2019), "Computing Receptive Fields of Convolutional Neural Networks", Distill.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from cnnjax.analysis import reach as reaching
from cnnjax.analysis.program import Program, trace
from cnnjax.analysis.propagation import propagate
from cnnjax.analysis.reach import Reach
from cnnjax.analysis.table import format_extent, format_table
from cnnjax.models import Model


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
        reach: the intervals themselves, for every element of the output: `reach.low` and `reach.high` are the first
            and last pixel it really depends on (low > high where it depends on none), `reach.plane_low` and
            `reach.plane_high` the same on the endless plane; arrays that broadcast to the output's shape.
    """

    size: int
    smallest: int
    start: int
    stride: int | Fraction | None
    uniform: bool
    reach: Reach


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

    def box(self) -> tuple[tuple[int, int], ...]:
        """First and last pixel per input axis, on the endless plane, of the field of the centre position."""
        bounds = []
        for axis in self.axes:
            low, high = _lines(axis.reach)
            low, high = low[low <= high], high[low <= high]  # positions that see nothing have no field
            centre = len(low) // 2
            bounds.append((int(low[centre]), int(high[centre])) if len(low) else (0, -1))
        return tuple(bounds)


@dataclass(frozen=True, eq=False)
class ReceptiveFields:
    """Receptive fields of every layer of a function and of its outputs; prints as a table.

    `unknown` names the primitives that no rule covers: what they give is taken to see all that they are given.
    """

    input_shape: tuple[int, ...]
    layers: tuple[LayerField, ...]
    outputs: tuple[LayerField, ...]
    unknown: tuple[str, ...]

    def __getitem__(self, name: str) -> LayerField:
        """The layer of that name; KeyError lists near matches."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        known = [layer.name for layer in self.layers]
        near = get_close_matches(name, known, n=3) or known
        raise KeyError(f"no layer is named {name!r}; there are {', '.join(near)}")

    def rows(self) -> list[dict[str, Any]]:
        """One record per layer, then per output that is no layer's, of plain values."""
        named = {layer.name for layer in self.layers}
        others = [output for output in self.outputs if output.name not in named]
        return [
            {
                "layer": layer.name,
                "shape": "x".join(map(str, layer.shape)),
                "size": format_extent(layer.size),
                "stride": format_extent(layer.stride),
                "start": format_extent(layer.start, separator=","),
                "uniform": layer.uniform,
            }
            for layer in (*self.layers, *others)
        ]

    def __str__(self) -> str:
        rows = [[*map(str, list(row.values())[:-1]), "" if row["uniform"] else "varies"] for row in self.rows()]
        table = format_table(("layer", "output", "receptive field", "stride", "start", "positions"), rows)
        if self.unknown:
            table += f"\nNo rule for {', '.join(self.unknown)}: taken to see everything they are given."
        return table


def receptive_field(
    function: Callable[..., Any] | Model, shape: Sequence[int], *, dtype: DTypeLike = jnp.float32
) -> ReceptiveFields:
    """Receptive fields of a function of one array, or of a Flax model (whose variables stay abstract).

    `shape` is (batch, *spatial, channels). Layers are the named scopes (Flax opens one around every module);
    convolutions, pools, products and reductions outside them are named after their primitive. Nothing is computed:
    the traced program is read, so any JAX function will do.

    Raises:
        ValueError: `shape` has no spatial axes.

    >>> from jax import lax
    >>> fields = receptive_field(lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3, 1), (1, 2, 1), "VALID"), (1, 9, 1))
    >>> fields.outputs[0].size, fields.outputs[0].stride
    ((3,), (2,))
    """
    return fields_of(trace(function, shape, dtype=dtype))


def fields_of(program: Program) -> ReceptiveFields:
    """`receptive_field` of a program that is traced already."""
    reaches, unknown = propagate(program)

    def field(name: str, value: int) -> LayerField | None:
        reach = reaches[value]
        return None if reach is None else LayerField(name, program.shapes[value], tuple(map(_axis_field, reach)))

    found = program.layers()
    layer_of = {layer.value: layer.name for layer in found}
    layers = [field(layer.name, layer.value) for layer in found]
    outputs = [field(layer_of.get(value, f"(output){name}"), value) for name, value in program.outputs]
    return ReceptiveFields(
        program.shapes[program.image],
        tuple(layer for layer in layers if layer is not None),
        tuple(output for output in outputs if output is not None),
        unknown,
    )


def _axis_field(reach: Reach) -> AxisField:
    (low, high), stride = _lines(reach), reach.stride
    sizes = np.maximum(high - low + 1, 0)
    evenly = reach.axis is None or len(np.unique(np.diff(low))) < 2
    return AxisField(
        size=int(sizes.max()),
        smallest=int(sizes.min()),
        start=int(low[sizes > 0][0]) if sizes.any() else 0,
        stride=stride.numerator if stride is not None and stride.denominator == 1 else stride,
        uniform=bool(sizes.min() == sizes.max()) and evenly,
        reach=reach,
    )


def _lines(reach: Reach) -> tuple[np.ndarray, np.ndarray]:
    """First and last pixel, on the plane, of each position along the axis: all channels and other axes together.

    Where no axis runs along the input, every element stands for itself.
    """
    if reach.axis is not None:
        reach = reaching.reduce(reach, [axis for axis in range(reach.rank) if axis != reach.axis])
    return reach.plane_low.ravel(), reach.plane_high.ravel()
