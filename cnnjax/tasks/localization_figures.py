"""Pictures of the boxes that a net gives, one for each picture, beside the true ones."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Num
from matplotlib.figure import Figure

from cnnjax.tasks.classification import confusion
from cnnjax.tasks.classification_figures import confusion_matrix
from cnnjax.tasks.pictures import marked_pictures, shorten
from cnnjax.view.boxes import Mark

MOST_SHOWN = 9

# A box is right where it overlaps the true one by more, and its class is the true one.
RIGHT_ABOVE = 0.5

_TRUE, _RIGHT, _WRONG = (255, 225, 77), (0, 158, 115), (213, 94, 0)
_COLOURS = {"true box": _TRUE, "right: the class, and IoU above 0.5": _RIGHT, "wrong": _WRONG}


def all_figures(
    images: Num[np.ndarray, "pictures height width channels"],
    true: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    overlaps: Float[np.ndarray, "pictures"],
    classes: Sequence[str],
) -> dict[str, Figure]:
    """The first pictures and the worst ones, and which classes are taken for which; nothing where there is no object.

    Args:
        images: any pictures.
        true: "boxes" (pictures, 4) in pixels, "classes" (pictures,), and "present" (pictures,), where there is one.
        found: "boxes", "classes" and their "scores".
        overlaps: IoU of the boxes.
        classes: names of things.
    """
    known = np.flatnonzero(true["present"])
    if not len(known):
        return {}
    right = (overlaps > RIGHT_ABOVE) & (true["classes"] == found["classes"])
    # Wrong ones by the least overlap, then right ones by the least overlap.
    worst = known[np.lexsort((overlaps[known], right[known]))]
    figures = {
        name: examples(images, true, found, overlaps, classes, chosen=order[:MOST_SHOWN], told=told)
        for name, order, told in (
            ("Examples", known, "the first ones"),
            ("Worst examples", worst, "the worst first"),
        )
    }
    if len(classes) > 1:
        counts = confusion(true["classes"][known], found["classes"][known], len(classes))
        figures["Confusion matrix"] = confusion_matrix(counts, classes)
    return figures


def examples(
    images: Num[np.ndarray, "pictures height width channels"],
    true: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    overlaps: Float[np.ndarray, "pictures"],
    classes: Sequence[str],
    *,
    chosen: Int[np.ndarray, "shown"],
    told: str,
) -> Figure:
    """Pictures with the true box, dashed, and the predicted one, coloured by whether it and its class are right.

    Args:
        images: any pictures.
        true: as in `all_figures`.
        found: as in `all_figures`.
        overlaps: IoU of the boxes.
        classes: names of things.
        chosen: places of the pictures that are shown, in their order.
        told: which they are, in words.
    """
    title = f"{len(chosen)} of {int(np.sum(true['present'])):,} pictures with an object, {told}"

    def marks(place: int) -> tuple[list[Mark], str]:
        return marks_of(true, found, overlaps, place, classes)

    return marked_pictures(images, chosen, marks, title=title, legend=_COLOURS)


def marks_of(
    true: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    overlaps: Float[np.ndarray, "pictures"],
    place: int,
    classes: Sequence[str],
) -> tuple[list[Mark], str]:
    """The predicted and the true box of one picture; and its caption, the overlap and a class taken for another.

    Args:
        true: as in `all_figures`.
        found: as in `all_figures`.
        overlaps: IoU of the boxes.
        place: of the picture.
        classes: names of things.
    """
    label, said = int(true["classes"][place]), int(found["classes"][place])
    right = label == said and overlaps[place] > RIGHT_ABOVE
    marks = [
        Mark(found["boxes"][place], f"{classes[said]} {found['scores'][place]:.2f}", _RIGHT if right else _WRONG),
        Mark(true["boxes"][place], "", _TRUE, dashed=True),
    ]
    caption = f"IoU {overlaps[place]:.2f}"
    return marks, caption if label == said else f"{caption}, {shorten(classes[label])} as {shorten(classes[said])}"
