"""Multiply-accumulates counted from the traced program.

One multiply-accumulate (MAC) is one product of a convolution or matrix product; a FLOP count would be twice that.
Taps that fall on padding count unless told otherwise; elementwise work and pooling are left out. Loops count as often
as they run, a choice as its most expensive branch.

A transposed convolution counts every pixel once for every tap, whatever zeros and padding its form as a correlation
has, and the gradients of a layer count as many products as the layer. Of the operations of this package it is known
which of these each is. Of those of `lax` it is read from their form: a dilated input, or at stride 1 a padding by all
of the window but one tap on every side, are taken for a transposed convolution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnjax.analysis.program import Equation, Program
from cnnjax.analysis.reach.sliding import tap_positions


def multiply_accumulates(program: Program, *, padding: bool = True) -> tuple[int, ...]:
    """MACs of every equation of a program, for the whole batch it was traced with.

    Without `padding`, taps of convolutions that fall beyond the input are not counted. The body of a while loop counts
    once (see `data_dependent_loops`).
    """
    return tuple(_count(program, equation, padding) for equation in program.equations)


def data_dependent_loops(program: Program) -> tuple[str, ...]:
    """Loops that run as often as the data says, of which one turn is counted."""
    found: dict[str, None] = {}
    for equation in program.equations:
        if equation.primitive == "while":
            found["while"] = None
        for inner in equation.inner:
            found |= dict.fromkeys(data_dependent_loops(inner))
    return tuple(found)


def _count(program: Program, equation: Equation, padding: bool) -> int:
    inputs = [program.shapes[value] for value in equation.inputs]
    outputs = [program.shapes[value] for value in equation.outputs]
    match equation.primitive:
        case "conv_general_dilated":
            return _convolution(equation.params, inputs[0], inputs[1], outputs[0], padding)
        case "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            return math.prod(outputs[0]) * math.prod(inputs[0][axis] for axis in contracted)
    inner = [sum(multiply_accumulates(each, padding=padding)) for each in equation.inner]
    if equation.primitive == "cond":
        return max(inner)
    return sum(inner) * equation.params.get("length", 1)


def _convolution(
    params: Any, images: Sequence[int], kernel: Sequence[int], output: Sequence[int], padding: bool
) -> int:
    numbers = params["dimension_numbers"]
    batch, features = (output[axis] for axis in numbers.out_spec[:2])
    sizes, outputs, windows = (
        [shape[axis] for axis in spec[2:]]
        for shape, spec in ((images, numbers.lhs_spec), (output, numbers.out_spec), (kernel, numbers.rhs_spec))
    )
    axes = [
        _Axis(size, positions, window, stride, before, dilation, base_dilation)
        for size, positions, window, stride, (before, _), dilation, base_dilation in zip(
            sizes,
            outputs,
            windows,
            params["window_strides"],
            params["padding"],
            params["rhs_dilation"],
            params["lhs_dilation"],
            strict=True,
        )
    ]
    per_axis = _products(params, axes) if padding else [axis.within() for axis in axes]
    return batch * features * kernel[numbers.rhs_spec[1]] * math.prod(per_axis)


@dataclass(frozen=True)
class _Axis:
    """One axis of a convolution: output o and tap t meet at place `o * stride - before + t * dilation`.

    Pixel i of `size` lies at the place `i * base_dilation`.
    """

    size: int
    outputs: int
    window: int
    stride: int
    before: int
    dilation: int
    base_dilation: int

    @property
    def _places(self) -> np.ndarray:
        return tap_positions(self.outputs, self.window, stride=self.stride, before=self.before, dilation=self.dilation)

    def of_outputs(self) -> int:
        """Pairs of an output and a tap that meet a pixel, be it one of the padding."""
        return int((self._places % self.base_dilation == 0).sum())

    def within(self) -> int:
        """Those that meet a pixel of the input."""
        places = self._places
        inside = (places >= 0) & (places <= (self.size - 1) * self.base_dilation)
        return int((inside & (places % self.base_dilation == 0)).sum())

    def of_pixels(self) -> int:
        """Pairs of a pixel and a tap that meet an output, be it one that is cut off."""
        places = np.arange(self.size)[:, None] * self.base_dilation + self.before
        return int(((places - np.arange(self.window) * self.dilation) % self.stride == 0).sum())

    def of_pixels_and_outputs(self) -> int:
        """Pairs of a pixel and an output that a tap joins, be it one beyond the window."""
        places = np.arange(self.size)[:, None] * self.base_dilation + self.before
        return int(((places - np.arange(self.outputs) * self.stride) % self.dilation == 0).sum())

    @property
    def whole_overlap(self) -> bool:
        """Whether the window is slid over all places where it meets the input at all, one by one."""
        reach = (self.window - 1) * self.dilation
        return self.stride == 1 and self.before >= reach and self.outputs >= self.size + reach


def _products(params: Any, axes: Sequence[_Axis]) -> list[int]:
    """By axis, the products of the layer that a convolution is, or is a gradient of; those on its padding count."""
    numbers, result = params["dimension_numbers"], params.get("result")
    of_outputs = [axis.of_outputs() for axis in axes]
    if result is not None:  # which factor of a correlation of this package
        return [axis.of_pixels() for axis in axes] if result == "images" else of_outputs
    dilated = any(axis.base_dilation > 1 for axis in axes)
    # A gradient by the kernel sums over the batch, which lies where channels do else.
    if numbers.lhs_spec[0] > numbers.lhs_spec[1]:
        return [axis.of_pixels_and_outputs() for axis in axes] if dilated else of_outputs
    if dilated or all(axis.whole_overlap for axis in axes):
        return [axis.of_pixels() for axis in axes]
    if params.get("backward") and all(axis.stride == 1 for axis in axes):
        # By the images; padding is the correlation's own where it is less.
        return min([axis.of_pixels() for axis in axes], of_outputs, key=math.prod)
    return of_outputs
