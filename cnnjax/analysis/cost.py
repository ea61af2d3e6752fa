"""What a network costs: multiply-accumulates, parameters, activations and memory, layer by layer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from cnnjax.analysis.constants import carried, constants_by_layer
from cnnjax.analysis.counting import data_dependent_loops, multiply_accumulates
from cnnjax.analysis.memory import bytes_of, kept_in_training, live_bytes
from cnnjax.analysis.nets import Net, model_of, variables_of
from cnnjax.analysis.program import Program
from cnnjax.analysis.tracing import trace
from cnnjax.models import unstack
from cnnjax.view.result import Figure, Result
from cnnjax.view.table import format_cell

_KIB, _MIB = 2**10, 2**20


@dataclass(frozen=True, eq=False)
class LayerCost:
    """One layer: the shape it leaves, and its own parameters and multiply-accumulates.

    Those of layers inside it are theirs. `activations` is the number of elements that leave it, `forward_bytes` the
    most bytes of intermediate values alive while it runs, `kept_bytes` what a backward pass keeps of what it makes
    itself; None where that was not asked for, or of a plain function.
    """

    name: str
    shape: tuple[int, ...]
    params: int
    macs: int
    activations: int
    forward_bytes: int
    kept_bytes: int | None


@dataclass(frozen=True, eq=False)
class Cost(Result):
    """Every layer of a network, and the totals.

    Attributes:
        layers: in the order they run.
        params: parameters of a model; of a function, which has none of its own, the elements of the arrays of floats
            that it carries along (`from_constants`).
        macs: multiply-accumulates for the batch that was asked for (see `counting`).
        activations: elements that leave convolutions and matrix products, for the batch (Radosavovic et al. 2020,
            "Designing Network Design Spaces", section 3.3).
        parameter_bytes: bytes of the parameters.
        forward_bytes: the most bytes of intermediate values alive at once in a forward pass (see `memory.live_bytes`).
        kept_bytes: what the backward pass of a training step keeps, the picture with it; None where it was not asked
            for, or of a plain function.
        padding: whether taps on padding are counted.
        data_dependent_loops: loops that run as often as the data says, one turn of which is counted.
        elsewhere: of `params`, those of no layer in `layers`, by the module that owns them and does not run, or by the
            primitive that takes them.
        from_constants: whether `params` are elements of the arrays that a function carries along: its weights, but also
            running statistics of norms, counts of pools, or a mean that it takes off its pictures.
    """

    layers: tuple[LayerCost, ...]
    params: int
    macs: int
    activations: int
    parameter_bytes: int
    forward_bytes: int
    kept_bytes: int | None
    padding: bool
    data_dependent_loops: tuple[str, ...]
    elsewhere: Mapping[str, int]
    from_constants: bool

    @property
    def params_name(self) -> str:
        """What `params` are."""
        return "constants" if self.from_constants else "parameters"

    @property
    def training_bytes(self) -> int | None:
        """Parameters, their gradients, and what the backward pass keeps.

        What an optimizer remembers comes on top: as much as the parameters for momentum, twice as much for Adam.
        """
        return None if self.kept_bytes is None else 2 * self.parameter_bytes + self.kept_bytes

    def rows(self) -> list[dict[str, Any]]:
        """One record per layer."""
        return [
            {
                "layer": layer.name,
                "shape": "x".join(map(str, layer.shape)),
                "params": layer.params,
                "macs": layer.macs,
                "activations": layer.activations,
                "forward_bytes": layer.forward_bytes,
                "kept_bytes": layer.kept_bytes,
            }
            for layer in self.layers
        ]

    def table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """Header and rows for people: the layers, then the total."""
        header = ("layer", "output", self.params_name, "MACs", "activations", "forward / KiB", "kept to train / KiB")
        rows = [
            tuple(
                format_cell(cell / _KIB if name.endswith("bytes") and cell is not None else cell)
                for name, cell in row.items()
            )
            for row in self.rows()
        ]
        peak = format_cell(self.forward_bytes / _KIB)
        kept = format_cell(None if self.kept_bytes is None else self.kept_bytes / _KIB)
        return header, [*rows, ("total", "", f"{self.params:,}", f"{self.macs:,}", "", peak, kept)]

    def notes(self) -> list[str]:
        """The memory, the convention, and what is not in the numbers."""
        memory = f"{self.forward_bytes / _MIB:.1f} MiB of intermediate values at once in a forward pass"
        if self.training_bytes is not None:
            memory += f", {self.training_bytes / _MIB:.1f} MiB to train (without the optimizer's own)"
        notes = [
            f"{self.parameter_bytes / _MIB:.1f} MiB of {self.params_name}; {memory}.",
            f"{self.activations:,} elements leave convolutions and products. A MAC is one multiplication and one"
            f" addition; taps on padding are {'counted' if self.padding else 'left out'}.",
        ]
        if self.kept_bytes is not None:
            outside = self.kept_bytes - sum(layer.kept_bytes or 0 for layer in self.layers)
            notes.append(
                f"{format_cell(outside / _KIB)} KiB of what is kept are the picture, and what is made between layers,"
                " as by activations."
            )
        return notes + parameter_notes(self) + loop_notes(self.data_dependent_loops)

    def draw(self) -> Figure:
        """Bars of each layer's own multiply-accumulates, parameters and activations."""
        from cnnjax.view import plots

        layers = [layer for layer in self.layers if layer.macs or layer.params] or list(self.layers)
        if not layers:
            raise ValueError("the function has no layers to draw; name some by jax.named_scope")
        return plots.bars(
            [layer.name for layer in layers],
            {
                "multiply-accumulates / million": [layer.macs / 1e6 for layer in layers],
                f"{self.params_name} / thousand": [layer.params / 1e3 for layer in layers],
                "activations / thousand": [layer.activations / 1e3 for layer in layers],
            },
            title=f"{self.macs / 1e6:,.1f} M multiply-accumulates, {self.params / 1e6:,.2f} M {self.params_name}",
        )


def cost(
    net: Net,
    shape: Sequence[int],
    *,
    padding: bool = True,
    training: bool = True,
    dtype: DTypeLike = jnp.float32,
) -> Cost:
    """Counts what a network costs for inputs (batch, *spatial, channels).

    Nothing is computed. A plain function has no parameters of its own: arrays that it closes over are counted as its
    constants, by the layer that uses them.

    Args:
        net: a Flax model, one with its variables (`models.bind`, a trained run), or any function of one array.
        shape: of its input.
        padding: whether taps of convolutions that fall on padding count.
        training: whether the memory of a training step is worked out where the model is known, which traces its
            gradient.
        dtype: of its input.

    Raises:
        ValueError: `shape` has no spatial axes, or the function asks for the values of its input.

    >>> from cnnjax import models
    >>> found = cost(models.create("lenet5"), (1, 32, 32, 1))
    >>> found.params, found.macs
    (61706, 416520)
    """
    program, model = trace(net, shape, dtype=dtype), model_of(net)
    kept = kept_in_training(model, tuple(shape), dtype) if model is not None and training else None
    return cost_of(program, variables_of(net, shape, dtype), padding=padding, kept=kept)


def cost_of(
    program: Program,
    variables: Mapping[str, Any] | None,
    *,
    padding: bool = True,
    kept: Mapping[str, int] | None = None,
) -> Cost:
    """`cost` of a program that is traced already, of a model with these variables (shapes will do), or of a function.

    `kept` is what training keeps by layer (see `memory.kept_in_training`).
    """
    macs, live = multiply_accumulates(program, padding=padding), live_bytes(program)
    layers = program.layers()
    named = {layer.name for layer in layers}
    params = constants_by_layer(program) if variables is None else _by_module(variables)
    held = list(carried(program)) if variables is None else variables.get("params", {})
    products = ("conv_general_dilated", "dot_general")
    depends = program.depends()
    return Cost(
        layers=tuple(
            LayerCost(
                name=layer.name,
                shape=program.shapes[layer.value],
                params=params.get(layer.name, 0),
                macs=sum(macs[at] for at in range(layer.start, layer.stop) if program.layer_of(at) == layer.name),
                activations=math.prod(program.shapes[layer.value]),
                forward_bytes=max(live[layer.start : layer.stop]),
                kept_bytes=None if kept is None else kept.get(layer.name, 0),
            )
            for layer in layers
        ),
        params=sum(params.values()),
        macs=sum(macs),
        activations=sum(
            math.prod(program.shapes[value])
            for equation in program.equations
            if equation.primitive in products
            for value in equation.outputs
            if depends[value]
        ),
        parameter_bytes=bytes_of(held),
        forward_bytes=max(live, default=0),
        kept_bytes=None if kept is None else sum(kept.values()),
        padding=padding,
        data_dependent_loops=data_dependent_loops(program),
        elsewhere={name: count for name, count in params.items() if name not in named},
        from_constants=variables is None,
    )


def loop_notes(data_dependent_loops: Sequence[str]) -> list[str]:
    """What is said of loops that run as often as the data says."""
    return [f"Of each {' and '.join(data_dependent_loops)} loop one turn is counted."] if data_dependent_loops else []


def parameter_notes(cost: Cost) -> list[str]:
    """What is said of parameters that no layer has, and of those that are arrays that a function carries along."""
    notes = []
    if cost.elsewhere:
        named = ", ".join(f"{name} {count:,}" for name, count in cost.elsewhere.items())
        notes.append(f"Of the {cost.params_name}, {sum(cost.elsewhere.values()):,} belong to no layer above: {named}.")
    if cost.from_constants and cost.params:
        notes.append(
            "Constants are all arrays of floats that the function carries along: weights, and statistics of norms too;"
            " models.bind(model, variables) tells them apart."
        )
    return notes


def _by_module(variables: Mapping[str, Any]) -> dict[str, int]:
    """Number of parameters by the path of the module that owns them."""
    counts: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(unstack(variables.get("params", {}))):
        name = "/".join(key.key for key in path[:-1])
        counts[name] = counts.get(name, 0) + math.prod(leaf.shape)
    return counts
