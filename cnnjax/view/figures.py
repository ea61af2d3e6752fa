"""Figures: data in, a matplotlib `Figure` out, all in one style.

Nothing here touches pyplot, so the functions need no screen, may run in threads, and a figure that is no
longer referenced is gone. `png` turns a figure into bytes for a folder or for a page.
"""

import contextlib
import io
import textwrap
import threading
from collections.abc import Generator, Mapping, Sequence

import jax
import matplotlib as mpl
import matplotlib.style
import numpy as np
from jaxtyping import Float, Num
from matplotlib import rcsetup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from cnnjax.view.text import printable
from cnnjax.view.visible import as_floats, scale_of, visible

# Okabe and Ito's colours, which colour-blind readers tell apart; their yellow is too pale for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
PALE = "#e4e7eb"  # grids, frames, and what lies outside of a picture
_INK, QUIET, _ALARM = "#1f2328", "#8b949e", COLOURS[1]
_BY = "\N{MULTIPLICATION SIGN}"

# Channels of a strip that have names under them, where there are no more.
_MOST_NAMED = 40

_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": QUIET,
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.prop_cycle": rcsetup.cycler(color=list(COLOURS)),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": _INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.07,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.07,
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
    "font.size": 10,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "image.cmap": "viridis",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "savefig.dpi": 150,
    "text.color": _INK,
    "xtick.color": _INK,
    "xtick.labelsize": 9,
    "ytick.color": _INK,
    "ytick.labelsize": 9,
}

# Matplotlib's settings belong to the process: figures drawn in several threads take turns.
_TURN = threading.RLock()


@contextlib.contextmanager
def style() -> Generator[None, None, None]:
    """Gives every figure built or saved inside the common style, whatever matplotlib's settings are outside.

    A context manager and a decorator; on leaving, the settings are as before.

    >>> with style():
    ...     mpl.rcParams["axes.spines.top"]
    False
    """
    with _TURN, matplotlib.style.context(["default", _STYLE]):
        yield


def png(figure: Figure, *, dpi: int = 150) -> bytes:
    """The figure as PNG bytes, `dpi` pixels to the inch; equal figures give equal bytes."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


_ORDER = {"loss": 0, "learning_rate": 2, "examples_per_second": 3}  # any other metric: 1
_UNITS = {"examples_per_second": "examples / s"}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def metrics_of(rows: Sequence[Mapping[str, float | int | str | None]]) -> list[str]:
    """What `learning_curves` draws of a log, in its order."""
    seen = {key: None for row in rows for key, value in row.items() if _is_number(value)}
    return sorted((key for key in seen if key not in ("epoch", "step")), key=lambda m: _ORDER.get(m, 1))


@style()
def learning_curves(
    rows: Sequence[Mapping[str, float | int | str | None]], metrics: Sequence[str] | None = None
) -> Figure:
    """One panel per metric of a run's log, one line per split, over epochs (steps if a row has no epoch).

    The loss comes first, the learning rate and the throughput last; any numeric entry besides `step` and
    `epoch` is a metric. Values that are not finite leave a gap, and the legend counts them.

    Args:
        rows: the lines of a `metrics.jsonl`, each with `epoch` or `step`, a `split`, and metrics.
        metrics: those that are drawn; all where None.

    Raises:
        ValueError: no rows, no metric in them, or a row with neither `epoch` nor `step`.
    """
    along = next((k for k in ("epoch", "step") if rows and all(_is_number(row.get(k)) for row in rows)), None)
    found = metrics_of(rows)
    metrics = found if metrics is None else [name for name in metrics if name in found]
    if along is None or not metrics:
        raise ValueError(
            f"rows: {len(rows)} rows with the numbers {found}; "
            "at least one row, a metric, and an epoch (or a step) in every row are needed"
        )
    splits = sorted({str(row.get("split", "all")): None for row in rows}, key=lambda s: s != "train")

    lines = -(-len(metrics) // 3)
    columns = -(-len(metrics) // lines)
    figure = Figure(figsize=(4.0 * columns, 2.9 * lines))
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for metric, axes in zip(metrics, panels, strict=False):
        measured = [row for row in rows if _is_number(row.get(metric))]
        values = np.asarray([row[metric] for row in measured], float)
        for index, split in enumerate(splits):
            mine = [row for row in measured if str(row.get("split", "all")) == split]
            if mine:
                _curve(
                    axes,
                    mine,
                    along=along,
                    metric=metric,
                    split=split,
                    colour=COLOURS[index % len(COLOURS)],
                )
        share = "accuracy" in metric and bool(np.all((values >= 0) & (values <= 1) | ~np.isfinite(values)))
        axes.yaxis.set_major_formatter(PercentFormatter(1) if share else StrMethodFormatter("{x:,g}"))
        axes.set_xlabel(along)
        axes.set_ylabel(
            _UNITS.get(metric, metric.replace("_", " ")),
            parse_math=False,
            rotation=0,
            ha="left",
            va="bottom",
            fontsize=11,
            fontweight="bold",
        )
        axes.yaxis.set_label_coords(0, 1.03)
        axes.set_title(" ")  # the layout keeps no height for a y label, but does for a title
        if len(axes.lines) > 1 or not np.isfinite(values).all():
            axes.legend()
    for axes in panels[len(metrics) :]:
        axes.remove()
    return figure


def _curve(
    axes: Axes,
    rows: Sequence[Mapping[str, float | int | str | None]],
    *,
    along: str,
    metric: str,
    split: str,
    colour: str,
) -> None:
    values = np.asarray([row[metric] for row in rows], float)
    lost = int(np.count_nonzero(~np.isfinite(values)))
    marked = len(values) == 1 or (split != "train" and len(values) <= 60)
    axes.plot(
        np.asarray([row[along] for row in rows], float),
        values,
        color=colour,
        marker="o" if marked else None,
        label=f"{split} ({lost} not finite)" if lost else split,
    )


def empty_tiles(
    count: int, *, title: str, columns: int, aspect: float, caption_lines: int = 1, margin: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` empty tiles, at most `columns` to a line and about 11 inches wide."""
    lines = -(-count // columns)
    columns = -(-count // lines)
    tile = float(np.clip(11 / columns, 1.3, 2.2))
    width = max(tile * columns + margin, 5.0)
    heading = textwrap.fill(title, int(width * 9))
    height = lines * (tile * aspect + 0.16 * caption_lines) + 0.23 * (heading.count("\n") + 1) + 0.15
    figure = Figure(figsize=(width, height))
    figure.suptitle(heading, parse_math=False)
    tiles = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in tiles:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set(visible=True, color=PALE)
    for axes in tiles[count:]:
        axes.remove()
    return figure, tiles[:count]


def caption_tile(axes: Axes, text: str, *, colour: str = _INK) -> None:
    """Writes a short text over a tile, small, centred and never read as a formula."""
    text = printable(text, keep="\n")
    axes.set_title(text, loc="center", fontsize=8, fontweight="normal", color=colour, pad=3, parse_math=False)


def _first(limit: int, total: int) -> tuple[int, str]:
    if limit < 1:
        raise ValueError(f"limit: {limit}; at least 1 tile must be drawn")
    return min(limit, total), f"first {limit} of {total}" if total > limit else f"{total}"


@style()
def filters(
    kernel: Num[np.ndarray | jax.Array, "kh kw i o"], *, name: str, limit: int = 64, columns: int = 8
) -> Figure:
    """The filters of a convolution as a grid: colours for three input channels, greys otherwise.

    Three input channels: one tile per output channel, `0.5 + 0.5 w / max|w|` with the filter's own maximum,
    so mid grey is a weight of zero. Otherwise: one tile per (input, output) pair, captioned `input → output`,
    or `output` where there is one input, from black to white on one scale symmetric about zero. Weights that
    are not finite are vermilion.

    Raises:
        ValueError: the kernel is not [kh, kw, in, out] or is empty, or `limit` is below 1.
    """
    weights = np.asarray(kernel).astype(np.float64)
    if weights.ndim != 4 or not weights.size:
        raise ValueError(f"kernel: shape {weights.shape}; expected [kh, kw, in, out], none of them 0")
    kh, kw, inputs, outputs = weights.shape
    in_colour = inputs == 3
    shown, how_many = _first(limit, outputs if in_colour else inputs * outputs)
    kind = "filters" if in_colour or inputs == 1 else "slices (input → output)"
    size = _BY.join(map(str, kernel.shape[: 3 if in_colour else 2]))
    figure, tiles = empty_tiles(
        shown,
        title=f"{name}: {how_many} {kind} of {size}",
        columns=columns,
        aspect=float(np.clip(kh / kw, 0.4, 2.5)),
        margin=0.0 if in_colour else 0.9,
    )
    finite = np.isfinite(weights)
    largest = float(np.max(np.abs(weights), where=finite, initial=0)) or 1.0
    greys = mpl.colormaps["gray"].with_extremes(bad=_ALARM)
    for index, axes in enumerate(tiles):
        if in_colour:
            tile, fine = weights[..., index], finite[..., index]
            own = float(np.max(np.abs(tile), where=fine, initial=0)) or 1.0
            rgb = 0.5 + 0.5 * np.where(fine, tile, 0) / own
            axes.imshow(np.where(fine.all(axis=-1, keepdims=True), rgb, mpl.colors.to_rgb(_ALARM)))
            caption_tile(axes, f"{index}")
        else:
            output, source = divmod(index, inputs)
            axes.imshow(weights[:, :, source, output], cmap=greys, vmin=-largest, vmax=largest)
            caption_tile(axes, f"{output}" if inputs == 1 else f"{source} → {output}")
    if not in_colour:
        bar = figure.colorbar(tiles[0].images[0], ax=tiles, label="weight", aspect=40, pad=0.02)
        bar.outline.set_edgecolor(PALE)
    return figure


@style()
def feature_maps(
    maps: Num[np.ndarray | jax.Array, "*shape"],
    *,
    name: str,
    limit: int = 32,
    columns: int = 8,
    channel_names: Sequence[str] = (),
) -> Figure:
    """What one layer made of one image: its channels as tiles, each captioned with its number and [min, max].

    Each tile has its own colour scale, dark for its minimum. A constant channel (a dead one is) becomes a
    hatched tile with its value; values that are not finite are vermilion and counted. A layer without height
    and width, [c] or [1, 1, c], is one strip of bars, all of them drawn.

    Args:
        maps: of one layer, [h, w, c] or [c].
        name: of the layer.
        limit: of more channels than this, the first are drawn.
        columns: tiles to a line.
        channel_names: what the channels of a strip are called, such as the classes of logits; numbers where there are
            none, or more than 40.

    Raises:
        ValueError: the maps are not [h, w, c] or [c] or are empty, or `limit` is below 1.
    """
    values = np.asarray(maps).astype(np.float64)
    if values.ndim not in (1, 3) or not values.size:
        raise ValueError(f"maps: shape {values.shape}; expected those of one image, [h, w, c] or [c], none of them 0")
    if values.size == values.shape[-1]:
        return _strip(values.ravel(), channel_names, title=f"{name}: {_BY.join(map(str, values.shape))} values")
    height, width, channels = values.shape
    shown, how_many = _first(limit, channels)
    figure, tiles = empty_tiles(
        shown,
        title=f"{name}: {how_many} channels of {height}{_BY}{width}",
        columns=columns,
        aspect=float(np.clip(height / width, 0.4, 2.5)),
        caption_lines=2,
    )
    colours = mpl.colormaps[mpl.rcParams["image.cmap"]].with_extremes(bad=_ALARM)
    for index, axes in enumerate(tiles):
        channel = values[..., index]
        sound, extent = bool(np.isfinite(channel).all()), _extent(channel)
        axes.imshow(np.ma.masked_invalid(channel), cmap=colours)
        if sound and channel.min() == channel.max():
            axes.add_patch(Rectangle((-0.5, -0.5), width, height, fc=PALE, ec=QUIET, hatch="///"))
        gap = "\n" if len(extent.split("\n")[0]) > 18 else " "
        caption_tile(axes, f"{index}:{gap}{extent}", colour=_INK if sound else _ALARM)
    return figure


def _extent(values: Float[np.ndarray, "*shape"]) -> str:
    fine = values[np.isfinite(values)]
    lost = f"{values.size - fine.size} not finite" if fine.size < values.size else ""
    if not fine.size:
        return lost
    low, high = f"{fine.min():.3g}", f"{fine.max():.3g}"
    extent = f"constant {low}" if fine.min() == fine.max() else f"[{low}, {high}]"
    return f"{extent}\n{lost}" if lost else extent


def _strip(values: Float[np.ndarray, " c"], names: Sequence[str], *, title: str) -> Figure:
    figure = Figure(figsize=(11, 2.6))
    axes = figure.subplots()
    units = np.arange(values.size)
    fine = np.isfinite(values)
    axes.vlines(
        units[fine],
        0,
        values[fine],
        colors=COLOURS[0],
        linewidths=min(44.0, 520 / values.size),
    )
    axes.plot(units[~fine], np.zeros((~fine).sum()), "x", color=_ALARM)
    axes.axhline(0, color=QUIET, linewidth=0.8)
    axes.set_xlim(-0.7, values.size - 0.3)
    if len(names) == values.size <= _MOST_NAMED:
        shown = [text if len(text) <= 20 else f"{text[:19]}…" for text in map(printable, names)]
        turned = sum(map(len, shown)) > 90
        axes.set_xticks(units, shown, rotation=90 if turned else 0, parse_math=False)
    else:
        axes.set_xlabel("channel")
    axes.set_ylabel("value")
    axes.xaxis.grid(visible=False)
    figure.suptitle(f"{title}, {_extent(values)}".replace("\n", ", "), parse_math=False)
    return figure


def as_rgb(image: Num[np.ndarray | jax.Array, "*shape"], *, argument: str) -> tuple[Float[np.ndarray, "h w 3"], str]:
    """The image as floats from 0 to 1 in three channels, ready to be drawn, and a note for the caption.

    Args:
        image: [h, w] or [h, w, channels], uint8 or floats from 0 to 1; see `visible` for other channels than 1 and 3.
        argument: what errors call the image.

    Raises:
        ValueError: the image has another shape or other values.
    """
    values = np.asarray(image)
    values = values[..., np.newaxis] if values.ndim == 2 else values
    if values.ndim != 3 or not values.size:
        raise ValueError(f"{argument}: shape {np.shape(image)}; expected [h, w] or [h, w, channels]")
    floats = as_floats(values)
    if np.isnan(floats).any() or scale_of([floats]) != (0, 1):
        raise ValueError(
            f"{argument}: {values.dtype} values from {values.min():g} to {values.max():g}; expected "
            "uint8, or floats from 0 to 1: undo the normalisation, or rescale"
        )
    (shown,), note = visible([floats])
    return np.broadcast_to(shown, (*shown.shape[:2], 3)), note
