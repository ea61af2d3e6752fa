"""A JAX function as a flat list of equations with the names of its layers: what every analysis reads.

`tracing.trace` makes one. Layers are named by `jax.named_scope`, which Flax opens around every module.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# What gets a row of its own where no named scope gives one.
NOTABLE = ("conv_general_dilated", "dot_general", "reduce_window", "reduce_sum", "reduce_max", "reduce_min")

# Constants of more elements than this are not worked out.
_LARGEST_CONSTANT = 2**27


@dataclass(frozen=True, eq=False)
class Equation:
    """One primitive applied to values, which are numbered; `scope` is the path of named scopes around it.

    `operation` computes it. `inner` holds the programs of a loop or a choice that is not written out: the body of a
    scan; the condition and the body of a while loop; the branches of a cond.
    """

    primitive: str
    params: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    scope: tuple[str, ...]
    operation: Callable[..., list[Any]]
    inner: tuple["Program", ...] = ()


@dataclass(frozen=True, eq=False)
class Call:
    """A call with rules of its own, written out as the equations [start, stop); `operation` computes it whole.

    Its derivative is not that of the equations: a `custom_vjp`, a `custom_jvp`, or a primitive of this package.
    """

    start: int
    stop: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operation: Callable[..., list[Any]]


@dataclass(frozen=True)
class Layer:
    """A named part of a program: the value that leaves it, and its equations as [start, stop).

    `value` is what the layer stands for; `values` are all that leave it, in the order they are computed.
    """

    name: str
    value: int
    start: int
    stop: int
    values: tuple[int, ...] = ()

    def parts(self) -> tuple["Layer", ...]:
        """Itself; of a layer that several values leave, each of them as a layer, "name[0]" and so on."""
        if len(self.values) < 2:
            return (self,)
        return tuple(
            Layer(f"{self.name}[{index}]", value, self.start, self.stop) for index, value in enumerate(self.values)
        )


@dataclass(frozen=True, eq=False)
class Program:
    """A traced function: equations in order, the type of every value, and which are inputs and outputs.

    `inputs` are the arguments, flat; the last of them is the image, which is what is analysed. `constants` holds the
    arrays that the program carries along. `outputs` pairs each output's name with its value. `calls` are those that
    have derivatives of their own, inner ones first.
    """

    equations: tuple[Equation, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    inputs: tuple[int, ...]
    constants: Mapping[int, Any]
    outputs: tuple[tuple[str, int], ...]
    calls: tuple[Call, ...] = ()

    @property
    def image(self) -> int:
        """The value analysed."""
        return self.inputs[-1]

    def depends(self) -> tuple[bool, ...]:
        """Whether each value depends on the image at all."""
        depends = [False] * len(self.shapes)
        depends[self.image] = True
        for equation in self.equations:
            if any(depends[value] for value in equation.inputs):
                for value in equation.outputs:
                    depends[value] = True
        return tuple(depends)

    @cached_property
    def _layers(self) -> tuple[Layer, ...]:
        return _find_layers(self)

    def layers(self) -> tuple[Layer, ...]:
        """Every named scope that the image runs through, in the order they begin, inner after outer.

        A scope that is left and entered again later gets a second row, "name (2)". Convolutions, pools, products
        and reductions outside all scopes are named after their primitive.
        """
        return self._layers

    @cached_property
    def _owners(self) -> dict[int, str]:
        owners: dict[int, str] = {}
        for layer in self.layers():  # inner layers come after outer ones, and take their equations over
            owners.update(dict.fromkeys(range(layer.start, layer.stop), layer.name))
        return owners

    def layer_of(self, place: int) -> str:
        """The name of the innermost layer that an equation is in; outside of all, its primitive's."""
        return self._owners.get(place, self.equations[place].primitive)

    def matching(self, layers: str | Sequence[str]) -> tuple[Layer, ...]:
        """The layers of a name or a shell pattern, or of several; "name[0]" is a part of one (see `Layer.parts`).

        Raises:
            ValueError: one matches no layer; near matches are listed.
        """
        patterns = patterns_of(layers)
        found, names = [], list[str]()
        for layer in self.layers():
            parts = (layer, *(part for part in layer.parts() if part is not layer))
            names += [part.name for part in parts]
            chosen = [part for part in parts if any(_matches(part.name, pattern) for pattern in patterns)]
            found += [layer] if layer in chosen else chosen
        for pattern in patterns:
            if not any(_matches(name, pattern) for name in names):
                raise ValueError(f"no layer matches {pattern!r}; {near_matches(pattern, names)}")
        return tuple(found)

    def layer(self, name: str) -> Layer:
        """The layer of a name, or of a shell pattern that matches one layer.

        Raises:
            ValueError: it matches none, or several.
        """
        found = self.matching(name)
        found = [layer for layer in found if layer.name == name] or found
        if len(found) > 1:
            raise ValueError(f"layer={name!r} matches {', '.join(layer.name for layer in found)}; expected one of them")
        return found[0]

    def only_output(self) -> int:
        """The value of the one array that the function gives.

        Raises:
            ValueError: it gives several, or none.
        """
        if len(self.outputs) != 1:
            names = ", ".join(name for name, _ in self.outputs) or "nothing"
            raise ValueError(f"the function gives {len(self.outputs)} arrays ({names}); expected one: choose it")
        return self.outputs[0][1]

    @cached_property
    def _maker(self) -> dict[int, Equation]:
        return {value: equation for equation in self.equations for value in equation.outputs}

    @cached_property
    def _found(self) -> dict[int, np.ndarray | None]:
        return dict.fromkeys(self.inputs) | {
            value: None if isinstance(array, jax.core.Tracer) or _is_key(array) else np.asarray(array)
            for value, array in self.constants.items()
        }

    def constant(self, value: int) -> np.ndarray | None:
        """The array behind a value that depends on no input and is not too large; else None. Worked out when asked."""
        pending = [value]
        while pending:
            current = pending[-1]
            if current in self._found:
                pending.pop()
                continue
            equation = self._maker.get(current)
            needed = () if equation is None else equation.inputs
            missing = [each for each in needed if each not in self._found]
            if missing:
                pending += missing
                continue
            arguments = [self._found[each] for each in needed]
            self._found.update(self._worked_out(equation, current, arguments))
        return self._found[value]

    def _worked_out(
        self, equation: Equation | None, value: int, arguments: Sequence[np.ndarray | None]
    ) -> dict[int, np.ndarray | None]:
        if equation is None or any(argument is None for argument in arguments):
            return dict.fromkeys((value,) if equation is None else equation.outputs)
        if any(math.prod(self.shapes[each]) > _LARGEST_CONSTANT for each in equation.outputs):
            return dict.fromkeys(equation.outputs)
        with jax.ensure_compile_time_eval():
            results = equation.operation(*map(jnp.asarray, arguments))
        return {
            each: None if _is_key(result) else np.asarray(result)
            for each, result in zip(equation.outputs, results, strict=True)
        }


def innermost(program: Program) -> tuple[Layer, ...]:
    """The layers that hold no others."""
    layers = program.layers()
    # Inner layers follow the one that they are in.
    after = [*layers[1:], None][: len(layers)]
    return tuple(
        layer
        for layer, following in zip(layers, after, strict=True)
        if following is None or following.start >= layer.stop
    )


def patterns_of(names: str | Sequence[str]) -> tuple[str, ...]:
    """One name or pattern, or several, as several."""
    return (names,) if isinstance(names, str) else tuple(names)


def near_matches(name: str, known: Sequence[str]) -> str:
    """What an error says of a name that there is not: the nearest ones there are, or all."""
    if not known:
        return "there are none: name some by jax.named_scope"
    return f"there are {', '.join(get_close_matches(name, known, n=3) or dict.fromkeys(known))}"


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _is_key(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)


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
        if not scope and equation.primitive.startswith(NOTABLE):
            runs.append((numbered(equation.primitive), index, index + 1))
    close(("",))
    last_use = _last_uses(program)
    layers = [_layer(program, depends, last_use, *run) for run in runs]
    return tuple(sorted(layers, key=lambda layer: (layer.start, -layer.stop, layer.name.count("/"))))


def _common_root(equations: Sequence[Equation]) -> int:
    """1 where the scope of a Flax model, which has its class's name, holds all others and is left out; else 0."""
    scopes = {equation.scope for equation in equations if equation.scope}
    roots = {scope[0] for scope in scopes}
    return int(len(roots) == 1 and next(iter(roots))[0].isupper() and any(len(scope) > 1 for scope in scopes))


def _last_uses(program: Program) -> dict[int, float]:
    last = {value: float(index) for index, eqn in enumerate(program.equations) for value in eqn.inputs}
    return last | {value: math.inf for _, value in program.outputs}


def _layer(
    program: Program, depends: Sequence[bool], last_use: Mapping[int, float], name: str, start: int, stop: int
) -> Layer:
    """A run of equations as a layer, whose value is the last one made of those that are used later.

    Of several made at once it is the largest, as of a loop, which hands on its counter too.
    """
    made = [[value for value in eqn.outputs if depends[value]] for eqn in program.equations[start:stop]]
    made = [values for values in made if values]
    leaving = [[value for value in values if last_use.get(value, -1) >= stop] for values in made]
    last = next((values for values in reversed(leaving) if values), made[-1])
    value = max(reversed(last), key=lambda value: math.prod(program.shapes[value]))
    return Layer(name, value, start, stop, tuple(value for values in leaving for value in values))
