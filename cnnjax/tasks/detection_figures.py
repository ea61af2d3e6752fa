"""Pictures of a detector's predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Num
from matplotlib.figure import Figure

from cnnjax.tasks.classification_figures import confusion_matrix
from cnnjax.tasks.metrics.detection_errors import KINDS, DetectionErrors, detection_errors
from cnnjax.tasks.metrics.voc import voc_precision
from cnnjax.tasks.pictures import marked_pictures, shorten
from cnnjax.view.boxes import Mark

MOST_SHOWN = 9
MOST_CURVES = 8

# Less sure detections are not drawn.
LEAST_SCORE = 0.3

# Of what is found, and of what is missed.
_COLOURS = dict(zip(KINDS, ((0, 158, 115), (230, 159, 0), (204, 121, 167), (86, 180, 233), (213, 94, 0)), strict=True))
_MISSED = (255, 225, 77)


def all_figures(
    images: Num[np.ndarray, "pictures height width channels"],
    truths: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    *,
    masks: Sequence[Bool[np.ndarray, "_ height width"]] | None = None,
) -> dict[str, Figure]:
    """What a detector gets right and wrong.

    Args:
        images: any pictures.
        truths: their objects.
        found: detections.
        classes: names of things.
        masks: of the detections; None where there are none.
    """
    errors = detection_errors(truths, found, len(classes), score=LEAST_SCORE)
    figures = {
        "Examples": examples(images, truths, found, errors, classes, worst=False, masks=masks),
        "Most wrong examples": examples(images, truths, found, errors, classes, worst=True, masks=masks),
        "Precision and recall": precision_and_recall(truths, found, classes),
        "Where errors come from": kinds_of_errors(errors),
    }
    if len(classes) > 1:
        names = [*classes, "nothing"]
        figures["Confusion of classes"] = confusion_matrix(errors.confusion, names)
        figures["Confusion of classes"].suptitle("The last row: found, but nothing there. The last column: missed.")
    return figures


def examples(
    images: Num[np.ndarray, "pictures height width channels"],
    truths: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    errors: DetectionErrors,
    classes: Sequence[str],
    *,
    worst: bool,
    masks: Sequence[Bool[np.ndarray, "_ height width"]] | None = None,
) -> Figure:
    """Pictures with what was found, coloured by whether it is right, and what was missed, dashed.

    Args:
        images: any pictures.
        truths: their objects.
        found: detections.
        errors: what is wrong with them.
        classes: names of things.
        worst: those with the most errors, the worst first; else the first ones.
        masks: of the detections; None where there are none.
    """
    wrong = np.array(
        [np.sum(kinds > 0) + missed.sum() for kinds, missed in zip(errors.kinds, errors.missed, strict=True)]
    )
    order = np.argsort(-wrong, kind="stable") if worst else np.arange(len(images))
    chosen = order[:MOST_SHOWN]

    def marks(place: int) -> tuple[list[Mark], str]:
        own = None if masks is None else masks[place]
        told = f"{int(wrong[place])} wrong" if wrong[place] else "all right"
        return marks_of(truths[place], found[place], errors, place, classes, own), told

    said = "the most wrong first" if worst else "the first ones"
    title = f"{len(chosen)} of {len(images):,} pictures, {said}; detections with a score of {LEAST_SCORE:g} or more"
    return marked_pictures(images, chosen, marks, title=title, legend={**_COLOURS, "missed": _MISSED})


def marks_of(
    truths: Mapping[str, Any],
    found: Mapping[str, Any],
    errors: DetectionErrors,
    place: int,
    classes: Sequence[str],
    masks: Bool[np.ndarray, "_ height width"] | None,
) -> list[Mark]:
    """The boxes of one picture in the colours of what is right and wrong, by falling score, then what was missed.

    Args:
        truths: its objects.
        found: its detections.
        errors: what is wrong with those of all pictures.
        place: of the picture among them.
        classes: names of things.
        masks: of the detections; None where there are none.
    """
    marks = []
    for number in np.argsort(-np.asarray(found["scores"]), kind="stable"):
        kind = int(errors.kinds[place][number])
        if kind < 0:
            continue
        text = f"{classes[int(found['classes'][number])]} {found['scores'][number]:.2f}"
        colour = list(_COLOURS.values())[kind]
        marks.append(Mark(found["boxes"][number], text, colour, mask=None if masks is None else masks[number]))
    for number in np.flatnonzero(errors.missed[place]):
        marks.append(Mark(truths["boxes"][number], classes[int(truths["classes"][number])], _MISSED, dashed=True))
    return marks


def precision_and_recall(
    truths: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> Figure:
    """Precision over recall of each class at an overlap of 0.5; of many classes some, from the best to the worst.

    Args:
        truths: objects of each picture.
        found: detections of each picture.
        classes: names of things.
    """
    voc = voc_precision(truths, found, classes)
    known = np.flatnonzero(~np.isnan(voc.average_precision))
    order = known[np.argsort(-voc.average_precision[known], kind="stable")]
    shown = (
        order[np.linspace(0, len(order) - 1, min(MOST_CURVES, len(order))).round().astype(int)] if len(order) else []
    )
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for place in shown:
        name = f"{shorten(classes[place], 20)}  {voc.average_precision[place]:.3f}"
        recall, precision = voc.recalls[place], voc.precisions[place]
        axes.plot([0, *recall], [precision[0] if len(precision) else 0, *precision], label=name)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    told = "nothing to find" if not len(shown) else f"{len(shown)} of {len(classes)} classes"
    figure.suptitle(f"Precision and recall at an overlap of 0.5 ({told}); the numbers are average precisions")
    if len(shown):
        figure.legend(loc="outside right upper", fontsize=8)
    return figure


def kinds_of_errors(errors: DetectionErrors) -> Figure:
    """How many detections are of each kind, and how many objects were missed."""
    counts = errors.counts()
    colours = [tuple(part / 255 for part in colour) for colour in (*_COLOURS.values(), _MISSED)]
    texts = [*KINDS.values(), "no detection of the object"]
    figure = Figure(figsize=(7.5, 2.9), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(counts))
    axes.barh(places, list(counts.values()), color=colours, height=0.7)
    for place, (count, text) in enumerate(zip(counts.values(), texts, strict=True)):
        axes.text(count, place, f"  {count:,}  {text}", va="center", fontsize=8)
    axes.set_yticks(places, list(counts))
    axes.set(ylim=(len(counts) - 0.4, -0.6), xlim=(0, 1.9 * max(1, *counts.values())), xlabel="detections, objects")
    axes.yaxis.grid(visible=False)
    figure.suptitle(f"Detections with a score of {LEAST_SCORE:g} or more, and what was missed")
    return figure
