"""A model in one table: output shapes, parameters, multiply-accumulates, activations and receptive fields."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from cnnjax.analysis import cost
from cnnjax.analysis.program import trace
from cnnjax.analysis.receptive_field import LayerField, ReceptiveFields, fields_of
from cnnjax.analysis.table import format_extent, format_table
from cnnjax.models import Model, inference_options, unstack


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

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Header and rows for people: the layers, then the total."""
        header = ("layer", "output", "parameters", "MACs", "activations", "receptive field", "stride", "start")
        names = ("layer", "shape", "params", "macs", "activations", "receptive_field", "stride", "start")
        rows = [
            tuple(f"{row[name]:,}" if isinstance(row[name], int) else row[name] for name in names)
            for row in self.rows()
        ]
        return header, [*rows, ("total", "", f"{self.params:,}", f"{self.macs:,}", "", "", "", "")]

    def notes(self) -> list[str]:
        """What the table cannot say: fields that vary, primitives without a rule, loops not counted."""
        notes = (
            [f"Receptive fields of {', '.join(varying)} vary with the position: the largest is shown."]
            if (varying := [layer.name for layer in self.layers if layer.field and not layer.field.uniform])
            else []
        )
        if self.fields.unknown:
            notes.append(f"No rule for {', '.join(self.fields.unknown)}: taken to see everything they are given.")
        if self.uncounted:
            notes.append(f"MACs inside {', '.join(self.uncounted)} are not counted.")
        return notes

    def __str__(self) -> str:
        return "\n".join([format_table(*self.table()), *self.notes()])


def summary(function: Callable[..., Any] | Model, shape: Sequence[int], *, dtype: DTypeLike = jnp.float32) -> Summary:
    """Summarises a Flax model, or any function of one array, for inputs of a shape (batch, *spatial, channels).

    Nothing is computed. Only a model's parameters are known, so a function has none.

    Raises:
        ValueError: `shape` has no spatial axes, or the model does not take it.
    """
    program = trace(function, shape, dtype=dtype)
    macs = cost.multiply_accumulates(program)
    fields = fields_of(program)
    found = {layer.name: layer for layer in fields.layers}
    layers = program.layers()
    owner = {}
    for layer in layers:  # inner layers come after outer ones, and take their equations over
        owner.update(dict.fromkeys(range(layer.start, layer.stop), layer.name))
    params = _parameters(function, shape, dtype) if isinstance(function, Model) else {}
    return Summary(
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


def _parameters(model: Model, shape: Sequence[int], dtype: DTypeLike) -> dict[str, int]:
    """Number of parameters by the path of the module that owns them."""
    init = partial(model.init, **inference_options(model))
    variables = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(tuple(shape), dtype))
    counts: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(unstack(variables.get("params", {}))):
        name = "/".join(key.key for key in path[:-1])
        counts[name] = counts.get(name, 0) + math.prod(leaf.shape)
    return counts
