"""Floor 0: what is for the eye. Figures (data in, matplotlib out), tables, one self-contained HTML page.

Nothing here knows a model. What callers need is reached from here too and loaded when first used, so that writing a
page needs no matplotlib. A page is written by `view.page.render`.
"""

import importlib
from typing import Any

_HOMES = {
    "field_figures": ("FieldBox", "receptive_fields"),
    "figures": ("feature_maps", "filters", "learning_curves", "png", "style"),
    "page": ("Block", "Gallery", "Picture", "Section", "Table", "Text"),
    "plots": ("bars", "curves", "dots", "matrix", "pictures"),
    "result": ("Records", "Result"),
    "table": ("format_table", "save_rows"),
    "text": ("escape_unencodable", "printable"),
    "visible": (),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return importlib.import_module(f"{__name__}.{name}")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *(name for names in _HOMES.values() for name in names)})
