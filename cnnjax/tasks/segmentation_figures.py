"""Pictures of a segmenter's predictions."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Num
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cnnjax.functional.borders import label_borders
from cnnjax.tasks.classification_figures import confusion_matrix
from cnnjax.tasks.pictures import shorten
from cnnjax.view.overlays import WRONG_COLOURS, draw_borders, label_colours, paint_errors, paint_labels
from cnnjax.view.visible import visible

MOST_SHOWN = 6

# Classes that are named beside the pictures.
_MOST_NAMED = 12


def segmented(
    images: Num[np.ndarray, "pictures height width channels"],
    labels: Int[np.ndarray, "pictures height width"],
    predicted: Int[np.ndarray, "pictures height width"],
    *,
    classes: Sequence[str],
    worst: bool,
    ignored: int | None = None,
) -> Figure:
    """A row for each picture: with the true borders, with the predicted classes, and with what is wrong.

    Args:
        images: any pictures.
        labels: true classes.
        predicted: predicted classes.
        classes: their names.
        worst: the pictures with the most wrong pixels, the worst first; else the first ones.
        ignored: the label of pixels that do not count.
    """
    counted = np.ones(labels.shape, bool) if ignored is None else labels != ignored
    wrong = ((labels != predicted) & counted).mean(axis=(1, 2))
    order = np.argsort(-wrong, kind="stable") if worst else np.arange(len(images))
    chosen = order[:MOST_SHOWN]
    shown, note = visible([images[index] for index in chosen])
    aspect = images.shape[1] / images.shape[2]
    figure = Figure(figsize=(9.0, 2.9 * aspect * len(chosen) + 1.1), layout="constrained")
    grid = figure.subplots(len(chosen), 3, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for row, index, picture in zip(grid, chosen, shown, strict=True):
        painted = (
            draw_borders(picture, np.asarray(label_borders(jnp.asarray(labels[index])))),
            paint_labels(picture, predicted[index]),
            paint_errors(picture, labels[index], predicted[index], ignored=ignored),
        )
        for axes, array in zip(row, painted, strict=True):
            axes.imshow(array.clip(0, 1), interpolation="nearest")
        row[2].set_title(f"{wrong[index]:.1%} wrong", fontsize=9, fontweight="normal")
    for axes, title in zip(grid[0], ("true borders", "prediction", None), strict=True):
        if title:
            axes.set_title(title, fontsize=9, fontweight="normal")
    said = "the most wrong first" if worst else "the first ones"
    figure.suptitle(f"{len(chosen)} of {len(images):,} pictures, {said}\n{note}".rstrip())
    colours = label_colours(len(classes)) / 255
    named = [Patch(color=colours[k], label=shorten(classes[k], 20)) for k in range(1, min(len(classes), _MOST_NAMED))]
    figure.legend(
        handles=[*named, *(Patch(color=colour, label=name) for name, colour in WRONG_COLOURS.items())],
        loc="outside lower center",
        ncols=6,
        fontsize=8,
    )
    return figure


def pixel_confusion(
    labels: Int[np.ndarray, "pictures height width"],
    predicted: Int[np.ndarray, "pictures height width"],
    classes: Sequence[str],
    *,
    ignored: int | None = None,
) -> Figure:
    """Pixels by true class (rows) and predicted class (columns)."""
    number = len(classes)
    counted = (labels >= 0) & (labels < number)
    if ignored is not None:
        counted &= labels != ignored
    places = labels[counted].astype(np.int64) * number + predicted[counted]
    return confusion_matrix(np.bincount(places, minlength=number * number).reshape(number, number), classes)
