"""Average precision of detected boxes by the rules of Pascal VOC."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Bool, Float

from cnnjax.tasks.metrics.objects import (
    Objects,
    Table,
    box_areas,
    candidates,
    common_areas,
    pairs_of,
    same_pictures,
    sorted_by,
    table,
)

VocRule: TypeAlias = Literal["area", "11 points"]

# Not exactly 0.3, 0.6 and 0.7, as in the reference: a recall of 0.3 does not reach the fourth.
_POINTS = np.arange(0.0, 1.1, 0.1)


@dataclass(frozen=True, eq=False)
class VocPrecision:
    """What detections reach by the rules of VOC.

    Attributes:
        classes: their names.
        average_precision: for each class; NaN for one without objects that count.
        precisions: for each class, after each detection from the surest down. Detections of difficult objects add
            nothing to either count.
        recalls: likewise.
    """

    classes: tuple[str, ...]
    average_precision: Float[np.ndarray, "classes"]
    precisions: tuple[Float[np.ndarray, "_"], ...]
    recalls: tuple[Float[np.ndarray, "_"], ...]

    @property
    def mean(self) -> float:
        """Mean average precision: over the classes that have objects; NaN where none has."""
        known = self.average_precision[~np.isnan(self.average_precision)]
        return float(known.mean()) if known.size else float("nan")


def voc_precision(
    truths: Sequence[Objects],
    detections: Sequence[Objects],
    classes: Sequence[str],
    *,
    rule: VocRule = "area",
    threshold: float = 0.5,
    reaching: bool = False,
    pixel_rule: bool = False,
) -> VocPrecision:
    r"""Average precision of each class by the rules of Pascal VOC.

    All detections of a class are gone through by falling score, equal scores in the order of pictures and then of
    slots. Each belongs to the object of its picture and class that it overlaps the most. It is a hit where that overlap
    is above the threshold and no earlier one has hit the object, and false otherwise; a detection of a difficult object
    is neither, and such objects are not counted. From precision p and recall r after each detection,

    $$AP_{11} = \frac{1}{11} \sum_{t \in \{0, 0.1, ..., 1\}} \max_{r \ge t} p(r) \qquad
      AP_{area} = \int_0^1 \max_{r' \ge r} p(r') \, dr$$

    Args:
        truths: for each picture `boxes`, `classes`, and where wanted `difficult` and `present`: see
            `cnnjax.tasks.metrics.objects`.
        detections: for each picture `boxes`, `scores`, `classes`, and where wanted `present`.
        classes: names of the classes.
        rule: "11 points" until 2009, "area" from 2010 on.
        threshold: of the overlap, intersection over union.
        reaching: whether an overlap of exactly the threshold is a hit as well.
        pixel_rule: adds 1 to every width and height, for boxes that name their first and last pixel, as VOC's files do.
            The boxes of this package's sources do not: they have the same overlaps without it.

    Raises:
        ValueError: there are not as many truths as detections, the arrays of a picture do not fit, a class is unknown,
            a value is NaN, or the rule or the threshold is no such.

    Reference: Everingham et al. (2010), "The Pascal Visual Object Classes (VOC) Challenge", section 4.2, and the code
    of its development kit.

    >>> truth = {"boxes": np.array([[0, 0, 4, 4.0]]), "classes": np.array([0])}
    >>> found = {"boxes": [[9, 9, 12, 12], [0, 0, 4, 3]], "scores": [0.9, 0.8], "classes": [0, 0]}
    >>> voc_precision([truth], [found], ["cat"]).average_precision.tolist()
    [0.5]
    """
    if rule not in get_args(VocRule):
        raise ValueError(f"rule={rule!r}; expected {' or '.join(map(repr, get_args(VocRule)))}")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold}; expected an overlap above 0 and at most 1")
    same_pictures(truths, detections)
    true = table("truths", truths, len(classes), difficult=False)
    true = sorted_by(true, true.pictures, true.classes)
    found = table("detections", detections, len(classes), scores=None)
    found = sorted_by(found, -found.columns["scores"], found.classes)
    hits, false = _judged(true, found, threshold, reaching, 1.0 if pixel_rule else 0.0)
    edges = np.searchsorted(found.classes, np.arange(len(classes) + 1))
    counted = np.bincount(true.classes[~true.columns["difficult"].astype(bool)], minlength=len(classes))
    averages, precisions, recalls = [], [], []
    for number, begin, end in zip(counted.tolist(), edges[:-1], edges[1:], strict=True):
        right, wrong = (np.cumsum(flags[begin:end]).astype(np.float64) for flags in (hits, false))
        precision = right / np.maximum(right + wrong, np.finfo(np.float64).eps)
        recall = right / number if number else np.full(len(right), np.nan)
        precisions.append(precision)
        recalls.append(recall)
        averages.append(_AVERAGES[rule](precision, recall) if number else float("nan"))
    return VocPrecision(tuple(classes), np.array(averages, np.float64), tuple(precisions), tuple(recalls))


def _judged(
    truths: Table, detections: Table, threshold: float, reaching: bool, extra: float
) -> tuple[Bool[np.ndarray, "detections"], Bool[np.ndarray, "detections"]]:
    """Which detections are hits and which are false, where detections are sorted by score and truths by picture."""
    count = len(detections.classes)
    hits, false = np.zeros(count, bool), np.ones(count, bool)
    counts, first = candidates(detections, truths)
    pairs = pairs_of(counts, first, 0, count)
    if not len(pairs.truths):
        return hits, false
    common = common_areas(detections.boxes[pairs.detections], truths.boxes[pairs.truths], extra)
    areas = [box_areas(side.boxes, extra) for side in (detections, truths)]
    union = areas[0][pairs.detections] + areas[1][pairs.truths] - common
    overlaps = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    # The first of the largest, for every detection that has any.
    some = np.flatnonzero(counts)
    begin = np.cumsum(counts[some]) - counts[some]
    largest = np.maximum.reduceat(overlaps, begin)
    places = np.where(overlaps == np.repeat(largest, counts[some]), pairs.truths, len(truths.classes))
    best = np.minimum.reduceat(places, begin)
    over = largest >= threshold if reaching else largest > threshold
    difficult = truths.columns["difficult"].astype(bool)[best]
    false[some[over & difficult]] = False
    claims = some[over & ~difficult]
    # Of those that claim an object, the first in the order of scores.
    firsts = claims[np.unique(best[over & ~difficult], return_index=True)[1]]
    hits[firsts], false[firsts] = True, False
    return hits, false


def _eleven_points(precision: np.ndarray, recall: np.ndarray) -> float:
    reached = [precision[recall >= point].max(initial=0.0) for point in _POINTS]
    return sum(value / len(_POINTS) for value in reached)


def _area(precision: np.ndarray, recall: np.ndarray) -> float:
    envelope = np.maximum.accumulate(np.append(precision, 0.0)[::-1])[::-1][:-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


_AVERAGES = {"area": _area, "11 points": _eleven_points}
