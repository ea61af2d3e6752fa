"""Plots that any analysis may need, in the style of `figures`: curves, bars, a matrix, a grid of pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from cnnjax.view.figures import COLOURS, QUIET, caption_tile, empty_tiles, style
from cnnjax.view.visible import as_floats, visible

_MARKERS = "osD^vP"

# Bars that are drawn; of more, this many spread evenly.
_MOST_BARS = 60

# Numbers that span more than this factor get a logarithmic scale on demand.
_DECADES = 30


class Panel(NamedTuple):
    """Lines over one pair of axes, by name: places and heights."""

    title: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]


@style()
def curves(
    panels: Sequence[Panel],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    columns: int = 3,
    log: str = "",
    y_from_zero: bool = True,
    share_y: bool = True,
) -> Figure:
    """Panels of lines with a mark at every point; a name has one colour and one mark in all panels.

    Args:
        panels: one pair of axes each; points that are not finite are left out.
        x_label: what runs along x, with its unit; so `y_label` along y.
        y_label: see `x_label`.
        title: stands above the panels.
        columns: panels to a line, at most.
        log: axes with a logarithmic scale: "x", "y", "xy" or none.
        y_from_zero: whether y begins at zero.
        share_y: whether all panels have one scale along y.

    Raises:
        ValueError: no panels, or one without lines.
    """
    if not panels or any(not panel.lines for panel in panels):
        raise ValueError(f"panels: {[panel.title for panel in panels]}; at least one is needed, each with a line")
    rows = -(-len(panels) // columns)
    columns = -(-len(panels) // rows)
    figure = Figure(figsize=(max(3.7 * columns, 6.0), 2.9 * rows + 0.4 * bool(title)))
    if title:
        figure.suptitle(title, parse_math=False)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=share_y)
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    for axes, panel in zip(grid.flat, panels, strict=False):
        for name, (places, heights) in panel.lines.items():
            number = names.index(name)
            axes.plot(
                places,
                heights,
                color=COLOURS[number % len(COLOURS)],
                marker=_MARKERS[(number + number // len(COLOURS)) % len(_MARKERS)],
                linestyle="-" if number < len(COLOURS) else "--",
                label=name,
            )
        if panel.title:
            axes.set_title(panel.title, parse_math=False)
        axes.set_xlabel(x_label, parse_math=False)
        axes.set(xscale="log" if "x" in log else "linear", yscale="log" if "y" in log else "linear")
        places = {float(place) for along, _ in panel.lines.values() for place in along}
        if len(places) == 1:
            axes.set_xticks([*places])
    if y_from_zero and "y" not in log:
        for axes in grid.flat[: len(panels)]:
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    for line in grid:
        line[0].set_ylabel(y_label, parse_math=False)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    if len(names) > 1:
        handles = {line.get_label(): line for axes in figure.axes for line in axes.lines}
        figure.legend(
            [handles[name] for name in names], names, loc="outside lower center", ncols=min(len(names), 2 * columns)
        )
    return figure


@style()
def bars(
    names: Sequence[str],
    columns: Mapping[str, Sequence[float]],
    *,
    title: str,
    limit: int = _MOST_BARS,
    log: bool = False,
) -> Figure:
    """Horizontal bars, a line per name and a panel per column of numbers; names stand once, at the left.

    Args:
        names: what the bars are of, from the top down.
        columns: by label, with its unit, a number for each name; what is not finite has no bar.
        title: stands above.
        limit: of more names than this, so many are chosen evenly, the first and the last among them.
        log: whether columns that span more than a factor of 30 have a logarithmic scale.

    Raises:
        ValueError: no names or no columns, or a column of another length.
    """
    if not names or not columns or any(len(column) != len(names) for column in columns.values()):
        found = {label: len(column) for label, column in columns.items()}
        raise ValueError(f"names: {len(names)}, columns: {found}; expected at least one, all of one length")
    kept = np.linspace(0, len(names) - 1, min(limit, len(names))).round().astype(int)
    left_out = f" ({len(kept)} of {len(names)})" if len(kept) < len(names) else ""
    longest = max(len(names[index]) for index in kept)
    width = 0.075 * min(longest, 40) + 2.6 * len(columns)
    figure = Figure(figsize=(max(width, 6.0), 0.2 * len(kept) + 1.3))
    figure.suptitle(title + left_out, parse_math=False)
    places = np.arange(len(kept))
    for number, (axes, (label, column)) in enumerate(
        zip(figure.subplots(1, len(columns), squeeze=False, sharey=True).flat, columns.items(), strict=True)
    ):
        axes.barh(places, np.asarray(column, float)[kept], height=0.75, color=COLOURS[number % len(COLOURS)])
        axes.set_xlabel(label, parse_math=False)
        axes.yaxis.grid(visible=False)
        axes.tick_params(axis="y", length=0)
        shown = np.asarray(column, float)[kept]
        shown = shown[np.isfinite(shown) & (shown > 0)]
        if not len(shown):
            axes.set_xlim(0, 1)
        if log and len(shown) and shown.max() > _DECADES * shown.min():
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        if number == 0:
            texts = [name if len(name) <= 40 else "…" + name[-39:] for name in (names[index] for index in kept)]
            axes.set_yticks(places, texts, fontsize=8, parse_math=False)
            axes.set_ylim(len(kept) - 0.4, -0.6)
    return figure


@style()
def matrix(
    values: np.ndarray, rows: Sequence[str], columns: Sequence[str], *, title: str, label: str, limits: Any = None
) -> Figure:
    """Numbers of pairs as colours, with a scale; up to 144 of them are written in.

    Args:
        values: a number for each row and column.
        rows: their names, from the top down.
        columns: their names, from the left.
        title: stands above.
        label: what the numbers are.
        limits: of the colours; the smallest and largest number where left out.
    """
    side = 0.3 * max(len(rows), len(columns)) + 2.2
    figure = Figure(figsize=(min(max(side + 0.06 * max(map(len, rows)), 5), 16), min(max(side, 4), 14)))
    figure.suptitle(title, parse_math=False)
    axes = figure.subplots()
    low, high = limits or (float(np.nanmin(values)), float(np.nanmax(values)))
    image = axes.imshow(values, vmin=low, vmax=high, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(rows)), rows, fontsize=8, parse_math=False)
    axes.grid(visible=False)
    if values.size <= 144:
        for (row, column), value in np.ndenumerate(values):
            bright = (value - low) > 0.6 * (high - low)
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color="k" if bright else "w")
    figure.colorbar(image, ax=axes, label=label)
    return figure


class Tile(NamedTuple):
    """One picture of a grid, or numbers that `kind` gives a colour scale.

    A picture is grey, RGB or of other channels (see `visible`), as bytes or as floats of which what lies beyond 0 and 1
    is cut off.

    `kind`: "picture"; "signed", red above zero and blue below, even about it; or "heat", from zero up.
    `over` is a picture that a heat map lies on.
    """

    values: np.ndarray
    caption: str
    kind: str = "picture"
    over: np.ndarray | None = None


@style()
def pictures(shown: Sequence[Tile], *, title: str, columns: int = 8) -> Figure:
    """A grid of pictures, each with a caption; numbers have colours of their own scale, which the caption should tell.

    Raises:
        ValueError: nothing to show.
    """
    if not shown:
        raise ValueError("shown: no pictures; at least one is needed")
    height, width = np.shape(shown[0].values)[:2]
    lines = max(tile.caption.count("\n") + 1 for tile in shown)
    aspect = float(np.clip(height / width, 0.4, 2.5))
    figure, places = empty_tiles(len(shown), title=title, columns=columns, aspect=aspect, caption_lines=lines)
    for axes, tile in zip(places, shown, strict=True):
        _draw_tile(axes, tile)
    return figure


def _draw_tile(axes: Axes, tile: Tile) -> None:
    values = as_floats(np.asarray(tile.values))
    if values.ndim == 3 and values.shape[-1] not in (1, 3) and tile.kind == "picture":
        ((values,), _) = visible([values])
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    bad = {"bad": COLOURS[1]}
    match tile.kind:
        case "picture":
            axes.imshow(values.clip(0, 1), cmap=mpl.colormaps["gray"].with_extremes(**bad), vmin=0, vmax=1)
        case "signed":
            largest = float(np.nanmax(np.abs(values), initial=0)) or 1.0
            axes.imshow(values, cmap=mpl.colormaps["RdBu_r"].with_extremes(**bad), vmin=-largest, vmax=largest)
        case "heat":
            if tile.over is not None:
                grey = as_floats(np.asarray(tile.over))
                grey = grey.mean(-1) if grey.ndim == 3 else grey
                height, width = grey.shape
                axes.imshow(grey, cmap="gray", vmin=0, vmax=1)
                # The map may be coarser than the picture that it lies on.
                extent = (-0.5, width - 0.5, height - 0.5, -0.5)
                axes.imshow(values, cmap="magma", alpha=0.6, vmin=0, extent=extent, interpolation="bilinear")
            else:
                axes.imshow(values, cmap=mpl.colormaps["magma"].with_extremes(**bad), vmin=0)
        case other:
            raise ValueError(f"kind={other!r}; expected 'picture', 'signed' or 'heat'")
    caption_tile(axes, tile.caption)
    axes.spines[:].set(visible=True, color=QUIET, linewidth=0.5)
