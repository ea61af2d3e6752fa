"""A model in one table: output shapes, parameters, multiply-accumulates, activations and receptive fields."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from cnnjax.analysis import cost
from cnnjax.analysis.program import trace
from cnnjax.analysis.receptive_field import LayerField, ReceptiveFields, receptive_field
from cnnjax.analysis.table import format_extent, format_table


@dataclass(frozen=True, eq=False)
class LayerSummary:
    """One layer: its own parameters and multiply-accumulates (those of layers inside it are theirs)."""

    name: str
    shape: tuple[int, ...]
    params: int
    macs: int
    activations: int
    field: LayerField | None


@dataclass(frozen=True, eq=False)
class Summary:
    """Every layer of a model, and the totals; prints as a table.

    `macs` and `activations` are for the batch that was asked for. `uncounted` names loops whose inside is not in
    `macs`; `fields` is the whole receptive-field result.
    """

    model: str
    layers: tuple[LayerSummary, ...]
    params: int
    macs: int
    fields: ReceptiveFields
    uncounted: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One record per layer, of plain values: what is saved as CSV and JSON."""
        return [
            {
                "layer": layer.name,
                "shape": "x".join(map(str, layer.shape)),
                "params": layer.params,
                "macs": layer.macs,
                "activations": layer.activations,
                "receptive_field": format_extent(layer.field.size) if layer.field else "-",
                "stride": format_extent(layer.field.stride) if layer.field else "-",
                "start": format_extent(layer.field.start, separator=",") if layer.field else "-",
                "uniform": layer.field.uniform if layer.field else True,
            }
            for layer in self.layers
        ]

    def __str__(self) -> str:
        header = ("layer", "output", "params", "MACs", "activations", "receptive field", "stride", "start")
        rows = [
            [f"{cell:,}" if isinstance(cell, int) else cell for cell in list(row.values())[:-1]] for row in self.rows()
        ]
        total = ["total", "", f"{self.params:,}", f"{self.macs:,}", *[""] * 4]
        notes = (
            [f"Receptive fields of {', '.join(varying)} vary with the position: the largest is shown."]
            if (varying := [layer.name for layer in self.layers if layer.field and not layer.field.uniform])
            else []
        )
        if self.fields.unknown:
            notes.append(f"No rule for {', '.join(self.fields.unknown)}: taken to see everything they are given.")
        if self.uncounted:
            notes.append(f"MACs inside {', '.join(self.uncounted)} are not counted.")
        return "\n".join([format_table(header, [*rows, total]), *notes])


def summary(model: nn.Module, shape: Sequence[int], *, dtype: DTypeLike = jnp.float32) -> Summary:
    """Summarises a model for inputs of a shape (batch, *spatial, channels), without computing anything.

    Raises:
        ValueError: `shape` has no spatial axes, or the model does not take it.
    """
    program = trace(model, shape, dtype=dtype)
    macs = cost.multiply_accumulates(program)
    fields = receptive_field(model, shape, dtype=dtype)
    found = {layer.name: layer for layer in fields.layers}
    layers = program.layers()
    owner = {}
    for layer in layers:  # inner layers come after outer ones, and take their equations over
        owner.update(dict.fromkeys(range(layer.start, layer.stop), layer.name))
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(tuple(shape), dtype))
    params: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables.get("params", {})):
        name = "/".join(key.key for key in path[:-1])
        params[name] = params.get(name, 0) + math.prod(leaf.shape)
    return Summary(
        model=type(model).__name__,
        layers=tuple(
            LayerSummary(
                name=layer.name,
                shape=program.shapes[layer.value],
                params=params.get(layer.name, 0),
                macs=sum(macs[index] for index in range(layer.start, layer.stop) if owner[index] == layer.name),
                activations=math.prod(program.shapes[layer.value]),
                field=found.get(layer.name),
            )
            for layer in layers
        ),
        params=sum(params.values()),
        macs=sum(macs),
        fields=fields,
        uncounted=cost.uncounted(program),
    )
