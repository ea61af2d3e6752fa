from . import field_figures, figures, page, plots, result, table, text, visible
from .field_figures import FieldBox, receptive_fields
from .figures import feature_maps, filters, learning_curves, png, style
from .page import Block, Gallery, Picture, Section, Table, Text
from .plots import Panel, Tile, bars, curves, dots, matrix, pictures
from .result import Records, Result
from .table import format_table, save_rows
from .text import escape_unencodable, printable

__all__ = [
    "Block",
    "FieldBox",
    "Gallery",
    "Panel",
    "Picture",
    "Records",
    "Result",
    "Section",
    "Table",
    "Text",
    "Tile",
    "bars",
    "curves",
    "dots",
    "escape_unencodable",
    "feature_maps",
    "field_figures",
    "figures",
    "filters",
    "format_table",
    "learning_curves",
    "matrix",
    "page",
    "pictures",
    "plots",
    "png",
    "printable",
    "receptive_fields",
    "result",
    "save_rows",
    "style",
    "table",
    "text",
    "visible",
]
