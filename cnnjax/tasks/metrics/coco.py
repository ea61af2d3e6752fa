"""COCO's twelve numbers for detected boxes and masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int

from cnnjax.functional.masks.runs import Regions, read_runs, regions
from cnnjax.tasks.metrics.coco_matching import Judged, match
from cnnjax.tasks.metrics.objects import Objects, Table, box_areas, same_pictures, sorted_by, table

# Built as in COCO's code, so that 0.3 and the like are the same numbers.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclass(frozen=True, eq=False)
class CocoPrecision:
    """What detections reach by the rules of COCO.

    A class without objects that count in a range of areas has NaN there, where COCO's code has -1.

    Attributes:
        classes: their names.
        limits: at most so many detections of a class are taken of a picture.
        precision: at overlaps of 0.5, 0.55, ..., 0.95, at recalls of 0, 0.01, ..., 1, of each class, for objects of
            all areas, small, medium and large ones; with the last of the limits.
        recall: at these overlaps, of each class, for these areas, with each of the limits.
    """

    classes: tuple[str, ...]
    limits: tuple[int, ...]
    precision: Float[np.ndarray, "thresholds recalls classes areas"]
    recall: Float[np.ndarray, "thresholds classes areas limits"]

    def numbers(self) -> dict[str, float]:
        """COCO's numbers: "ap", "ap50", "ap75", then by area; "ar1", "ar10", "ar100" (the limits), then by area.

        Each is a mean over overlaps, recalls and the classes that have objects; NaN where none has.
        """
        found = {"ap": _mean(self.precision[..., 0])}
        for threshold in (0.5, 0.75):
            place = int(np.argmin(np.abs(THRESHOLDS - threshold)))
            found[f"ap{threshold * 100:.0f}"] = _mean(self.precision[place, ..., 0])
        by_area = list(enumerate(AREAS))[1:]
        found |= {f"ap_{area}": _mean(self.precision[..., place]) for place, area in by_area}
        found |= {f"ar{limit}": _mean(self.recall[:, :, 0, place]) for place, limit in enumerate(self.limits)}
        return found | {f"ar_{area}": _mean(self.recall[:, :, place, -1]) for place, area in by_area}

    def of_classes(self) -> dict[str, float]:
        """Average precision of each class, over overlaps and recalls, for objects of all areas."""
        averages = self.precision[..., 0].mean(axis=(0, 1)).tolist()
        return dict(zip(self.classes, averages, strict=True))


def coco_precision(
    truths: Sequence[Objects],
    detections: Sequence[Objects],
    classes: Sequence[str],
    *,
    masks: bool = False,
    limits: Sequence[int] = (1, 10, 100),
) -> CocoPrecision:
    r"""Average precision and recall by the rules of COCO, equal to its own code.

    For each class, picture and range of areas, detections are gone through by falling score, up to the limit. Each
    takes the object that it overlaps the most, from a threshold on, among those not yet taken; among objects of equal
    overlap the last. Crowds, and objects outside of the range of areas, are taken only where no other is left, and what
    takes them is not counted; a crowd is never used up, and its overlap is the detection's share within it. Detections
    that take nothing are false, but not counted where their own area is out of range. Then, over all pictures by
    falling score (equal scores in the order of pictures), with precision raised to the largest at any higher recall,

    $$AP = \frac{1}{10 \cdot 101} \sum_{t} \sum_{r} \max_{r' \ge r} p_t(r') \qquad AR = \frac{1}{10} \sum_t \max r_t$$

    Args:
        truths: for each picture `boxes`, `classes`, and where wanted `crowd`, `area` and `present`: see
            `cnnjax.tasks.metrics.objects`. Boxes have to be in pixels of the original picture, for areas are.
        detections: for each picture `boxes`, `scores`, `classes`, and where wanted `present`.
        classes: names of the classes.
        masks: compares the masks, run-length codes in `masks` of both, and not the boxes.
        limits: rising; how many of the surest detections of a class count in a picture.

    Raises:
        ValueError: there are not as many truths as detections, the arrays of a picture do not fit, a class is unknown,
            a value is NaN, a mask is damaged or not of its picture's size, or the limits do not rise.

    Reference: Lin et al. (2014), "Microsoft COCO: Common Objects in Context", and its evaluation code (`COCOeval`).
    Two quirks of that code are not followed: an object of the number 0 counts as not found there, and its first number
    is only there with a limit of 100.

    >>> truth = {"boxes": np.array([[0, 0, 40, 40.0]]), "classes": np.array([0])}
    >>> found = {"boxes": np.array([[0, 0, 40, 31.0]]), "scores": [0.9], "classes": np.array([0])}
    >>> numbers = coco_precision([truth], [found], ["cat"]).numbers()  # an overlap of 0.775: six thresholds are reached
    >>> [round(numbers[name], 12) for name in ("ap", "ap75", "ap_small")]
    [0.6, 1.0, nan]
    """
    limits = tuple(limits)
    if not limits or limits[0] < 1 or any(low >= high for low, high in pairwise(limits)):
        raise ValueError(f"limits={limits}; expected rising numbers of detections, such as (1, 10, 100)")
    same_pictures(truths, detections)
    true = table("truths", truths, len(classes), masks=masks, crowd=False, area=np.nan)
    true = sorted_by(true, true.pictures, true.classes)
    found = table("detections", detections, len(classes), masks=masks, scores=None)
    found = sorted_by(found, -found.columns["scores"], found.pictures, found.classes)
    ranks = _ranks(found)
    found, ranks = _selected(found, ranks < limits[-1]), ranks[ranks < limits[-1]]
    ranges = np.array(list(AREAS.values()))
    shapes = _shapes(found, true) if masks else None
    sizes = [box_areas(one.boxes) for one in (found, true)]
    if shapes:
        sizes = [one.areas.astype(np.float64) for one in shapes]
    given = true.columns["area"].astype(np.float64)
    ignored = _outside(np.where(np.isnan(given), sizes[1], given), ranges) | true.columns["crowd"].astype(bool)[:, None]
    judged = match(found, true, ignored, _outside(sizes[0], ranges), np.minimum(THRESHOLDS, 1 - 1e-10), shapes)
    return CocoPrecision(
        tuple(classes), limits, *_accumulate(found, true, ignored, judged, ranks, len(classes), limits)
    )


def _accumulate(
    found: Table,
    true: Table,
    ignored: Bool[np.ndarray, "truths areas"],
    judged: Judged,
    ranks: Int[np.ndarray, "detections"],
    classes: int,
    limits: tuple[int, ...],
) -> tuple[Float[np.ndarray, "thresholds recalls classes areas"], Float[np.ndarray, "thresholds classes areas limits"]]:
    """Precision and recall of every class from its detections in the order of scores."""
    precision = np.full((len(THRESHOLDS), len(RECALLS), classes, len(AREAS)), np.nan)
    recall = np.full((len(THRESHOLDS), classes, len(AREAS), len(limits)), np.nan)
    edges = np.searchsorted(found.classes, np.arange(classes + 1))
    for number in range(classes):
        part = slice(edges[number], edges[number + 1])
        counts = np.count_nonzero(~ignored[true.classes == number], axis=0)
        order = np.argsort(-found.columns["scores"][part], kind="stable") + edges[number]
        for area, count in enumerate(counts.tolist()):
            if not count:
                continue
            hits, false = judged.hits[area][:, order], judged.false[area][:, order]
            for place, limit in enumerate(limits):
                recall[:, number, area, place] = np.count_nonzero(hits[:, ranks[order] < limit], axis=1) / count
            precision[:, :, number, area] = _precision_at_recalls(hits, false, count)
    return precision, recall


def _precision_at_recalls(
    hits: Bool[np.ndarray, "thresholds detections"], false: Bool[np.ndarray, "thresholds detections"], count: int
) -> Float[np.ndarray, "thresholds recalls"]:
    found = np.zeros((len(hits), len(RECALLS)))
    if not hits.shape[1]:
        return found
    right = np.cumsum(hits, axis=1, dtype=np.int32)
    wrong = np.cumsum(false, axis=1, dtype=np.int32)
    precision = right / ((wrong + right) + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # How many hits each recall needs, by the comparison that COCO makes for every detection.
    needed = np.searchsorted(np.arange(count + 1) / count, RECALLS, side="left")
    for row, reached, values in zip(found, right, envelope, strict=True):
        places = np.searchsorted(reached, needed, side="left")
        there = places < len(reached)
        row[there] = values[places[there]]
    return found


def _shapes(found: Table, true: Table) -> tuple[Regions, Regions]:
    """The masks of both sides, all of a picture's being of one size."""
    shapes = regions(read_runs(found.masks, "masks of detections")), regions(read_runs(true.masks, "masks of truths"))
    pictures = np.concatenate([found.pictures, true.pictures])
    sizes = np.concatenate([one.sizes for one in shapes])
    _, first, inverse = np.unique(pictures, return_index=True, return_inverse=True)
    other = np.flatnonzero((sizes != sizes[first][inverse]).any(axis=1))
    if other.size:
        came, expected = sizes[other[0]].tolist(), sizes[first][inverse][other[0]].tolist()
        raise ValueError(
            f"masks of picture {pictures[other[0]]}: sizes {came} and {expected} came; expected that of the picture for"
            " all, true and detected"
        )
    return shapes


def _ranks(found: Table) -> Int[np.ndarray, "detections"]:
    """The place of each detection among those of its picture and class, which stand together."""
    count = len(found.classes)
    new = np.ones(count, bool)
    new[1:] = (np.diff(found.classes) != 0) | (np.diff(found.pictures) != 0)
    return np.arange(count) - np.maximum.accumulate(np.where(new, np.arange(count), 0))


def _selected(objects: Table, chosen: Bool[np.ndarray, "objects"]) -> Table:
    if chosen.all():
        return objects
    masks = [mask for mask, there in zip(objects.masks, chosen, strict=True) if there] if objects.masks else []
    columns = {key: column[chosen] for key, column in objects.columns.items()}
    return Table(objects.pictures[chosen], objects.classes[chosen], objects.boxes[chosen], columns, masks)


def _outside(
    sizes: Float[np.ndarray, "objects"], ranges: Float[np.ndarray, "areas 2"]
) -> Bool[np.ndarray, "objects areas"]:
    return (sizes[:, None] < ranges[:, 0]) | (sizes[:, None] > ranges[:, 1])


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
