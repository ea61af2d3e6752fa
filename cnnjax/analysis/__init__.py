"""Floor 4: what a network sees, where, and what it costs, for any JAX function."""

from cnnjax.analysis.cost import Cost, LayerCost, cost
from cnnjax.analysis.feature_maps import feature_maps
from cnnjax.analysis.fields import AxisField, LayerField
from cnnjax.analysis.receptive_field import ReceptiveFields, receptive_field
from cnnjax.analysis.summary import Summary, summary
from cnnjax.view.table import save_rows

__all__ = [
    "AxisField",
    "Cost",
    "LayerCost",
    "LayerField",
    "ReceptiveFields",
    "Summary",
    "cost",
    "feature_maps",
    "receptive_field",
    "save_rows",
    "summary",
]
