"""A traced program run again, in part: from any value to any other, with equations computed otherwise."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.program import Call, Equation, Program

# Computes an equation otherwise: its arrays to its outputs, or None to have it computed as it is.
Replacement: TypeAlias = Callable[[Equation, Sequence[Any]], Sequence[Any] | None]


def evaluate(
    program: Program,
    arguments: Sequence[Any],
    wanted: Sequence[int],
    *,
    given: Mapping[int, Any] | None = None,
    replace: Replacement = lambda equation, arrays: None,
) -> list[Any]:
    """Computes values of a program, and nothing that they do not need.

    Differentiable, and free to run under `jit`. What has derivatives of its own (`custom_vjp`, `custom_jvp`) keeps
    them, but for a call that holds a value which is asked for or given. A rectifier, the greater of a value and zero,
    has the derivative 0 at 0, as `jax.nn.relu`.

    Args:
        program: what is run.
        arguments: arrays for `program.inputs`.
        wanted: the values asked for.
        given: values that are not computed but taken from here.
        replace: may compute an equation otherwise.
    """
    constants = {value: jnp.asarray(array) for value, array in program.constants.items()}
    values = constants | dict(zip(program.inputs, arguments, strict=True)) | dict(given or {})
    needed, steps, place = {value for value in wanted if value not in values}, [], len(program.equations)
    whole = whole_calls(program, {*wanted, *(given or {})})
    while place:
        step = whole.get(place, program.equations[place - 1])
        place = step.start if isinstance(step, Call) else place - 1
        if needed.intersection(step.outputs):
            steps.append(step)
            needed.update(value for value in step.inputs if value not in values)
    for step in reversed(steps):
        arrays = [values[value] for value in step.inputs]
        results = replace(step, arrays) if isinstance(step, Equation) else None
        if results is None:
            rectified = rectified_input(program, step) if isinstance(step, Equation) else None
            results = step.operation(*arrays) if rectified is None else [jax.nn.relu(arrays[rectified])]
        for value, result in zip(step.outputs, results, strict=True):
            values.setdefault(value, result)
    return [values[value] for value in wanted]


def whole_calls(program: Program, inside: Collection[int] = ()) -> dict[int, Call]:
    """Calls with derivatives of their own that are computed whole, by where they end; outer ones before inner ones.

    Not those that hold a value of `inside`, nor a rectifier, which has the derivative of `jax.nn.relu` anyhow.
    """
    whole = {}
    for call in program.calls:
        equations = program.equations[call.start : call.stop]
        made = {value for equation in equations for value in equation.outputs} - {*call.outputs}
        alone = len(equations) == 1 and rectified_input(program, equations[0]) is not None
        if not alone and not made.intersection(inside):
            whole[call.stop] = call
    return whole


def rectifiers(program: Program) -> list[Equation]:
    """The equations that rectify: the greater of a value and zero, where it is not a part of something else."""
    hidden = {place for call in whole_calls(program).values() for place in range(call.start, call.stop)}
    return [
        equation
        for place, equation in enumerate(program.equations)
        if place not in hidden and rectified_input(program, equation) is not None
    ]


def rectified_input(program: Program, equation: Equation) -> int | None:
    """Which input of an equation is rectified, if it is the greater of that and a constant zero; else None."""
    if equation.primitive != "max":
        return None
    for place, value in enumerate(equation.inputs):
        known = program.constants.get(value)
        if known is not None and not isinstance(known, jax.core.Tracer) and np.shape(known) == () and known == 0:
            return 1 - place
    return None
