"""Pictures of a classifier's predictions."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from cnnjax.tasks.pictures import shorten, show_images
from cnnjax.view.text import printable

MOST_SHOWN = 24
MOST_NAMED = 30


def confusion_matrix(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Counts by true class (rows) and predicted class (columns); the colour is the share of the row's examples."""
    size = len(classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.42 * size + 2, 4, 14))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    correct = int(np.trace(counts))
    axes.set_title(f"{correct:,} of {int(counts.sum()):,} right")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if size <= MOST_NAMED:
        names = [printable(name) for name in classes]
        axes.set_xticks(range(size), names, rotation=90 if max(map(len, names)) > 2 else 0, parse_math=False)
        axes.set_yticks(range(size), names, parse_math=False)
        for row, column in zip(*np.nonzero(counts), strict=True):
            axes.text(
                column,
                row,
                str(counts[row, column]),
                ha="center",
                va="center",
                color="white" if shares[row, column] > 0.5 else "black",
            )
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="share of the true class")
    return figure


def most_confused(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> Figure:
    """The mistakes of highest probability; where there are none, the right answers of lowest."""
    predicted = probabilities.argmax(axis=-1)
    wrong = np.flatnonzero(predicted != labels)
    certainty = probabilities.max(axis=-1)
    if len(wrong):
        chosen = wrong[np.argsort(-certainty[wrong], kind="stable")][:MOST_SHOWN]
        title = f"Mistakes, surest first: {len(chosen)} of {len(wrong):,} (class, as what, how surely)"
    else:
        chosen = np.argsort(certainty, kind="stable")[:MOST_SHOWN]
        title = f"No mistakes; the {len(chosen)} least certain"
    columns = min(8, max(len(chosen), 4))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(max(1.35 * columns, 6.8), 1.75 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    note = show_images(list(grid.flat)[: len(chosen)], [images[index] for index in chosen])
    figure.suptitle(f"{title}\n{note}".rstrip())
    for axes, index in zip(grid.flat, chosen, strict=False):
        said = f"{shorten(classes[predicted[index]])}, {certainty[index]:.0%}"
        caption = f"{shorten(classes[labels[index]])}\nas {said}" if predicted[index] != labels[index] else f"\n{said}"
        axes.set_title(caption, fontsize=8, fontweight="normal", parse_math=False)
    return figure
