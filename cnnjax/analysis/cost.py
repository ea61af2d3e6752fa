"""Multiply-accumulates counted from the traced program.

One multiply-accumulate (MAC) is one product of a convolution or matrix product; a FLOP count would be twice that.
Taps that fall on padding count, zeros inserted by dilating the input do not; elementwise work and pooling are left out.
"""

import math
from collections.abc import Sequence
from typing import Any

from cnnjax.analysis.program import Equation, Program
from cnnjax.analysis.reach import tap_positions

# Primitives with programs inside that are not written out: what happens in them is not counted.
_LOOPS = ("scan", "while", "cond")


def multiply_accumulates(program: Program) -> tuple[int, ...]:
    """MACs of every equation of a program, for the whole batch it was traced with."""
    return tuple(
        _count(
            equation,
            [program.shapes[value] for value in equation.inputs],
            [program.shapes[value] for value in equation.outputs],
        )
        for equation in program.equations
    )


def uncounted(program: Program) -> tuple[str, ...]:
    """Primitives whose inner programs are not counted."""
    return tuple(dict.fromkeys(eqn.primitive for eqn in program.equations if eqn.primitive in _LOOPS))


def _count(equation: Equation, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> int:
    match equation.primitive:
        case "conv_general_dilated":
            return _convolution(equation.params, inputs[1], outputs[0])
        case "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            return math.prod(outputs[0]) * math.prod(inputs[0][axis] for axis in contracted)
    return 0


def _convolution(params: Any, kernel: Sequence[int], output: Sequence[int]) -> int:
    numbers = params["dimension_numbers"]
    batch, features = (output[axis] for axis in numbers.out_spec[:2])
    taps = [
        _taps(
            output[out_axis],
            kernel[window_axis],
            stride=params["window_strides"][number],
            before=params["padding"][number][0],
            dilation=params["rhs_dilation"][number],
            base_dilation=params["lhs_dilation"][number],
        )
        for number, (out_axis, window_axis) in enumerate(zip(numbers.out_spec[2:], numbers.rhs_spec[2:], strict=True))
    ]
    return batch * features * kernel[numbers.rhs_spec[1]] * math.prod(taps)


def _taps(outputs: int, window: int, *, stride: int, before: int, dilation: int, base_dilation: int) -> int:
    """Taps of all positions along one axis that do not fall between the elements of a dilated input."""
    taps = tap_positions(outputs, window, stride=stride, before=before, dilation=dilation)
    return int((taps % base_dilation == 0).sum())
