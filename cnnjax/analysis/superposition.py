"""How far each layer is from superposition: whether it answers a sum of pictures with the sum of its answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.analysis.inputs import as_pictures, check_finite
from cnnjax.analysis.interpreter import evaluate
from cnnjax.analysis.tracing import trace_call
from cnnjax.view.result import Figure, Result


@dataclass(frozen=True)
class Superposition(Result):
    r"""By layer, $\lVert f(A + B) - f(A) - f(B) \rVert / \lVert f(A + B) \rVert$: 0 for linear maps alone."""

    layers: tuple[str, ...]
    deviations: tuple[float, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One record per layer."""
        return [{"layer": name, "deviation": value} for name, value in zip(self.layers, self.deviations, strict=True)]

    def draw(self) -> Figure:
        """A bar per layer."""
        from cnnjax.view import plots

        columns = {"|f(A+B) - f(A) - f(B)| / |f(A+B)|": self.deviations}
        return plots.bars(self.layers, columns, title="How far layers are from superposition")


def superposition(net: Callable[..., Any], one: Any, other: Any, *, layers: str | Sequence[str] = "*") -> Superposition:
    """How far each layer is from answering a sum of pictures with the sum of its answers.

    Args:
        net: `models.bind(model, variables)`, a trained run, or any function of pictures (batch, *spatial, channels).
        one: pictures A.
        other: pictures B, of the same shape.
        layers: by name or pattern.

    Raises:
        ValueError: the pictures have other shapes; a name or pattern matches no layer.
    """
    one, other = as_pictures(one), as_pictures(other)
    if one.shape != other.shape:
        raise ValueError(f"pictures of {one.shape} and {other.shape}; expected one shape")
    program = trace_call(net, one)
    found = [part for layer in program.matching(layers) for part in layer.parts()]
    values = [part.value for part in found]
    run = jax.jit(lambda pictures: evaluate(program, [pictures], values))
    answers = run(one + other), run(one), run(other)
    for layer, *three in zip(found, *answers, strict=True):
        for array in three:
            check_finite(layer.name, array)
    deviations = [
        float(jnp.linalg.norm((both - first - second).ravel()) / jnp.maximum(jnp.linalg.norm(both.ravel()), 1e-30))
        for both, first, second in zip(*answers, strict=True)
    ]
    return Superposition(tuple(layer.name for layer in found), tuple(deviations))
