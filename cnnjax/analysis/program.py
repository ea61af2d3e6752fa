"""A JAX function as a flat list of equations with the names of its layers: what every analysis reads.

Calls (`jit`, `remat`, `custom_jvp`, ...) and scans of moderate length are written out in place. Layers are named by
`jax.named_scope`, which Flax opens around every module.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from cnnjax.functional.primitives import REFERENCES
from cnnjax.models import Model, inference_options
from cnnjax.models.stacking import RUN

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

# Scans that come to more equations than this stay one equation.
_MOST_SCANNED = 200_000

# What gets a row of its own where no named scope gives one.
_NOTABLE = ("conv_general_dilated", "dot_general", "reduce_window", "reduce_sum", "reduce_max", "reduce_min")


@dataclass(frozen=True)
class Equation:
    """One primitive applied to values, which are numbered; `scope` is the path of named scopes around it."""

    primitive: str
    params: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    scope: tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """A named part of a program: the value that leaves it, and its equations as [start, stop)."""

    name: str
    value: int
    start: int
    stop: int


@dataclass(frozen=True)
class Program:
    """A traced function: equations in order, the shape of every value, and which are inputs and outputs.

    `image` is the value analysed (the last argument); `outputs` pairs each output's name with its value.
    """

    equations: tuple[Equation, ...]
    shapes: tuple[tuple[int, ...], ...]
    image: int
    outputs: tuple[tuple[str, int], ...]

    def depends(self) -> tuple[bool, ...]:
        """Whether each value depends on the image at all."""
        depends = [False] * len(self.shapes)
        depends[self.image] = True
        for equation in self.equations:
            if any(depends[value] for value in equation.inputs):
                for value in equation.outputs:
                    depends[value] = True
        return tuple(depends)

    def layers(self) -> tuple[Layer, ...]:
        """Every named scope that the image runs through, in the order they begin, inner after outer.

        A scope that is left and entered again later gets a second row, "name (2)". Convolutions, pools, products
        and reductions outside all scopes are named after their primitive.
        """
        return _find_layers(self)


def trace(function: Callable[..., Any] | Model, shape: Sequence[int], *, dtype: DTypeLike = jnp.float32) -> Program:
    """Traces a function of one array, or a Flax model with abstract variables, without computing anything.

    Raises:
        ValueError: `shape` is not (batch, *spatial, channels).
    """
    if len(shape) < 3 or any(size < 1 for size in shape):
        raise ValueError(f"shape={tuple(shape)} has no spatial axes; expected (batch, *spatial, channels), all >= 1")
    image = jax.ShapeDtypeStruct(tuple(shape), dtype)
    if isinstance(function, Model):
        options = inference_options(function)
        variables = jax.eval_shape(partial(function.init, **options), jax.random.key(0), image)
        jaxpr, output = jax.make_jaxpr(partial(function.apply, **options), return_shape=True)(variables, image)
    else:
        jaxpr, output = jax.make_jaxpr(function, return_shape=True)(image)
    names = tuple(jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(output))
    return _flatten(jaxpr, names)


def _flatten(closed: Any, output_names: Iterable[str]) -> Program:
    equations: list[Equation] = []
    shapes: list[tuple[int, ...]] = []

    def new(atom: Any) -> int:
        shapes.append(tuple(getattr(atom.aval, "shape", ())))
        return len(shapes) - 1

    def write_out(jaxpr: Any, arguments: Sequence[int], scope: tuple[str, ...]) -> list[int]:
        body = getattr(jaxpr, "jaxpr", jaxpr)
        values = {variable: new(variable) for variable in body.constvars}
        values.update(zip(body.invars, arguments, strict=True))

        def read(atom: Any) -> int:
            # Literals are not variables: each gets a value of its own, which depends on nothing.
            return new(atom) if hasattr(atom, "val") else values[atom]

        for eqn in body.eqns:
            inner = scope + _scope(eqn.source_info.name_stack)
            inputs = [read(atom) for atom in eqn.invars]
            name = eqn.primitive.name
            if name == "scan" and eqn.params["length"] * _size(eqn.params["jaxpr"]) <= _MOST_SCANNED:
                outputs = write_out_scan(eqn.params, inputs, [variable.aval for variable in eqn.outvars], inner)
            elif name in _CALLS:
                outputs = write_out(eqn.params[_CALLS[name]], inputs, inner)
            elif eqn.primitive in REFERENCES:
                expansion = partial(REFERENCES[eqn.primitive], **eqn.params)
                outputs = write_out(jax.make_jaxpr(expansion)(*(atom.aval for atom in eqn.invars)), inputs, inner)
            else:
                outputs = [new(variable) for variable in eqn.outvars]
                equations.append(Equation(name, eqn.params, tuple(inputs), tuple(outputs), inner))
            values.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in body.outvars]

    def add(primitive: str, params: Any, inputs: Sequence[int], shape: tuple[int, ...], scope: tuple[str, ...]) -> int:
        shapes.append(shape)
        equations.append(Equation(primitive, params, tuple(inputs), (len(shapes) - 1,), scope))
        return len(shapes) - 1

    def write_out_scan(params: Any, inputs: Sequence[int], kinds: Sequence[Any], scope: tuple[str, ...]) -> list[int]:
        fixed, carry, scanned = _scan_inputs(params, inputs)
        length, carried = params["length"], len(carry)
        collected: list[list[int]] = [[-1] * length for _ in kinds[carried:]]
        for turn in range(length):
            place = length - 1 - turn if params["reverse"] else turn
            taken = []
            for value in scanned:
                rest = shapes[value][1:]
                start, stop = (place, *[0] * len(rest)), (place + 1, *rest)
                slicing = {"start_indices": start, "limit_indices": stop, "strides": None}
                sliced = add("slice", slicing, [value], (1, *rest), scope)
                taken.append(add("squeeze", {"dimensions": (0,)}, [sliced], rest, scope))
            before = len(equations)
            results = write_out(params["jaxpr"], [*fixed, *carry, *taken], scope)
            for index in range(before, len(equations)):
                equations[index] = replace(equations[index], scope=_of_turn(equations[index].scope, place, length))
            carry = results[:carried]
            for values, value in zip(collected, results[carried:], strict=True):
                values[place] = value
        stacked = [
            add("stack", {"axis": 0}, values, tuple(kind.shape), scope)
            for values, kind in zip(collected, kinds[carried:], strict=True)
        ]
        return [*carry, *stacked]

    arguments = [new(variable) for variable in closed.jaxpr.invars]
    results = write_out(closed, arguments, ())
    return Program(tuple(equations), tuple(shapes), arguments[-1], tuple(zip(output_names, results, strict=True)))


def _scan_inputs(params: Mapping[str, Any], inputs: Sequence[int]) -> list[list[int]]:
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


def _of_turn(scope: tuple[str, ...], place: int, length: int) -> tuple[str, ...]:
    """A scope inside a run of blocks that is scanned, "block2-18", as that of the block whose turn it is."""
    for depth, part in enumerate(scope):
        run = RUN.fullmatch(part)
        if run is not None and int(run["last"]) - int(run["first"]) + 1 == length:
            # Flax opens the scope twice: for the function that it scans, and for the module called in it.
            inner = depth + 2 if scope[depth + 1 : depth + 2] == (part,) else depth + 1
            return (*scope[:depth], f"{run['base']}{int(run['first']) + place}", *scope[inner:])
    return scope


def _scope(name_stack: Any) -> tuple[str, ...]:
    """The named scopes of a stack, without the transformations around them: "vmap(Net)/conv" is Net, conv."""
    parts = []
    for part in str(name_stack).split("/"):
        while match := re.fullmatch(r"\w+\((.*)\)", part):
            part = match[1]
        parts.append(part)
    return tuple(part for part in parts if part)


def _find_layers(program: Program) -> tuple[Layer, ...]:
    depends = program.depends()
    root = _common_root(program.equations)
    scopes = [equation.scope[root:] for equation in program.equations]
    runs: list[tuple[str, int, int]] = []
    seen: Counter[str] = Counter()
    open_runs: dict[tuple[str, ...], tuple[str, int, int]] = {}

    def close(keep: tuple[str, ...]) -> None:
        for path in [path for path in open_runs if path != keep[: len(path)]]:
            runs.append(open_runs.pop(path))

    def numbered(name: str) -> str:
        seen[name] += 1
        return name if seen[name] == 1 else f"{name} ({seen[name]})"

    for index, (equation, scope) in enumerate(zip(program.equations, scopes, strict=True)):
        if not any(depends[value] for value in equation.outputs):
            continue
        close(scope)
        for depth in range(1, len(scope) + 1):
            path = scope[:depth]
            name, start, _ = open_runs.get(path) or (numbered("/".join(path)), index, index)
            open_runs[path] = (name, start, index + 1)
        if not scope and equation.primitive.startswith(_NOTABLE):
            runs.append((numbered(equation.primitive), index, index + 1))
    close(("",))
    last_use = _last_uses(program)
    layers = [Layer(name, _leaving(program, depends, last_use, start, stop), start, stop) for name, start, stop in runs]
    return tuple(sorted(layers, key=lambda layer: (layer.start, -layer.stop, layer.name.count("/"))))


def _common_root(equations: Sequence[Equation]) -> int:
    """1 where the scope of a Flax model, which has its class's name, holds all others and is left out; else 0."""
    scopes = {equation.scope for equation in equations if equation.scope}
    roots = {scope[0] for scope in scopes}
    return int(len(roots) == 1 and next(iter(roots))[0].isupper() and any(len(scope) > 1 for scope in scopes))


def _last_uses(program: Program) -> dict[int, float]:
    last = {value: float(index) for index, eqn in enumerate(program.equations) for value in eqn.inputs}
    return last | {value: math.inf for _, value in program.outputs}


def _leaving(program: Program, depends: Sequence[bool], last_use: Mapping[int, float], start: int, stop: int) -> int:
    """The value that a run of equations hands on: the last one made of those that are used later."""
    made = [value for eqn in program.equations[start:stop] for value in eqn.outputs if depends[value]]
    return next((value for value in reversed(made) if last_use.get(value, -1) >= stop), made[-1])
