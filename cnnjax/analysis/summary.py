"""A model in one table: output shapes, parameters, multiply-accumulates, activations and receptive fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from cnnjax.analysis.cost import Cost, cost_of, loop_notes, parameter_notes
from cnnjax.analysis.nets import Net, variables_of
from cnnjax.analysis.receptive_field import ReceptiveFields, fields_of
from cnnjax.analysis.tracing import trace
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
        return [*notes, *self.fields.notes(), *parameter_notes(self.cost), *loop_notes(self.cost.data_dependent_loops)]

    def draw(self) -> Figure:
        """Bars of each layer's cost."""
        return self.cost.draw()


def summary(net: Net, shape: Sequence[int], *, gates: bool = False, dtype: DTypeLike = jnp.float32) -> Summary:
    """Summarises a network for inputs of a shape (batch, *spatial, channels); nothing is computed.

    Args:
        net: a Flax model, one with its variables (`models.bind`, a trained run), or any function of one array, of which
            what it closes over is counted as its constants (see `cost`).
        shape: of its input.
        gates: see `receptive_field`.
        dtype: of its input.

    Raises:
        ValueError: `shape` has no spatial axes, the model does not take it, or the function asks for values.
    """
    program = trace(net, shape, dtype=dtype)
    return Summary(cost_of(program, variables_of(net, shape, dtype)), fields_of(program, gates=gates, net=net))
