"""Any JAX function as a `Program`: calls, short scans and choices already made are written out in place."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from cnnjax.analysis.nets import Net, variables_of
from cnnjax.analysis.program import Call, Equation, Program
from cnnjax.functional.primitives import REFERENCES
from cnnjax.models import Model, inference_options
from cnnjax.models.stacking import scope_of_turn

# Primitives that only call: their inner program is written out in place of the call.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}

# Where a loop or a choice keeps its programs.
_INNER = {"scan": ("jaxpr",), "while": ("cond_jaxpr", "body_jaxpr"), "cond": ("branches",)}

# Scans that come to more equations than this stay one equation.
_MOST_SCANNED = 200_000


def trace(net: Net, shape: Sequence[int], *, dtype: DTypeLike = jnp.float32) -> Program:
    """Traces a function of one array, or a Flax model with abstract variables, without computing anything.

    Raises:
        ValueError: `shape` is not (batch, *spatial, channels), or the function asks for the values of its input.
    """
    if hasattr(shape, "dtype"):
        raise ValueError(f"an array of shape {np.shape(shape)} came; expected a shape: pass its .shape")
    if not isinstance(shape, Sequence) or not all(isinstance(size, int | np.integer) for size in shape):
        raise ValueError(f"shape={shape!r}; expected whole numbers (batch, *spatial, channels)")
    shape = tuple(map(int, shape))
    if len(shape) < 3 or any(size < 1 for size in shape):
        raise ValueError(f"shape={shape} has no spatial axes; expected (batch, *spatial, channels), all >= 1")
    image = jax.ShapeDtypeStruct(shape, dtype)
    if not isinstance(net, Model):
        return trace_call(net, image)
    try:
        variables = variables_of(net, shape, dtype)
    except (TypeError, ValueError) as error:
        _add_hint(error, shape)
        raise
    return trace_call(partial(net.apply, **inference_options(net)), variables, image)


def trace_call(function: Callable[..., Any], *arguments: Any) -> Program:
    """Traces a function on arrays or their shapes; the last one is the image.

    Raises:
        ValueError: the function asks for the values of its input.
    """
    _check_function(function, len(arguments))
    try:
        # A function of our own each time: JAX keeps what it traced of one, though what that closes over may change.
        jaxpr, output = jax.make_jaxpr(lambda *arrays: function(*arrays), return_shape=True)(*arguments)
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
        jax.errors.NonConcreteBooleanIndexError,
    ) as error:
        name = getattr(function, "__name__", type(function).__name__)
        raise ValueError(
            f"{name} asks for the values of its input, which a traced array has not:"
            f" {str(error).splitlines()[0]}; write `if` as jnp.where or lax.cond, NumPy as jax.numpy, and a boolean"
            " index as jnp.where"
        ) from error
    except (TypeError, ValueError) as error:
        _add_hint(error, tuple(getattr(arguments[-1], "shape", ())))
        raise
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(output)]
    return _flatten(jaxpr, names)


def _check_function(function: Any, arguments: int) -> None:
    """That what is traced is a function of as many arguments as are given.

    Raises:
        ValueError: it is a model, a class, a method of a model that needs variables too, or cannot be called.
    """
    cure = "pass a function of pictures, models.bind(model, variables)"
    owner = getattr(function, "__self__", None)
    if isinstance(function, Model):
        raise ValueError(f"the model {type(function).__name__} came without its variables; {cure}")
    if isinstance(owner, Model) and arguments == 1:
        raise ValueError(
            f"the method {function.__name__} of the model {type(owner).__name__} came, which takes variables too;"
            f" {cure}; what asks for a shape takes the model itself as well"
        )
    if isinstance(function, type):
        raise ValueError(f"the class {function.__name__} came; make a model of it, and {cure}")
    if not callable(function):
        raise ValueError(f"a {type(function).__name__} came, which is no function; {cure}")


def _add_hint(error: Exception, shape: tuple[int, ...]) -> None:
    """Says of an error how the axes of a shape were read, where they may be meant otherwise."""
    if len(shape) == 3:
        error.add_note(
            f"A shape {shape} is read as (batch, positions, channels); where it is one picture, give it a batch axis,"
            " images[None]; where they are pictures without channels, give them a channel axis, images[..., None]."
        )
    if len(shape) == 4 and shape[1] <= 4 < shape[3]:
        error.add_note(
            f"A shape {shape} is read as (batch, height, width, channels), with {shape[3]} channels; where channels"
            " come first, move them, jnp.moveaxis(images, 1, -1)."
        )


def _flatten(closed: Any, output_names: Sequence[str]) -> Program:
    writer = _Writer()
    inputs = [writer.new(variable.aval) for variable in getattr(closed, "jaxpr", closed).invars]
    results = writer.write_out(closed, inputs, ())
    return Program(
        tuple(writer.equations),
        tuple(writer.shapes),
        tuple(writer.dtypes),
        tuple(inputs),
        writer.constants,
        tuple(zip(output_names, results, strict=True)),
        tuple(writer.calls),
    )


class _Writer:
    """Writes programs out one equation after the other, numbering their values."""

    def __init__(self) -> None:
        self.equations: list[Equation] = []
        self.shapes: list[tuple[int, ...]] = []
        self.dtypes: list[Any] = []
        self.constants: dict[int, Any] = {}
        self.calls: list[Call] = []

    def new(self, kind: Any) -> int:
        """The number of a further value, of a type."""
        self.shapes.append(tuple(getattr(kind, "shape", ())))
        self.dtypes.append(getattr(kind, "dtype", None))
        return len(self.shapes) - 1

    def constant(self, kind: Any, array: Any) -> int:
        """The number of an array that the program carries along."""
        self.constants[value := self.new(kind)] = array
        return value

    def write_out(self, jaxpr: Any, arguments: Sequence[int], scope: tuple[str, ...]) -> list[int]:
        """Writes the equations of a program that is called with some values; returns the values of its outputs."""
        body = getattr(jaxpr, "jaxpr", jaxpr)
        arrays = getattr(jaxpr, "consts", ())
        values = {var: self.constant(var.aval, array) for var, array in zip(body.constvars, arrays, strict=True)}
        values.update(zip(body.invars, arguments, strict=True))

        def read(atom: Any) -> int:
            # Literals are not variables: each gets a value of its own, which depends on nothing.
            return (
                self.constant(atom.aval, np.asarray(atom.val, atom.aval.dtype)) if _is_literal(atom) else values[atom]
            )

        for eqn in body.eqns:
            inner = scope + _scope(eqn.source_info.name_stack)
            values.update(zip(eqn.outvars, self._write(eqn, [read(atom) for atom in eqn.invars], inner), strict=True))
        return [read(atom) for atom in body.outvars]

    def _write(self, eqn: Any, inputs: list[int], scope: tuple[str, ...]) -> list[int]:
        name, params, kinds = eqn.primitive.name, eqn.params, [variable.aval for variable in eqn.outvars]
        if name == "scan" and params["length"] * _size(params["jaxpr"]) <= _MOST_SCANNED:
            return self._write_scan(params, inputs, kinds, scope)
        if name == "cond" and _is_literal(eqn.invars[0]):
            chosen = min(max(int(eqn.invars[0].val), 0), len(params["branches"]) - 1)
            return self.write_out(params["branches"][chosen], inputs[1:], scope)
        if name in _CALLS:
            write = self.write_out if not name.startswith("custom_") else partial(self._write_call, eqn)
            return write(params[_CALLS[name]], inputs, scope)
        if eqn.primitive in REFERENCES:
            expansion = partial(REFERENCES[eqn.primitive], **params)
            expanded = jax.make_jaxpr(expansion)(*(atom.aval for atom in eqn.invars))
            start = len(self.equations)
            outputs = self._write_call(eqn, expanded, inputs, scope)
            if "result" in params:
                self._note(start, result=params["result"])
            return outputs
        if name == "conv_general_dilated" and "transpose(" in str(eqn.source_info.name_stack):
            params = {**params, "backward": True}
        found = [params[place] for place in _INNER.get(name, ())]
        programs = found[0] if name == "cond" else found
        inner = tuple(_flatten(program, [""] * len(getattr(program, "jaxpr", program).outvars)) for program in programs)
        return self._add(name, params, inputs, kinds, scope, _operation(eqn), inner)

    def _add(
        self,
        primitive: str,
        params: Any,
        inputs: Sequence[int],
        kinds: Sequence[Any],
        scope: tuple[str, ...],
        operation: Callable[..., list[Any]],
        inner: tuple[Program, ...] = (),
    ) -> list[int]:
        outputs = [self.new(kind) for kind in kinds]
        self.equations.append(Equation(primitive, params, tuple(inputs), tuple(outputs), scope, operation, inner))
        return outputs

    def _write_call(self, eqn: Any, program: Any, inputs: list[int], scope: tuple[str, ...]) -> list[int]:
        """Writes out what has derivatives of its own, and remembers that it is one call."""
        start = len(self.equations)
        outputs = self.write_out(program, inputs, scope)
        if len(self.equations) == start:
            # Nothing is computed, and only the derivative is another: what leaves gets values of its own.
            outputs = [
                self._add("copy", {}, [value], [variable.aval], scope, lambda array: [array])[0]
                for value, variable in zip(outputs, eqn.outvars, strict=True)
            ]
        self.calls.append(Call(start, len(self.equations), tuple(inputs), tuple(outputs), _operation(eqn)))
        return outputs

    def _note(self, start: int, **known: Any) -> None:
        """Adds to the parameters of convolutions from an equation on what their form alone does not tell."""
        for index, equation in enumerate(self.equations[start:], start):
            if equation.primitive == "conv_general_dilated":
                self.equations[index] = replace(equation, params={**equation.params, **known})

    def _write_scan(
        self, params: Any, inputs: Sequence[int], kinds: Sequence[Any], scope: tuple[str, ...]
    ) -> list[int]:
        fixed, carry, scanned = scan_inputs(params, inputs)
        length, carried = params["length"], len(carry)
        collected: list[list[int]] = [[-1] * length for _ in kinds[carried:]]
        for turn in range(length):
            place = length - 1 - turn if params["reverse"] else turn
            taken = [self._element(value, place, scope) for value in scanned]
            before = len(self.equations)
            results = self.write_out(params["jaxpr"], [*fixed, *carry, *taken], scope)
            for index in range(before, len(self.equations)):
                equation = self.equations[index]
                self.equations[index] = replace(equation, scope=scope_of_turn(equation.scope, place, length))
            carry = results[:carried]
            for values, value in zip(collected, results[carried:], strict=True):
                values[place] = value
        stacked = [
            self._add("stack", {"axis": 0}, values, [kind], scope, lambda *arrays: [jnp.stack(arrays)])
            for values, kind in zip(collected, kinds[carried:], strict=True)
        ]
        return [*carry, *(value for values in stacked for value in values)]

    def _element(self, value: int, place: int, scope: tuple[str, ...]) -> int:
        """What a turn of a scan takes of a value."""
        rest = self.shapes[value][1:]
        bounds = {"start_indices": (place, *[0] * len(rest)), "limit_indices": (place + 1, *rest), "strides": None}
        one, element = (jax.ShapeDtypeStruct(shape, self.dtypes[value]) for shape in ((1, *rest), rest))
        (cut,) = self._add("slice", bounds, [value], [one], scope, lambda array: [array[place : place + 1]])
        (squeezed,) = self._add("squeeze", {"dimensions": (0,)}, [cut], [element], scope, lambda array: [array[0]])
        return squeezed


def _is_literal(atom: Any) -> bool:
    return hasattr(atom, "val")


def _operation(eqn: Any) -> Callable[..., list[Any]]:
    """What an equation computes, as a function of its arrays."""

    def compute(*arrays: Any) -> list[Any]:
        results = eqn.primitive.bind(*arrays, **eqn.primitive.get_bind_params(eqn.params))
        return list(results) if eqn.primitive.multiple_results else [results]

    return compute


def scan_inputs(params: Mapping[str, Any], inputs: Sequence[int]) -> list[list[int]]:
    """The inputs of a scan: what every turn sees, what is carried from turn to turn, and what is taken apart."""
    if "ft_in" in params:
        return [list(part) for part in params["ft_in"].update(list(inputs)).unpack()]
    # jax 0.9 counts them.
    constants, carried = params["num_consts"], params["num_carry"]
    return [list(inputs[:constants]), list(inputs[constants:][:carried]), list(inputs[constants + carried :])]


def _size(jaxpr: Any) -> int:
    """Equations of a program, those of loops inside it as often as they run."""
    inner = [eqn.params for eqn in jaxpr.eqns if eqn.primitive.name == "scan"]
    return len(jaxpr.eqns) + sum(params["length"] * _size(params["jaxpr"]) for params in inner)


def _scope(name_stack: Any) -> tuple[str, ...]:
    """The named scopes of a stack, without the transformations around them: "vmap(Net)/conv" is Net, conv."""
    parts = []
    for part in str(name_stack).split("/"):
        while match := re.fullmatch(r"\w+\((.*)\)", part):
            part = match[1]
        parts.append(part)
    return tuple(part for part in parts if part)
