"""The holes of receptive fields: which pixels between the ends of a field a unit does not depend on.

Dilated windows leave holes, and so do strides larger than a window. A field is an interval (see `intervals`); here its
pixels are told apart one by one. A second program reads as many pictures as there are pixels along an axis, the one
pixel of each that is asked about marked with 0 and all others with 1: the least mark that a unit sees tells whether it
sees that pixel.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import numpy as np
from jax.typing import DTypeLike

from cnnjax.analysis.nets import Net, variables_of
from cnnjax.analysis.program import Program
from cnnjax.analysis.reach.intervals import Reach, of_input
from cnnjax.analysis.reach.propagation import reach_along
from cnnjax.analysis.tracing import trace_call
from cnnjax.models import Model, inference_options


def may_have_holes(program: Program, reaches: Sequence[Sequence[Reach] | None]) -> bool:
    """Whether a convolution or a pool has taps that lie farther apart than what each of them sees is wide.

    Args:
        program: what is read.
        reaches: what every value sees along every spatial axis (see `propagate`).
    """
    for equation in program.equations:
        params, seen = equation.params, reaches[equation.inputs[0]] if equation.inputs else None
        if equation.primitive == "conv_general_dilated":
            numbers, kernel = params["dimension_numbers"], program.shapes[equation.inputs[1]]
            axes, gaps = numbers.lhs_spec[2:], params["rhs_dilation"]
            windows = [kernel[axis] for axis in numbers.rhs_spec[2:]]
        elif equation.primitive.startswith("reduce_window"):
            windows, gaps = params["window_dimensions"], params["window_dilation"]
            axes = range(len(windows))
        else:
            continue
        for reach in seen or ():
            for axis, window, gap in zip(axes, windows, gaps, strict=True):
                if axis == reach.axis and reach.stride is not None and window > 1:
                    widest = (reach.plane_high - reach.plane_low + 1).max()
                    if abs(reach.stride) * gap > widest:
                        return True
    return False


def seen_pixels(
    net: Net,
    shape: Sequence[int],
    places: Mapping[str, Sequence[int | None]],
    *,
    gates: bool,
    dtype: DTypeLike,
) -> dict[str, tuple[np.ndarray, ...]]:
    """Of some layers' units, per spatial axis, whether each pixel along it is seen by one, whatever the other axes.

    Args:
        net: whose layers.
        shape: of its input.
        places: the unit by the layer's name, its position per spatial axis; None where no axis runs along the input.
        gates: see `receptive_field`.
        dtype: of its input.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in places}
    for number, extent in enumerate(shape[1:-1]):
        program = _of_many(net, (extent, *shape), dtype)
        marks = 1 - np.eye(extent, dtype=int)
        axis = number + 2
        marks = marks.reshape([extent if dim in (0, axis) else 1 for dim in range(len(shape) + 1)])
        first = of_input(len(shape) + 1, axis, extent)
        reaches = reach_along(program, Reach(marks, marks, marks, marks, first.axis, first.stride), extent, gates=gates)
        for layer in program.layers():
            reach = reaches[layer.value]
            if layer.name in places and reach is not None:
                low, place = reach.low, places[layer.name][number]
                if place is not None and reach.axis is not None:
                    low = low.take([min(place, low.shape[reach.axis] - 1)], axis=reach.axis)
                found[layer.name].append(low.reshape(low.shape[0], -1).min(axis=1) == 0)
    return {name: tuple(masks) for name, masks in found.items() if len(masks) == len(shape) - 2}


def _of_many(net: Net, shape: Sequence[int], dtype: DTypeLike) -> Program:
    """The program that calls a net on each of several inputs, the first axis counting them."""
    inputs = jax.ShapeDtypeStruct(tuple(shape), dtype)
    if not isinstance(net, Model):
        return trace_call(jax.vmap(net), inputs)
    apply = partial(net.apply, **inference_options(net))
    return trace_call(jax.vmap(apply, in_axes=(None, 0)), variables_of(net, shape[1:], dtype), inputs)
