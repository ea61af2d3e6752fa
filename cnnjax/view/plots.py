"""Plots that any analysis may need, in the style of `figures`: curves, bars, a matrix, a grid of pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from cnnjax.view.figures import COLOURS, QUIET, caption_tile, empty_tiles, style
from cnnjax.view.text import printable
from cnnjax.view.visible import as_floats, visible

_MARKERS = "osD^vP"

# Bars that are drawn; of more, this many spread evenly.
_MOST_BARS = 60


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
    laws: Sequence[str] = (),
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
        laws: names of lines that others are compared with: drawn broad and pale beneath them, so that both are seen.

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
            if name in laws:
                look: dict[str, Any] = {"linewidth": 7, "alpha": 0.35, "zorder": 1}
            else:
                marker = _MARKERS[(number + number // len(COLOURS)) % len(_MARKERS)]
                look = {"marker": marker, "linestyle": "-" if number < len(COLOURS) else "--"}
            axes.plot(places, heights, color=COLOURS[number % len(COLOURS)], label=name, **look)
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

    On a logarithmic scale, which has no zero for a bar to begin at, the numbers are dots.

    Args:
        names: what the bars are of, from the top down.
        columns: by label, with its unit, a number for each name; what is not finite has no bar.
        title: stands above.
        limit: of more names than this, so many are chosen evenly, the first and the last among them.
        log: whether all columns have a logarithmic scale.

    Raises:
        ValueError: no names or no columns, or a column of another length.
    """
    kept = _kept(names, columns, limit)
    figure, panels = _lines_of_names([names[index] for index in kept], len(columns), title + _left_out(kept, names))
    places = np.arange(len(kept))
    for number, (axes, (label, column)) in enumerate(zip(panels, columns.items(), strict=True)):
        shown, colour = np.asarray(column, float)[kept], COLOURS[number % len(COLOURS)]
        if log:
            axes.plot(np.where(shown > 0, shown, np.nan), places, "o", color=colour)
            _logarithmic(axes)
        else:
            axes.barh(places, shown, height=0.75, color=colour)
            if not (np.isfinite(shown) & (shown > 0)).any():
                axes.set_xlim(0, 1)
        axes.set_xlabel(label, parse_math=False)
    return figure


@style()
def dots(
    names: Sequence[str],
    columns: Mapping[str, Sequence[float]],
    *,
    label: str,
    title: str,
    limit: int = _MOST_BARS,
    line: tuple[str, float] | None = None,
) -> Figure:
    """A line per name with a dot for each column's number, all along one logarithmic axis.

    Args:
        names: what the numbers are of, from the top down.
        columns: by what they are called, a number for each name; what is not above zero has no dot.
        label: of the axis, with the unit that all columns have.
        title: stands above.
        limit: of more names than this, so many are chosen evenly, the first and the last among them.
        line: a name and a number, for an upright line that dots are compared with.

    Raises:
        ValueError: no names or no columns, or a column of another length.
    """
    kept = _kept(names, columns, limit)
    figure, (axes,) = _lines_of_names([names[index] for index in kept], 1, title + _left_out(kept, names), width=4.5)
    for number, (name, column) in enumerate(columns.items()):
        shown = np.asarray(column, float)[kept]
        marker = _MARKERS[number % len(_MARKERS)]
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(np.where(shown > 0, shown, np.nan), np.arange(len(kept)), marker, color=colour, label=name)
    if line is not None:
        name, value = line
        axes.axvline(value, color=QUIET, linestyle="--", linewidth=1.2, label=f"{name}: {value:g}", zorder=1)
    _logarithmic(axes)
    axes.set_xlabel(label, parse_math=False)
    figure.legend(loc="outside lower center", ncols=len(columns) + (line is not None))
    return figure


def _kept(names: Sequence[str], columns: Mapping[str, Sequence[float]], limit: int) -> np.ndarray:
    """Which of the names are shown."""
    if not names or not columns or any(len(column) != len(names) for column in columns.values()):
        found = {label: len(column) for label, column in columns.items()}
        raise ValueError(f"names: {len(names)}, columns: {found}; expected at least one, all of one length")
    return np.linspace(0, len(names) - 1, min(limit, len(names))).round().astype(int)


def _left_out(kept: np.ndarray, names: Sequence[str]) -> str:
    return f" ({len(kept)} of {len(names)})" if len(kept) < len(names) else ""


def _lines_of_names(names: Sequence[str], panels: int, title: str, width: float = 2.6) -> tuple[Figure, list[Axes]]:
    """Empty panels side by side, with a line for each name from the top down, which stand once, at the left."""
    texts = [name if len(name) <= 40 else "…" + name[-39:] for name in map(printable, names)]
    figure = Figure(figsize=(max(0.075 * max(map(len, texts)) + width * panels, 6.0), 0.2 * len(names) + 1.3))
    figure.suptitle(title, parse_math=False)
    grid = [*figure.subplots(1, panels, squeeze=False, sharey=True).flat]
    grid[0].set_yticks(np.arange(len(names)), texts, fontsize=8, parse_math=False)
    grid[0].set_ylim(len(names) - 0.4, -0.6)
    for axes in grid:
        axes.tick_params(axis="y", length=0)
    return figure, grid


def _logarithmic(axes: Axes) -> None:
    """A logarithmic scale along x, with numbers at 2 and 5 too where it spans little; lines lead from names to dots."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter() if high > 50 * low else StrMethodFormatter("{x:,g}"))
    axes.yaxis.grid(visible=True)


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
    rows, columns = ([*map(printable, names)] for names in (rows, columns))
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
