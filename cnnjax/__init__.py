"""cnnjax: a functional CNN research toolkit on JAX, Flax and Optax.

The rooms, from the ground up: `settings`, `functional` (arrays in, arrays out), `view` (what is for the eye), `layers`,
`models`, `data`, `tasks`, `train`, `analysis`, `report` and `experiment`. Rooms and names are imported when they are
first used, so `import cnnjax` costs nothing.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
