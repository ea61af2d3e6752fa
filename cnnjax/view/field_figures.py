"""Receptive fields drawn on the input image, in the style of `figures`."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float, Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from cnnjax.view.figures import COLOURS, PALE, as_rgb, caption_tile, style
from cnnjax.view.text import printable


@dataclass(frozen=True)
class FieldBox:
    """The input pixels that one unit of a layer can see: first and last row and column, padding included.

    `top` and `left` may be negative, `bottom` and `right` may pass the last pixel: a field reaches into the
    padding. Both ends belong to the field, so a 5x5 field has `bottom - top == 4`. `seen` tells of each row and of each
    column of the image whether the unit sees it, where a field has holes.
    """

    name: str
    top: int
    left: int
    bottom: int
    right: int
    size_text: str = ""
    seen: tuple[np.ndarray, ...] | None = None


@style()
def receptive_fields(
    image: Num[np.ndarray | jax.Array, "*shape"], boxes: Sequence[FieldBox], *, title: str, limit: int = 12
) -> Figure:
    """The receptive field of each layer on the image: all of them together, then one panel for each.

    Outside of its field, and in the field's holes, the image is faded. The grey margin is padding: a field that is
    larger than the image reaches into it (it is drawn up to 0.7 image sizes; the sizes in the captions are the true
    ones).

    Args:
        image: [h, w] or [h, w, channels], uint8 or floats from 0 to 1.
        boxes: one per layer, in the order of the layers.
        title: stands above the panels.
        limit: of more layers than this, so many are chosen evenly, the first and the last among them.

    Raises:
        ValueError: no boxes, or the image's shape or values are wrong, or `limit` is below 2.
    """
    picture, note = as_rgb(image, argument="image")
    if not boxes or limit < 2:
        raise ValueError(f"boxes: {len(boxes)}, limit: {limit}; at least one box and a limit of 2 are needed")
    kept = np.linspace(0, len(boxes) - 1, min(limit, len(boxes))).round().astype(int)
    drawn = [boxes[index] for index in kept]
    left_out = f" ({len(drawn)} of {len(boxes)} layers)" if len(drawn) < len(boxes) else ""

    lines = 1 if len(drawn) == 1 else 2 if len(drawn) <= 8 else 3
    columns = -(-len(drawn) // lines)
    names = [_tail(printable(box.name), 28) for box in drawn]
    figure = Figure(figsize=(2.0 * (columns + lines) + 0.6 + 0.08 * max(map(len, names)), 2.25 * lines + 0.4))
    figure.suptitle("\n".join(filter(None, (title + left_out, note))), parse_math=False)
    grid = figure.add_gridspec(lines, columns + 1, width_ratios=[lines, *[1.0] * columns])
    together = figure.add_subplot(grid[:, 0])
    _field_panel(together, picture, drawn, lit=None)
    handles = []
    for index, box in enumerate(drawn):
        handles.append(_field(together, box, index))
        axes = figure.add_subplot(grid[index // columns, 1 + index % columns])
        _field_panel(axes, picture, drawn, lit=_field(axes, box, index), seen=box.seen)
        caption_tile(axes, f"{names[index]}\n{box.size_text}")
    legend = together.legend(handles, names, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _field(axes: Axes, box: FieldBox, index: int) -> Rectangle:
    """The outline of a field; a pixel's centre is its index, so the outline runs half a pixel outside."""
    outline = Rectangle(
        (box.left - 0.5, box.top - 0.5),
        box.right - box.left + 1,
        box.bottom - box.top + 1,
        fill=False,
        edgecolor=COLOURS[index % len(COLOURS)],
        linestyle="-" if index < len(COLOURS) else (0, (3, 1.2)),
        linewidth=2,
        path_effects=[withStroke(linewidth=3.6, foreground="white", alpha=0.8)],
        zorder=4 - index / 100,
    )
    axes.add_patch(outline)
    return outline


def _field_panel(
    axes: Axes,
    picture: Float[np.ndarray, "h w 3"],
    boxes: Sequence[FieldBox],
    *,
    lit: Rectangle | None,
    seen: tuple[np.ndarray, ...] | None = None,
) -> None:
    height, width, _ = picture.shape
    reach = max(
        *(max(-box.top, box.bottom - height + 1) / height for box in boxes),
        *(max(-box.left, box.right - width + 1) / width for box in boxes),
        0.04,
    )
    margin = min(reach + 0.04, 0.7)
    axes.set_facecolor(PALE)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    if lit is not None:
        faded = 0.25 * picture + 0.75
        axes.imshow(faded)
        mask = True if seen is None else np.logical_and.outer(*seen)[..., np.newaxis]
        axes.imshow(np.where(mask, picture, faded)).set_clip_path(lit)
    else:
        axes.imshow(picture)
    axes.set(
        xticks=[],
        yticks=[],
        xlim=(-0.5 - margin * width, width - 0.5 + margin * width),
        ylim=(height - 0.5 + margin * height, -0.5 - margin * height),
    )


def _tail(name: str, length: int) -> str:
    return name if len(name) <= length else "…" + name[1 - length :]


@style()
def effective_field(
    gradient: Float[np.ndarray, "*shape"],
    gaussian: Float[np.ndarray, "*shape"],
    *,
    box: Sequence[tuple[int, int]],
    title: str,
) -> Figure:
    """A gradient by pixel with the theoretical field around it, and its profile with a fitted Gaussian.

    Args:
        gradient: along one axis, or two; of more, the middle plane of the others is shown.
        gaussian: what is fitted, of the same shape.
        box: first and last pixel of the theoretical field, per axis.
        title: stands above.
    """
    while gradient.ndim > 2:
        gradient, gaussian, box = gradient[len(gradient) // 2], gaussian[len(gaussian) // 2], box[1:]
    flat = gradient.ndim == 2
    figure = Figure(figsize=(9.2 if flat else 5.5, 3.9))
    figure.suptitle(title, parse_math=False)
    *map_axes, profile = figure.subplots(1, 2 if flat else 1, squeeze=False)[0]
    if flat:
        (axes,) = map_axes
        image = axes.imshow(gradient, cmap="magma", vmin=0)
        (top, bottom), (left, right) = box
        # A pixel's centre is its index, so the outline runs half a pixel outside.
        corner = (left - 0.5, top - 0.5)
        outline = Rectangle(corner, right - left + 1, bottom - top + 1, fill=False, edgecolor=COLOURS[5], linewidth=1.5)
        axes.add_patch(outline)
        axes.set(xlabel="column / pixels", ylabel="row / pixels")
        axes.set_xlim(-0.5, gradient.shape[1] - 0.5)
        axes.set_ylim(gradient.shape[0] - 0.5, -0.5)
        axes.grid(visible=False)
        figure.colorbar(image, ax=axes, label="gradient")
    others = tuple(range(1, gradient.ndim))
    places = np.arange(len(gradient))
    profile.plot(places, gradient.sum(axis=others), color=COLOURS[0], label="gradient")
    profile.plot(places, gaussian.sum(axis=others), color=COLOURS[1], linestyle="--", label="fitted Gaussian")
    low, high = box[0]
    profile.axvspan(low - 0.5, high + 0.5, color=COLOURS[5], alpha=0.15, label="theoretical field", zorder=0)
    profile.set_xlim(-0.5, len(gradient) - 0.5)
    profile.set_ylim(bottom=0)
    profile.set(xlabel="row / pixels", ylabel="sum along the row" if flat else "gradient")
    profile.legend(fontsize=9)
    return figure
