"""What tells whether a function is still the one that was compiled: itself, and what it closes over."""

from collections.abc import Hashable
from typing import Any

import jax
import numpy as np

from cnnjax.analysis.program import Program


class Held:
    """A thing as a key that is equal to the same thing only; of a method, the same one of the same object."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing  # which keeps its address from being used again
        self._key = id(getattr(thing, "__self__", thing)), id(getattr(thing, "__func__", thing))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def fingerprint(program: Program) -> Hashable:
    """Differs between two tracings of a function wherever what it closes over has changed in between.

    Arrays of JAX never change, and are told by which they are; those of NumPy by what they hold.
    """
    equations = tuple(
        (
            equation.primitive,
            equation.inputs,
            equation.outputs,
            # Programs inside of loops are looked at themselves; what functions there are stands written out.
            tuple((name, repr(value)) for name, value in sorted(equation.params.items()) if _is_plain(value)),
            tuple(map(fingerprint, equation.inner)),
        )
        for equation in program.equations
    )
    constants = tuple((value, _of_array(array)) for value, array in program.constants.items())
    return program.shapes, tuple(map(str, program.dtypes)), equations, constants, program.outputs


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return not callable(value) and not hasattr(value, "jaxpr") and not hasattr(value, "eqns")


def _of_array(array: Any) -> Hashable:
    if isinstance(array, jax.Array):
        return Held(array)
    array = np.asarray(array)
    return array.shape, array.dtype.str, array.tobytes()
