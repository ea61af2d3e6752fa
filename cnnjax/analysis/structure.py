"""What the lecture notes show of convolution: no superposition, from local to global, and shared parameters."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from cnnjax.analysis.evaluation import evaluate
from cnnjax.analysis.fields import LayerField, layer_field
from cnnjax.analysis.inputs import as_pictures, check_finite
from cnnjax.analysis.program import NOTABLE, innermost
from cnnjax.analysis.propagation import propagate
from cnnjax.analysis.tracing import trace, trace_call
from cnnjax.models import Model
from cnnjax.view.result import Figure, Result
from cnnjax.view.table import format_extent


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


def superposition(
    function: Callable[..., Any], one: Any, other: Any, *, names: str | Sequence[str] = "*"
) -> Superposition:
    """How far each layer is from answering a sum of pictures with the sum of its answers.

    Args:
        function: of pictures (batch, *spatial, channels).
        one: pictures A.
        other: pictures B, of the same shape.
        names: layers, by name or pattern.

    Raises:
        ValueError: the pictures have other shapes; a name matches no layer.
    """
    one, other = as_pictures(one), as_pictures(other)
    if one.shape != other.shape:
        raise ValueError(f"pictures of {one.shape} and {other.shape}; expected one shape")
    program = trace_call(function, one)
    layers = program.matching(names)
    values = [layer.value for layer in layers]
    run = jax.jit(lambda pictures: evaluate(program, [pictures], values))
    answers = run(one + other), run(one), run(other)
    for layer, *three in zip(layers, *answers, strict=True):
        for array in three:
            check_finite(layer.name, array)
    found = zip(*answers, strict=True)
    deviations = [
        float(jnp.linalg.norm((both - first - second).ravel()) / jnp.maximum(jnp.linalg.norm(both.ravel()), 1e-30))
        for both, first, second in found
    ]
    return Superposition(tuple(layer.name for layer in layers), tuple(deviations))


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


def context(
    function: Callable[..., Any] | Model, shape: Sequence[int], *, gates: bool = False, dtype: DTypeLike = jnp.float32
) -> Context:
    """What a unit of each convolution, pool and product sees of pictures (batch, *spatial, channels).

    A layer whose inputs see the whole picture from its centre can gain no more context by its window.

    Args:
        function: a Flax model, or any JAX function.
        shape: of its input.
        gates: see `receptive_field`.
        dtype: of its input.

    Raises:
        ValueError: `shape` has no spatial axes; the function asks for the values of its input, or gathers nothing.

    Reference: Richter, Schoening, Wiedenroth and Krumnack (2021), "Should You Go Deeper? Optimizing Convolutional
    Neural Network Architectures without Training by Receptive Field Analysis", section 3.
    """
    program = trace(function, shape, dtype=dtype)
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


def parameter_sharing(
    function: Callable[..., Any] | Model, shape: Sequence[int], *, dtype: DTypeLike = jnp.float32
) -> Sharing:
    """Counts the weights of every convolution against a layer that shares none, and one that connects all to all.

    Raises:
        ValueError: `shape` has no spatial axes, the function asks for values, or has no convolution.

    >>> found = parameter_sharing(lambda x: jax.lax.conv(x, jnp.ones((5, 3, 2, 2)), (1, 1), "VALID"), (1, 3, 4, 4))
    >>> found.layers[0].shared, found.layers[0].local, found.layers[0].dense
    (60, 540, 2160)
    """
    program = trace(function, shape, dtype=dtype)
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
