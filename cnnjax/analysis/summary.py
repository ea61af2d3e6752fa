"""A model in one table: output shapes, parameters, multiply-accumulates, activations and receptive fields."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from cnnjax.analysis.cost import Cost, abstract_variables, constant_notes, cost_of, loop_notes
from cnnjax.analysis.receptive_field import ReceptiveFields, fields_of
from cnnjax.analysis.tracing import trace
from cnnjax.models import Model
from cnnjax.view.result import Figure, Result
from cnnjax.view.table import format_extent


@dataclass(frozen=True, eq=False)
class Summary(Result):
    """Cost and receptive field of every layer, from one reading of the program."""

    cost: Cost
    fields: ReceptiveFields

    def rows(self) -> list[dict[str, Any]]:
        """One record per layer."""
        rows = []
        for record in self.cost.rows():
            field = self.fields.get(record["layer"])
            counted = {name: record[name] for name in ("layer", "shape", "params", "macs", "activations")}
            rows.append(
                {
                    **counted,
                    "receptive_field": format_extent(field.size) if field else "-",
                    "stride": format_extent(field.stride) if field else "-",
                    "start": format_extent(field.start, separator=",") if field else "-",
                    "uniform": field.uniform if field else True,
                }
            )
        return rows

    def table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """Header and rows for people: the layers, then the total."""
        header = ("layer", "output", self.cost.params_name, "MACs", "activations", "receptive field", "stride", "start")
        rows = [
            tuple(f"{cell:,}" if isinstance(cell, int) else cell for cell in [*row.values()][: len(header)])
            for row in self.rows()
        ]
        total = ("total", "", f"{self.cost.params:,}", f"{self.cost.macs:,}", "", "", "", "")
        return header, [*rows, total]

    def notes(self) -> list[str]:
        """What the table cannot say: fields that vary, branches that look elsewhere, loops."""
        varying = [layer.name for layer in self.fields.layers if not layer.uniform]
        notes = (
            [f"Receptive fields of {', '.join(varying)} vary with the position: the largest is shown."]
            if varying
            else []
        )
        return [*notes, *self.fields.notes(), *constant_notes(self.cost), *loop_notes(self.cost.data_dependent_loops)]

    def draw(self) -> Figure:
        """Bars of each layer's cost."""
        return self.cost.draw()


def summary(
    function: Callable[..., Any] | Model, shape: Sequence[int], *, gates: bool = True, dtype: DTypeLike = jnp.float32
) -> Summary:
    """Summarises a Flax model, or any function of one array, for inputs of a shape (batch, *spatial, channels).

    Nothing is computed. Of a function, what it closes over is counted as its constants (see `cost`). `gates` as in
    `receptive_field`.

    Raises:
        ValueError: `shape` has no spatial axes, the model does not take it, or the function asks for values.
    """
    program = trace(function, shape, dtype=dtype)
    variables = abstract_variables(function, shape, dtype) if isinstance(function, Model) else None
    return Summary(cost_of(program, variables), fields_of(program, gates=gates, function=function))
