"""The arrays that a function carries along: the weights that it closes over, and what else it does."""

import math
from typing import Any

import jax.numpy as jnp

from cnnjax.analysis.program import Program

# What hands an array on as it is.
_HANDS_ON = ("convert_element_type", "copy")


def carried(program: Program) -> tuple[Any, ...]:
    """The different arrays of floats that a program carries along; single numbers are not among them."""
    arrays = {id(array): array for array in program.constants.values() if _is_array_of_floats(array)}
    for equation in program.equations:
        for inner in equation.inner:
            arrays |= {id(array): array for array in carried(inner)}
    return tuple(arrays.values())


def constants_by_layer(program: Program) -> dict[str, int]:
    """Elements of the arrays that a program carries along, by the layer in which each first meets the image.

    Of a stack that a scan takes apart, each layer has its own slice.
    """
    depends, counts = program.depends(), dict[str, int]()
    makers = {value: equation for equation in program.equations for value in equation.outputs}
    walked, counted = set[int](), set[object]()

    def count(place: int, array: Any, size: int, part: object = None) -> None:
        if _is_array_of_floats(array) and (id(array), part) not in counted:
            counted.add((id(array), part))
            name = program.layer_of(place)
            counts[name] = counts.get(name, 0) + size

    for place, equation in enumerate(program.equations):
        if not any(depends[value] for value in equation.outputs):
            continue
        for inner in equation.inner:
            for array in carried(inner):
                count(place, array, math.prod(array.shape))
        pending = [value for value in equation.inputs if not depends[value]]
        while pending:
            value = pending.pop()
            if value in walked:
                continue
            walked.add(value)
            maker = makers.get(value)
            if maker is None:
                array = program.constants.get(value)
                count(place, array, math.prod(program.shapes[value]))
                continue
            source = maker.inputs[0] if maker.primitive == "slice" else value
            while source in makers and makers[source].primitive in _HANDS_ON:
                source = makers[source].inputs[0]
            if maker.primitive == "slice" and source in program.constants:
                part = (maker.params["start_indices"], maker.params["limit_indices"])
                count(place, program.constants[source], math.prod(program.shapes[value]), part)
            else:
                pending += maker.inputs
    return counts


def _is_array_of_floats(array: Any) -> bool:
    return len(getattr(array, "shape", ())) > 0 and jnp.issubdtype(array.dtype, jnp.floating)
