"""Where the errors of a detector come from: place, class, duplicates, the background, and what was missed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cnnjax.tasks.metrics.objects import Objects, box_areas, common_areas

# What a detection can be, the right one first; and how each is told.
KINDS = {
    "right": "right class, and an overlap above the threshold",
    "localisation": "right class, but an overlap below the threshold",
    "class": "another class, at an object's place",
    "duplicate": "of an object that one of a higher score has found",
    "background": "of nothing",
}


@dataclass(frozen=True, eq=False)
class DetectionErrors:
    """What became of the detections and of the true objects of pictures.

    Attributes:
        kinds: of each picture, the kind of every detection: a place in `KINDS`.
        missed: of each picture, which true objects no detection of any kind but "background" is of.
        confusion: detections of an object's place by its class (rows) and theirs (columns); the last row is what was
            nothing, the last column what was missed.
    """

    kinds: tuple[Int[np.ndarray, "_"], ...]
    missed: tuple[np.ndarray, ...]
    confusion: Int[np.ndarray, "true_and_nothing found_and_missed"]

    def counts(self) -> dict[str, int]:
        """How many there are of each kind, and how many objects were missed."""
        every = np.concatenate([*self.kinds, np.zeros(0, np.int64)])
        found = {name: int(np.sum(every == number)) for number, name in enumerate(KINDS)}
        return {**found, "missed": int(sum(one.sum() for one in self.missed))}


def detection_errors(
    truths: Sequence[Objects],
    detections: Sequence[Objects],
    classes: int,
    *,
    score: float = 0.3,
    overlap: float = 0.5,
    least: float = 0.1,
) -> DetectionErrors:
    """Of each detection what is wrong with it, by falling score.

    One that overlaps an object of its class by `overlap` is right, or a duplicate where one of a higher score has found
    it. Else, by its best object: another class, where it overlaps one of another class so much; a wrong place, where it
    overlaps one of its class by `least`; and the background.

    Args:
        truths: of each picture `boxes` and `classes`.
        detections: of each picture `boxes`, `classes` and `scores`.
        classes: how many there are.
        score: detections below it are left out.
        overlap: intersection over union from which on an object is found.
        least: and from which on a detection is of an object at all.

    Reference: Bolya, Foley, Hays and Hoffman (2020), "TIDE: A General Toolbox for Identifying Object Detection Errors",
    section 2.2.
    """
    kinds, missed = [], []
    confusion = np.zeros((classes + 1, classes + 1), np.int64)
    for true, found in zip(truths, detections, strict=True):
        of_true, boxes = np.asarray(true["classes"], np.int64), np.asarray(true["boxes"], np.float64).reshape(-1, 4)
        of_found, scores = np.asarray(found["classes"], np.int64), np.asarray(found["scores"], np.float64)
        overlaps = pairwise_overlaps(np.asarray(found["boxes"], np.float64).reshape(-1, 4), boxes)
        said = np.full(len(of_found), -1, np.int64)
        taken, touched = np.zeros(len(of_true), bool), np.zeros(len(of_true), bool)
        for place in np.argsort(-scores, kind="stable"):
            if scores[place] < score:
                continue
            own = np.where(of_true == of_found[place], overlaps[place], -1.0)
            others = np.where(of_true != of_found[place], overlaps[place], -1.0)
            at = int(own.argmax()) if len(own) else 0
            if own.max(initial=-1.0) >= overlap:
                free = np.where(taken, -1.0, own)
                if free.max() >= overlap:
                    at = int(free.argmax())
                said[place], taken[at] = (0 if free.max() >= overlap else 3), True
                if said[place] == 0:
                    confusion[of_true[at], of_found[place]] += 1
            elif others.max(initial=-1.0) >= overlap:
                at, said[place] = int(others.argmax()), 2
                confusion[of_true[at], of_found[place]] += 1
            elif own.max(initial=-1.0) >= least:
                said[place] = 1
            else:
                said[place] = 4
                confusion[-1, of_found[place]] += 1
                continue
            touched[at] = True
        np.add.at(confusion[:, -1], of_true[~touched], 1)
        kinds.append(said)
        missed.append(~touched)
    return DetectionErrors(tuple(kinds), tuple(missed), confusion)


def pairwise_overlaps(
    ours: Float[np.ndarray, "ours 4"], theirs: Float[np.ndarray, "theirs 4"]
) -> Float[np.ndarray, "ours theirs"]:
    """Intersection over union of every box with every other; zero where both are empty."""
    rows, columns = np.divmod(np.arange(len(ours) * len(theirs)), max(len(theirs), 1))
    common = common_areas(ours[rows], theirs[columns])
    union = box_areas(ours)[rows] + box_areas(theirs)[columns] - common
    found = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return found.reshape(len(ours), len(theirs))
