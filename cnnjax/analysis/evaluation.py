"""A traced program run again, in part: from any value to any other, with equations computed otherwise."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.program import Equation, Layer, Program
from cnnjax.analysis.tracing import trace_call

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

    Differentiable, and free to run under `jit`. A rectifier, written out as the greater of a value and zero, has the
    derivative 0 at 0, as `jax.nn.relu`.

    Args:
        program: what is run.
        arguments: arrays for `program.inputs`.
        wanted: the values asked for.
        given: values that are not computed but taken from here.
        replace: may compute an equation otherwise.
    """
    values = dict(program.constants) | dict(zip(program.inputs, arguments, strict=True)) | dict(given or {})
    needed, places = {value for value in wanted if value not in values}, []
    for place in reversed(range(len(program.equations))):
        equation = program.equations[place]
        if needed.intersection(equation.outputs):
            places.append(place)
            needed.update(value for value in equation.inputs if value not in values)
    for place in reversed(places):
        equation = program.equations[place]
        arrays = [values[value] for value in equation.inputs]
        results = replace(equation, arrays)
        if results is None:
            rectified = rectified_input(program, equation)
            results = equation.operation(*arrays) if rectified is None else [jax.nn.relu(arrays[rectified])]
        for value, result in zip(equation.outputs, results, strict=True):
            values.setdefault(value, result)
    return [values[value] for value in wanted]


def rectified_input(program: Program, equation: Equation) -> int | None:
    """Which input of an equation is rectified, if it is the greater of that and a constant zero; else None."""
    if equation.primitive != "max":
        return None
    for place, value in enumerate(equation.inputs):
        known = program.constants.get(value)
        if known is not None and not isinstance(known, jax.core.Tracer) and np.shape(known) == () and known == 0:
            return 1 - place
    return None


def split_at(function: Callable[..., Any], images: Any, layer: str) -> tuple[Layer, Any, Callable[..., Any]]:
    """A function of pictures in two: what a layer makes of them, and the rest as a function of that.

    Returns the layer, its maps, and the function from maps (and, optionally, pictures) to the output.

    Raises:
        ValueError: the name matches no layer, or several; near matches are listed.
    """
    program = trace_call(function, images)
    found = one_layer(program, layer)
    (maps,) = evaluate(program, [images], [found.value])
    outputs = [value for _, value in program.outputs]

    def rest(maps: Any, pictures: Any = images) -> Any:
        leaves = evaluate(program, [pictures], outputs, given={found.value: maps})
        return jax.tree.unflatten(program.structure, leaves)

    return found, maps, rest


def only_output(program: Program) -> int:
    """The value of the one array that a function gives.

    Raises:
        ValueError: it gives several, or none.
    """
    if len(program.outputs) != 1:
        names = ", ".join(name for name, _ in program.outputs) or "nothing"
        raise ValueError(f"the function gives {len(program.outputs)} arrays ({names}); expected one: choose it")
    return program.outputs[0][1]


def as_pictures(images: Any) -> jax.Array:
    """Pictures as an array of floats.

    Raises:
        ValueError: they are whole numbers, which a function of floats from 0 to 1 would take for far too bright.
    """
    images = jnp.asarray(images)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images are {images.dtype}; expected floats: divide bytes by 255.0")
    return images


def check_finite(what: str, array: Any) -> None:
    """That all numbers are finite; while a function is traced nothing is known, and nothing said.

    Raises:
        ValueError: some are not; it tells how many, and on which examples.
    """
    if isinstance(array, jax.core.Tracer):
        return
    bad = ~np.isfinite(np.asarray(array, np.float64))
    if bad.any():
        examples = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
        shown = ", ".join(map(str, examples[:5])) + (", ..." if len(examples) > 5 else "")
        raise ValueError(
            f"{what}: {int(bad.sum()):,} of {bad.size:,} numbers are NaN or infinite, on examples {shown}; look at the"
            " pictures and the weights (`feature_statistics` counts such numbers layer by layer)"
        )


def one_layer(program: Program, name: str) -> Layer:
    """The layer of a name.

    Raises:
        ValueError: it matches none, or as a pattern several.
    """
    exact = [layer for layer in program.layers() if layer.name == name]
    found = exact or list(program.matching(name))
    if len(found) > 1:
        raise ValueError(f"{name!r} matches {', '.join(layer.name for layer in found)}; expected one layer")
    return found[0]
