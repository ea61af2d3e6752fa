"""From local to global: how much of a picture a unit of each layer sees."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from cnnjax.analysis.nets import Net
from cnnjax.analysis.program import NOTABLE, innermost
from cnnjax.analysis.reach.fields import LayerField, layer_field
from cnnjax.analysis.reach.propagation import propagate
from cnnjax.analysis.tracing import trace
from cnnjax.view.result import Figure, Result
from cnnjax.view.table import format_extent


@dataclass(frozen=True)
class LayerContext:
    """How much of the picture one unit of a layer sees.

    Attributes:
        name: the layer.
        positions: along each axis of its map.
        size: of the receptive field on the endless plane, per axis.
        share: of the picture that the centre unit depends on.
        widens: whether its window sees more, on the endless plane, than its inputs.
        gains: whether it sees more of the picture than its inputs do.
    """

    name: str
    positions: tuple[int, ...]
    size: tuple[int, ...]
    share: float
    widens: bool
    gains: bool


@dataclass(frozen=True)
class Context(Result):
    """From local to global: what a unit of each layer sees of a picture of this size."""

    picture: tuple[int, ...]
    layers: tuple[LayerContext, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One record per layer."""
        return [
            {
                "layer": layer.name,
                "positions": "x".join(map(str, layer.positions)) or "-",
                "receptive_field": format_extent(layer.size),
                "share_of_picture": layer.share,
                "widens": layer.widens,
                "gains_context": layer.gains,
            }
            for layer in self.layers
        ]

    def notes(self) -> list[str]:
        """Where the whole picture is first seen."""
        whole = next((layer.name for layer in self.layers if layer.share >= 1), None)
        size = "x".join(map(str, self.picture))
        return [f"A unit first sees the whole picture of {size} in {whole}." if whole else "No unit sees it all."]

    def draw(self) -> Figure:
        """The receptive field by layer beside the picture's size; layers that gain context, and those that do not."""
        from cnnjax.view import plots

        sides = [float(max(layer.size)) for layer in self.layers]
        nothing = float("nan")
        columns = {
            "gains context": [side if layer.gains else nothing for layer, side in zip(self.layers, sides, strict=True)],
            "gains none": [nothing if layer.gains else side for layer, side in zip(self.layers, sides, strict=True)],
        }
        return plots.dots(
            [layer.name for layer in self.layers],
            columns,
            label="receptive field / pixels",
            title=f"From local to global, at {'x'.join(map(str, self.picture))} pixels",
            line=("picture", float(max(self.picture))),
        )


def context(net: Net, shape: Sequence[int], *, gates: bool = False, dtype: DTypeLike = jnp.float32) -> Context:
    """What a unit of each convolution, pool and product sees of pictures (batch, *spatial, channels).

    A layer whose inputs see the whole picture from its centre can gain no more context by its window.

    Args:
        net: a Flax model, one with its variables (`models.bind`, a trained run), or any function of one array.
        shape: of its input.
        gates: see `receptive_field`.
        dtype: of its input.

    Raises:
        ValueError: `shape` has no spatial axes; the function asks for the values of its input, or gathers nothing.

    Reference: Richter, Schoening, Wiedenroth and Krumnack (2021), "Should You Go Deeper? Optimizing Convolutional
    Neural Network Architectures without Training by Receptive Field Analysis", section 3.
    """
    program = trace(net, shape, dtype=dtype)
    reaches = propagate(program, gates=gates).reaches
    image, picture = program.shapes[program.image], tuple(shape[1:-1])

    def seen(name: str, value: int) -> tuple[LayerField, float]:
        field = layer_field(name, program.shapes[value], image, reaches[value] or ())
        return field, math.prod(high - low + 1 for low, high in field.box(exact=True)) / math.prod(picture)

    layers = []
    for layer in innermost(program):
        equations = program.equations[layer.start : layer.stop]
        if not any(equation.primitive.startswith(NOTABLE) for equation in equations) or reaches[layer.value] is None:
            continue
        made = {value for equation in equations for value in equation.outputs}
        entering = {value for equation in equations for value in equation.inputs} - made
        inputs = [seen("", value) for value in entering if reaches[value] is not None]
        before = max((share for _, share in inputs), default=0.0)
        field, share = seen(layer.name, layer.value)
        widens = all(math.prod(other.size) < math.prod(field.size) for other, _ in inputs)
        layers.append(LayerContext(layer.name, field.positions, field.size, share, widens, share > before))
    if not layers:
        raise ValueError("the function has no convolution, pool or product that sees its input")
    return Context(picture, tuple(layers))
