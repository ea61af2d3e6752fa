"""Small pictures of examples, as the figures of several tasks show them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Int, Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cnnjax.view.boxes import Mark, draw_boxes
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


def marked_pictures(
    images: Num[np.ndarray, "pictures height width channels"],
    chosen: Int[np.ndarray, "shown"],
    marks_of: Callable[[int], tuple[list[Mark], str]],
    *,
    title: str,
    legend: Mapping[str, tuple[int, int, int]],
) -> Figure:
    """Some pictures in rows of three, with boxes over them and a caption for each.

    Args:
        images: any pictures.
        chosen: places of those that are shown, in their order.
        marks_of: the boxes of a picture, by its place, and its caption.
        title: of the figure; how the pictures' colours were made is added where that needs to be said.
        legend: what each colour of a box means.
    """
    shown, note = visible([images[place] for place in chosen])
    columns = min(3, len(chosen))
    lines = -(-len(chosen) // columns)
    aspect = images.shape[1] / images.shape[2]
    # Wide enough for the title where there is one picture.
    figure = Figure(figsize=(max(3.4 * columns, 6.8), (3.4 * aspect + 0.25) * lines + 1.2), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, place, picture in zip(grid.flat, chosen, shown, strict=False):
        marks, caption = marks_of(int(place))
        axes.imshow(draw_boxes(picture, marks), interpolation="nearest")
        axes.set_title(caption, fontsize=9, fontweight="normal", parse_math=False)
    figure.suptitle(f"{title}\n{note}".rstrip())
    patches = [
        Patch(color=(red / 255, green / 255, blue / 255), label=name) for name, (red, green, blue) in legend.items()
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=6, fontsize=8)
    return figure


def shorten(name: str, length: int = 12) -> str:
    """The name, or its beginning and an ellipsis where it is longer than `length`; what is not seen is escaped.

    >>> shorten("salamander", 6)
    'salam…'
    """
    name = printable(name)
    return name if len(name) <= length else f"{name[: length - 1]}…"
