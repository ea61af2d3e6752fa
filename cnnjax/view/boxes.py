"""Boxes and masks over pictures, each box with its name, as pictures that can be looked at and written."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from cnnjax.view.overlays import label_colours
from cnnjax.view.text import printable

# Small pictures are drawn larger, for the names to be read.
_LEAST_SIDE, _MOST_ENLARGED = 320, 8

_LONGEST = 32


class Mark(NamedTuple):
    """A box to be drawn.

    Attributes:
        box: x_min, y_min, x_max, y_max in pixels.
        text: beside it; none where empty.
        colour: red, green and blue from 0 to 255.
        dashed: whether its line is.
        mask: the pixels of its object, which are coloured; None where they are not known.
    """

    box: Sequence[float]
    text: str
    colour: tuple[int, int, int]
    dashed: bool = False
    mask: Bool[np.ndarray, "height width"] | None = None


def class_colour(number: int) -> tuple[int, int, int]:
    """That of a class of things, counted from 0: the first is that of label 1."""
    red, green, blue = label_colours(number + 2)[number + 1].tolist()
    return red, green, blue


def draw_boxes(picture: Float[np.ndarray, "height width colours"], marks: Sequence[Mark]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture, from 0 to 1, with boxes, their names and their masks; a small picture comes back larger.

    Boxes are drawn from the last to the first, so that the first, of highest score, is on top.

    Args:
        picture: grey or RGB.
        marks: what is drawn.
    """
    rgb = np.broadcast_to(picture, (*picture.shape[:2], 3)).astype(np.float64)
    for mark in marks:
        if mark.mask is not None:
            shade = 0.55 * rgb + 0.45 * np.asarray(mark.colour) / 255
            rgb = np.where(mark.mask[..., None], shade, rgb)
    image = Image.fromarray(np.rint(255 * rgb.clip(0, 1)).astype(np.uint8))
    factor = min(_MOST_ENLARGED, max(1, -(-_LEAST_SIDE // max(image.size))))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    longer = max(image.size)
    width, font = max(2, round(longer / 300)), ImageFont.load_default(size=max(11, round(longer / 40)))
    for mark in reversed(marks):
        box = np.asarray(mark.box, np.float64)
        if not np.isfinite(box).all():
            continue
        left, top, right, bottom = (box * factor).tolist()
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        for start, end in pairwise(corners):
            _line(draw, start, end, mark.colour, width, dashed=mark.dashed)
        if mark.text:
            _name(draw, image.size, (left, top, bottom), mark, font)
    return np.asarray(image)


def _line(
    draw: ImageDraw.ImageDraw,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: tuple[int, int, int],
    width: int,
    *,
    dashed: bool,
) -> None:
    if not dashed:
        draw.line([start, end], fill=colour, width=width)
        return
    length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    pieces = max(1, int(length / (4 * width)))
    for piece in range(0, pieces, 2):
        share = [np.asarray(start) + (np.asarray(end) - start) * at / pieces for at in (piece, min(piece + 1, pieces))]
        draw.line([tuple(point.tolist()) for point in share], fill=colour, width=width)


def _name(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    place: tuple[float, float, float],
    mark: Mark,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """The text above the box, or within it where there is no room above."""
    left, top, _ = place
    text = printable(mark.text)
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    x_min, y_min, x_max, y_max = draw.textbbox((0, 0), text, font=font)
    wide, high = x_max - x_min + 6, y_max - y_min + 4
    x = min(max(left, 0), max(size[0] - wide, 0))
    y = top - high if top - high >= 0 else max(top, 0)
    draw.rectangle([x, y, x + wide, y + high], fill=mark.colour)
    # By the weights of luma: dark letters on light colours.
    light = 0.299 * mark.colour[0] + 0.587 * mark.colour[1] + 0.114 * mark.colour[2] > 140
    draw.text((x + 3 - x_min, y + 2 - y_min), text, fill=(0, 0, 0) if light else (255, 255, 255), font=font)
