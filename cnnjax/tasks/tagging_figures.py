"""Pictures of a tagger's predictions."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cnnjax.tasks.pictures import shorten, show_images
from cnnjax.tasks.ranking import average_precision, precision_recall

MOST_BARS = 120
BARS_PER_COLUMN = 40
MOST_CURVES = 6
MOST_SHOWN = 24
MOST_LINES = 7

# A tag of an example: name, sign and colour, the signs for those who do not see the colours.
RIGHT, MISSED, WRONG = ("right", "✓", "C2"), ("missed", "○", "C0"), ("wrong", "✗", "C1")


def average_precisions(present: np.ndarray, probabilities: np.ndarray, tags: Sequence[str]) -> Figure:
    """A bar per tag from the best ranked down, with its positives and the precision that chance would give.

    Tags without positives are left out and counted in the title. Of very many, the best and the worst are shown.

    Args:
        present: whether each example has each tag.
        probabilities: what the model says.
        tags: their names.
    """
    positives = present.sum(axis=0)
    ranked = np.flatnonzero(positives)
    precisions = average_precision(present[:, ranked], probabilities[:, ranked])
    order = np.argsort(-precisions, kind="stable")
    half = MOST_BARS // 2
    shown = order if len(order) <= MOST_BARS else np.concatenate([order[:half], order[-half:]])
    columns = -(-len(shown) // BARS_PER_COLUMN)
    length = -(-len(shown) // columns)
    figure = Figure(figsize=(max(3.6 * columns, 6.2), 0.2 * length + 1.6), layout="constrained")
    title = f"Mean average precision {precisions.mean():.3f} over {_count(len(ranked), 'tag')}"
    lost = len(tags) - len(ranked)
    title += f"\n{_count(lost, 'tag')} without positives left out" if lost else ""
    title += f"\nthe {half} best and the {half} worst" if len(shown) < len(order) else ""
    figure.suptitle(title)
    for number, axes in enumerate(figure.subplots(1, columns, squeeze=False).flat):
        part = shown[number * length : (number + 1) * length]
        places, which = np.arange(len(part)), ranked[part]
        chance = positives[which] / len(present)
        axes.barh(places, precisions[part], height=0.7, color="C0", label="average precision; number: positives")
        for place, end, count in zip(places, np.maximum(precisions[part], chance), positives[which], strict=True):
            axes.text(end + 0.02, place, f"{count:,}", fontsize=8, va="center")
        axes.plot(chance, places, "|", color="C1", markersize=8, markeredgewidth=2, label="chance: share of positives")
        axes.set_yticks(places, [shorten(tags[index], 18) for index in which], fontsize=8, parse_math=False)
        axes.set(xlim=(0, 1.15), ylim=(length - 0.4, -0.6), xticks=np.linspace(0, 1, 6), xlabel="average precision")
        axes.yaxis.grid(visible=False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def precision_recall_curves(
    present: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, tags: Sequence[str]
) -> Figure:
    """Precision over recall of some tags, from the best ranked to the worst; the area below is average precision.

    A curve ends where recall reaches 1; its dot is where the threshold puts the tag. Arguments are those of
    `average_precisions`, and the predicted tags.
    """
    ranked = np.flatnonzero(present.any(axis=0))
    precisions = average_precision(present[:, ranked], probabilities[:, ranked])
    order = np.argsort(-precisions, kind="stable")
    count = min(MOST_CURVES, len(order))
    shown = order[np.linspace(0, len(order) - 1, count).round().astype(int)]
    figure = Figure(figsize=(8.5, 4.2), layout="constrained")
    axes = figure.subplots()
    spread = f"{count} of {len(order):,} tags, from best to worst" if count < len(order) else _count(count, "tag")
    figure.suptitle(f"Precision and recall: {spread}")
    for place in shown:
        index = ranked[place]
        precision, recall = precision_recall(present[:, index], probabilities[:, index])
        rises = np.diff(recall, prepend=0.0) > 0
        name = f"{shorten(tags[index], 18)}: {precisions[place]:.3f}, {int(present[:, index].sum()):,} positives"
        # The precision of a step belongs to the rise in recall that it ends.
        (line,) = axes.plot(
            np.append(0.0, recall[rises]),
            np.append(precision[rises][:1], precision[rises]),
            drawstyle="steps-pre",
            label=name,
        )
        said, right = int(predicted[:, index].sum()), int((predicted & present)[:, index].sum())
        if said:
            at = right / int(present[:, index].sum()), right / said
            axes.plot(*at, "o", color=line.get_color(), clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=9, title="average precision; dot: at the threshold"
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def tagged_examples(
    images: np.ndarray,
    present: np.ndarray,
    probabilities: np.ndarray,
    predicted: np.ndarray,
    *,
    tags: Sequence[str],
    worst: bool,
) -> Figure:
    """Pictures beside their tags: right, missed and wrong, each with its probability.

    With `worst`, those that a tag is farthest from right in, the surest mistakes first; without, some at equal
    distances among all.
    """
    error = np.abs(present - probabilities).max(axis=-1)
    mistaken = int((present != predicted).any(axis=-1).sum())
    if worst:
        chosen = np.argsort(-error, kind="stable")[:MOST_SHOWN]
        title = f"Farthest from right: {len(chosen)} of {_count(len(images), 'example')}, {mistaken:,} with a mistake"
    else:
        chosen = np.unique(np.linspace(0, len(images) - 1, MOST_SHOWN).round().astype(int))
        title = f"{len(chosen)} of {_count(len(images), 'example')}"
    columns = min(4, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(max(2.9 * columns, 5), 1.35 * rows + 0.9), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=[1, 1.3] * columns).reshape(-1, 2)
    for pair in grid:
        for axes in pair:
            axes.axis("off")
    note = show_images(list(grid[: len(chosen), 0]), [images[index] for index in chosen])
    figure.suptitle(f"{title}\n{note}".rstrip())
    for (_, text), index in zip(grid, chosen, strict=False):
        _list_tags(text, present[index], probabilities[index], predicted[index], tags)
    handles = [
        Line2D([], [], linestyle="none", marker=f"${sign}$", color=colour, markersize=8, label=name)
        for name, sign, colour in (RIGHT, MISSED, WRONG)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _list_tags(
    axes: Axes, present: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, tags: Sequence[str]
) -> None:
    """A line for each tag that is there or predicted: mistakes first, the surest before the others."""
    error = np.abs(present - probabilities)
    listed = np.flatnonzero(present | predicted)
    listed = listed[np.lexsort((-error[listed], (present == predicted)[listed]))]
    fitting = listed if len(listed) <= MOST_LINES else listed[: MOST_LINES - 1]
    lines = []
    for index in fitting:
        _, sign, colour = RIGHT if present[index] and predicted[index] else MISSED if present[index] else WRONG
        lines.append((f"{sign} {shorten(tags[index], 16)}, {probabilities[index]:.0%}", colour))
    if len(fitting) < len(listed):
        lines.append((f"and {len(listed) - len(fitting)} more", "0.4"))
    for line, (text, colour) in enumerate(lines or [(f"{RIGHT[1]} no tag", RIGHT[2])]):
        axes.text(
            0, 0.98 - 0.14 * line, text, color=colour, fontsize=8, va="top", transform=axes.transAxes, parse_math=False
        )


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
