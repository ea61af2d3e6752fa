"""Scenes drawn from a key: shapes and digits on textured backgrounds, with all that dense prediction is taught by.

`scene` draws one under `jit` and `vmap`; `SceneSource` is a source of them, which `open_source("scenes:COUNT")` opens.
"""

from cnnjax.data.scenes.drawing import scene
from cnnjax.data.scenes.facts import COLOURS, POINTS, POSITIONS, SHAPES, SIZES, class_names, phrases
from cnnjax.data.scenes.scene_source import SceneSource, scene_parts

__all__ = [
    "COLOURS",
    "POINTS",
    "POSITIONS",
    "SHAPES",
    "SIZES",
    "SceneSource",
    "class_names",
    "phrases",
    "scene",
    "scene_parts",
]
