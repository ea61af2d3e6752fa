"""Small pictures of examples, as the figures of several tasks show them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from cnnjax.view.text import printable
from cnnjax.view.visible import visible


def show_images(places: Sequence[Axes], images: Sequence[np.ndarray]) -> str:
    """Draws images [h, w, c] without axes, and returns a note for the figure's title, empty where none is needed.

    One channel is drawn in greys, from its darkest to its brightest; all else as `visible` says.
    """
    shown, note = visible(images)
    for axes, image in zip(places, shown, strict=True):
        axes.axis("off")
        axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray")
    return note if shown and shown[0].shape[-1] == 3 else ""


def shorten(name: str, length: int = 12) -> str:
    """The name, or its beginning and an ellipsis where it is longer than `length`; what is not seen is escaped.

    >>> shorten("salamander", 6)
    'salam…'
    """
    name = printable(name)
    return name if len(name) <= length else f"{name[: length - 1]}…"
