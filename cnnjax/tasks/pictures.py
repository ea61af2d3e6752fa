"""Small pictures of examples, as the figures of several tasks show them."""

import numpy as np
from matplotlib.axes import Axes

from cnnjax.view.text import printable


def show_image(axes: Axes, image: np.ndarray) -> None:
    """Draws an image [h, w, c] without axes; one channel is drawn in greys, from its darkest to its brightest."""
    axes.axis("off")
    axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray")


def shorten(name: str, length: int = 12) -> str:
    """The name, or its beginning and an ellipsis where it is longer than `length`; what is not seen is escaped.

    >>> shorten("salamander", 6)
    'salam…'
    """
    name = printable(name)
    return name if len(name) <= length else f"{name[: length - 1]}…"
