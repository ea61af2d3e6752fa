"""What is laid over pictures: label maps in colours, their borders, and where two of them differ."""

import colorsys
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from cnnjax.view.figures import COLOURS

# What differs from the truth: predicted and not true, true and not predicted, another class. No label is so coloured.
WRONG_COLOURS = {"too much": "#FF2D2D", "missed": "#FFE14D", "another class": "#FFFFFF"}


def label_colours(number: int) -> UInt8[np.ndarray, "number 3"]:
    """A colour for each label: black for 0, those of all figures for the first ones, then hues far from one another.

    >>> label_colours(2).tolist()
    [[0, 0, 0], [0, 114, 178]]
    """
    colours = [(0.0, 0.0, 0.0), *map(_rgb, COLOURS)]
    for place in range(len(colours), number):
        # Steps of the golden ratio never come near an earlier hue.
        colours.append(colorsys.hsv_to_rgb((0.618034 * place) % 1, 0.45 + 0.3 * (place % 3) / 2, 0.95))
    return np.rint(255 * np.asarray(colours[:number])).astype(np.uint8).reshape(number, 3)


def paint_labels(
    picture: Float[np.ndarray, "height width colours"],
    labels: Int[np.ndarray, "height width"],
    *,
    strength: float = 0.45,
    background: int | None = 0,
) -> Float[np.ndarray, "height width 3"]:
    """A picture, from 0 to 1, with each label's colour over it; one label, the background, stays as it is.

    Args:
        picture: grey or RGB.
        labels: from 0 on; others, such as 255, are grey.
        strength: of the colour, from 0 for none to 1.
        background: the label that is not painted; None where all are.
    """
    rgb = np.broadcast_to(picture, (*picture.shape[:2], 3)).astype(np.float64)
    known = (labels >= 0) & (labels < 255)
    colours = label_colours(int(labels[known].max(initial=0)) + 1) / 255
    painted = np.where(known[..., None], colours[np.where(known, labels, 0)], 0.5)
    mixed = (1 - strength) * rgb + strength * painted
    return mixed if background is None else np.where((labels == background)[..., None], rgb, mixed)


def draw_borders(
    picture: Float[np.ndarray, "height width colours"],
    borders: Bool[np.ndarray, "height width"],
    colour: str = COLOURS[4],
) -> Float[np.ndarray, "height width 3"]:
    """A picture, from 0 to 1, with borders in a colour.

    Args:
        picture: grey or RGB.
        borders: which pixels they are, such as `functional.borders.label_borders` of a label map.
        colour: as #rrggbb.
    """
    rgb = np.broadcast_to(picture, (*picture.shape[:2], 3)).astype(np.float64)
    return np.where(borders[..., None], np.asarray(_rgb(colour)), rgb)


def paint_errors(
    picture: Float[np.ndarray, "height width colours"],
    labels: Int[np.ndarray, "height width"],
    predicted: Int[np.ndarray, "height width"],
    *,
    ignored: int | None = None,
) -> Float[np.ndarray, "height width 3"]:
    """A pale picture with the pixels whose predicted label is not the true one, in the colours of `WRONG_COLOURS`."""
    rgb = np.broadcast_to(picture, (*picture.shape[:2], 3)).astype(np.float64)
    shown = 0.35 + 0.45 * rgb
    wrong = labels != predicted
    if ignored is not None:
        wrong &= labels != ignored
    kinds = (wrong & (labels == 0), wrong & (predicted == 0), wrong & (labels != 0) & (predicted != 0))
    for which, colour in zip(kinds, WRONG_COLOURS.values(), strict=True):
        shown[which] = _rgb(colour)
    return shown


def _rgb(colour: str) -> Sequence[float]:
    return [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
