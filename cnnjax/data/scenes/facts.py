"""What is told of the objects of a scene, as numbers and as words."""

from collections.abc import Mapping
from typing import Any

import numpy as np

SHAPES = ("circle", "rectangle", "triangle")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Red, green and blue of each colour, 0 to 1; backgrounds are dull.
COLOUR_VALUES = {
    "red": (0.85, 0.12, 0.12),
    "yellow": (0.95, 0.85, 0.10),
    "green": (0.10, 0.65, 0.20),
    "blue": (0.12, 0.25, 0.85),
    "purple": (0.60, 0.15, 0.75),
    "white": (0.96, 0.96, 0.96),
}
COLOURS = tuple(COLOUR_VALUES)
SIZES = ("small", "large")
# The longer side of an object of each size, as a share of the picture's shorter one: least and largest.
SIDES = ((0.16, 0.24), (0.34, 0.5))
# Thirds of the picture that the centre of a box lies in, row by row.
POSITIONS = ("upper left", "top", "upper right", "left", "centre", "right", "lower left", "bottom", "lower right")
# The key points of an object: of a triangle its corners and the middle of its base, of others the middles of the sides.
POINTS = ("centre", "top", "right", "bottom", "left")


def class_names(*, digits: bool = False) -> tuple[str, ...]:
    """The names of the classes by number: the shapes, and then the digits where there are any."""
    return SHAPES + DIGITS if digits else SHAPES


def phrases(example: Mapping[str, Any]) -> tuple[str, ...]:
    """What each slot of one scene holds, in words; empty where a slot is.

    Args:
        example: One scene, as of `scene` or a `SceneSource`, without a batch axis.

    >>> facts = {"present": [True, False], "sizes": [1, 0], "colours": [0, 0], "classes": [2, 0], "positions": [4, 0]}
    >>> phrases(facts)
    ('the large red triangle at the centre', '')
    """
    names = class_names(digits=True)
    rows = zip(*(np.asarray(example[name]) for name in _TOLD), strict=True)
    return tuple(
        f"the {SIZES[size]} {COLOURS[colour]} {names[kind]} at the {POSITIONS[position]}" if present else ""
        for present, size, colour, kind, position in rows
    )


_TOLD = ("present", "sizes", "colours", "classes", "positions")
