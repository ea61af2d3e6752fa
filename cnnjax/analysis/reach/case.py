"""One equation of a program, with what its inputs see: what a rule is asked about."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from cnnjax.analysis.program import Equation, Program
from cnnjax.analysis.reach.intervals import Reach

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Case:
    """An equation, and what its inputs see along one axis of the image; None sees nothing of it."""

    program: Program
    equation: Equation
    inputs: tuple[Reach | None, ...]

    @property
    def params(self) -> Any:
        """The equation's parameters."""
        return self.equation.params

    @property
    def present(self) -> list[Reach]:
        """Of the inputs, those that see the image."""
        return [reach for reach in self.inputs if reach is not None]

    @property
    def before(self) -> list[Shape]:
        """Shapes of the inputs."""
        return [self.program.shapes[value] for value in self.equation.inputs]

    @property
    def after(self) -> list[Shape]:
        """Shapes of the outputs."""
        return [self.program.shapes[value] for value in self.equation.outputs]

    def constant(self, number: int) -> np.ndarray | None:
        """The array behind an input, if it is known."""
        return self.program.constant(self.equation.inputs[number])


# A rule gives what each output sees, or None where it does not know.
Rule: TypeAlias = Callable[[Case], list[Reach] | None]
