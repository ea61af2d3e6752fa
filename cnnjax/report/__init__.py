"""What a run leaves for the eye: `figures` (data in, matplotlib figures out) and `page` (one HTML file).

The public names of both are reached from here too and loaded when first used, so that writing a page needs no
matplotlib. `report.page` is the module: the function that writes is `report.page.page`.
"""

import importlib
from typing import Any

_HOMES = {
    "figures": (
        *("FieldBox", "feature_maps", "filters", "image_grid"),
        *("learning_curves", "png", "receptive_fields", "style"),
    ),
    "page": ("Block", "Code", "Facts", "Picture", "Section", "Table", "Text"),
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
