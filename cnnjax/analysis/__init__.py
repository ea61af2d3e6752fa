"""Floor 4: what a network sees, where, and what it costs, for any JAX function."""

from cnnjax.analysis.feature_maps import feature_maps
from cnnjax.analysis.receptive_field import AxisField, LayerField, ReceptiveFields, receptive_field
from cnnjax.analysis.summary import LayerSummary, Summary, summary
from cnnjax.analysis.table import save_rows

__all__ = [
    "AxisField",
    "LayerField",
    "LayerSummary",
    "ReceptiveFields",
    "Summary",
    "feature_maps",
    "receptive_field",
    "save_rows",
    "summary",
]
