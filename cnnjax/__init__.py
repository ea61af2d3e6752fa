"""cnnjax: a functional CNN research toolkit on JAX, Flax and Optax.

The rooms, from the ground up: `functional` (arrays in, arrays out), `view` (what is for the eye), `layers`, `models`,
`data`, `tasks`, `train`, `analysis` and `report`. Each is imported when it is first used, so `import cnnjax` costs
nothing.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

_ROOMS = ("functional", "view", "layers", "models", "data", "tasks", "train", "analysis", "report")


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'cnnjax' has no attribute {name!r}; its rooms are {', '.join(_ROOMS)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
