"""Multiply-accumulates counted from the traced program.

One multiply-accumulate (MAC) is one product of a convolution or matrix product; a FLOP count would be twice that.
Taps that fall on padding count unless told otherwise, zeros inserted by dilating the input do not; elementwise work
and pooling are left out. Loops count as often as they run, a choice as its most expensive branch.
"""

import math
from collections.abc import Sequence
from typing import Any

from cnnjax.analysis.program import Equation, Program
from cnnjax.analysis.sliding import tap_positions


def multiply_accumulates(program: Program, *, padding: bool = True) -> tuple[int, ...]:
    """MACs of every equation of a program, for the whole batch it was traced with.

    Without `padding`, taps of convolutions that fall beyond the input are not counted. The body of a while loop counts
    once (see `uncounted`).
    """
    return tuple(_count(program, equation, padding) for equation in program.equations)


def uncounted(program: Program) -> tuple[str, ...]:
    """Loops that run as often as the data says, of which one turn is counted."""
    found: dict[str, None] = {}
    for equation in program.equations:
        if equation.primitive == "while":
            found["while"] = None
        for inner in equation.inner:
            found |= dict.fromkeys(uncounted(inner))
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
    axes = zip(numbers.lhs_spec[2:], numbers.out_spec[2:], numbers.rhs_spec[2:], strict=True)
    taps = [
        _taps(
            None if padding else images[in_axis],
            output[out_axis],
            kernel[window_axis],
            stride=params["window_strides"][number],
            before=params["padding"][number][0],
            dilation=params["rhs_dilation"][number],
            base_dilation=params["lhs_dilation"][number],
        )
        for number, (in_axis, out_axis, window_axis) in enumerate(axes)
    ]
    return batch * features * kernel[numbers.rhs_spec[1]] * math.prod(taps)


def _taps(
    size: int | None, outputs: int, window: int, *, stride: int, before: int, dilation: int, base_dilation: int
) -> int:
    """Taps of all positions along one axis that do not fall between the elements of a dilated input.

    Of an input of `size` elements, where it is given, only those that fall on one of them.
    """
    taps = tap_positions(outputs, window, stride=stride, before=before, dilation=dilation)
    counted = taps % base_dilation == 0
    if size is not None:
        counted &= (taps >= 0) & (taps <= (size - 1) * base_dilation)
    return int(counted.sum())
