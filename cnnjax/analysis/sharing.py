"""What sharing weights saves: a convolution's weights against those of layers that share none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from cnnjax.analysis.nets import Net
from cnnjax.analysis.tracing import trace
from cnnjax.view.result import Figure, Result


@dataclass(frozen=True)
class LayerSharing:
    """Weights of one convolution: as it is; with a kernel for every position; as a dense layer of all to all."""

    name: str
    kernel: tuple[int, ...]
    shared: int
    local: int
    dense: int


@dataclass(frozen=True)
class Sharing(Result):
    """What sharing weights saves, convolution by convolution."""

    layers: tuple[LayerSharing, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One record per convolution."""
        return [
            {
                "layer": layer.name,
                "kernel": "x".join(map(str, layer.kernel)),
                "shared": layer.shared,
                "a_kernel_per_position": layer.local,
                "dense": layer.dense,
            }
            for layer in self.layers
        ]

    def draw(self) -> Figure:
        """The three counts by layer, on a logarithmic scale."""
        from cnnjax.view import plots

        columns = {
            "weights shared": [layer.shared for layer in self.layers],
            "a kernel per position": [layer.local for layer in self.layers],
            "dense": [layer.dense for layer in self.layers],
        }
        names = [layer.name for layer in self.layers]
        return plots.dots(names, columns, label="weights", title="What sharing weights saves")


def parameter_sharing(net: Net, shape: Sequence[int], *, dtype: DTypeLike = jnp.float32) -> Sharing:
    """Counts the weights of every convolution against a layer that shares none, and one that connects all to all.

    Args:
        net: a Flax model, one with its variables (`models.bind`, a trained run), or any function of one array.
        shape: of its input, (batch, *spatial, channels).
        dtype: of its input.

    Raises:
        ValueError: `shape` has no spatial axes, the function asks for values, or has no convolution.
    """
    program = trace(net, shape, dtype=dtype)
    depends, layers = program.depends(), []
    for place, equation in enumerate(program.equations):
        if equation.primitive != "conv_general_dilated" or not depends[equation.inputs[0]]:
            continue
        name = program.layer_of(place)
        numbers = equation.params["dimension_numbers"]
        images, kernel = (program.shapes[value] for value in equation.inputs)
        output = program.shapes[equation.outputs[0]]
        positions = math.prod(output[axis] for axis in numbers.out_spec[2:])
        weights = math.prod(kernel)
        of_one = [
            math.prod(whole) // whole[spec[0]]
            for whole, spec in ((images, numbers.lhs_spec), (output, numbers.out_spec))
        ]
        sizes = tuple(kernel[axis] for axis in (*numbers.rhs_spec[2:], numbers.rhs_spec[1], numbers.rhs_spec[0]))
        layers.append(LayerSharing(name, sizes, weights, weights * positions, math.prod(of_one)))
    if not layers:
        raise ValueError("the function has no convolution")
    return Sharing(tuple(layers))
