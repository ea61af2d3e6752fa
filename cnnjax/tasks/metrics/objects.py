"""True and detected objects of many pictures: as a metric that grows batch by batch, and as tables on the host.

The objects of one picture are a dictionary of arrays with an entry per object, or per slot for one:

| key | shape | what |
|---|---|---|
| `boxes` | (n, 4) | x_min, y_min, x_max, y_max in pixels |
| `classes` | (n,) | whole numbers that count the classes from 0 |
| `present` | (n,) | optional: False for slots without an object, whose other entries then do not matter |
| `masks` | n codes | optional: run-length codes, as `cnnjax.functional.masks.encode_rle` gives them |
| `scores` | (n,) | detections only: the higher, the surer |
| `crowd` | (n,) | truths only, optional (COCO): the object is a region of many objects |
| `area` | (n,) | truths only, optional (COCO): in pixels; that of the mask, or else of the box, where not given |
| `difficult` | (n,) | truths only, optional (VOC): the object is not counted |
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from cnnjax.functional.masks.runs import Code
from cnnjax.tasks.metrics.parts import Rows

Objects: TypeAlias = Mapping[str, Any]

_TRUTHS = ("boxes", "classes", "present", "crowd", "difficult", "area")
_DETECTIONS = ("boxes", "scores", "classes", "present")


class Detections(Rows):
    """True and detected objects of every picture, padded to slots: what average precision is computed from.

    Joined over batches, replicas and processes like other `Rows`. Boxes of truths and detections have to be in the same
    pixels; for COCO's areas these are the pixels of the original picture.
    """

    @classmethod
    def of(cls, predictions: Mapping[str, Any], batch: Mapping[str, Any]) -> "Detections":
        """Those of a batch, in the compiled step.

        Args:
            predictions: `boxes` (batch, slots, 4), `scores`, `classes` and, for padded slots, `present`, each
                (batch, slots).
            batch: `boxes`, `classes`, `present` and, where there are any, `crowd`, `difficult` and `area` of the true
                objects, in any number of slots; `valid`; and `picture`, or else `id`, by which pictures are sorted.

        Raises:
            ValueError: something of these is missing.
        """
        for name, given, needed in (
            ("predictions", predictions, ("boxes", "scores", "classes")),
            ("batch", batch, ("boxes", "classes", "valid")),
        ):
            missing = [key for key in needed if key not in given]
            if missing:
                raise ValueError(f'{name}: "{missing[0]}" is missing; {", ".join(given)} came')
        values = {
            "truths": {key: batch[key] for key in _TRUTHS if key in batch},
            "detections": {key: predictions[key] for key in _DETECTIONS if key in predictions},
            "picture": batch["picture"] if "picture" in batch else batch["id"],
        }
        return cls(values, batch["valid"])

    def pictures(self) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
        """Truths and detections of every picture, without padding, sorted by the pictures' numbers.

        Sorted, because the order of pictures decides between equal scores: the numbers so do not depend on the order in
        which batches, devices or processes came.
        """
        kept = self.kept()
        order = np.argsort(kept["picture"], kind="stable")
        return _unpadded(kept["truths"], order), _unpadded(kept["detections"], order)


class Table(NamedTuple):
    """The objects of all pictures, one after the other, without padding.

    Attributes:
        pictures: the picture of each object, counted from 0.
        classes: its class.
        boxes: float64.
        columns: whatever else was asked for.
        masks: codes, where masks were asked for.
    """

    pictures: Int[np.ndarray, "objects"]
    classes: Int[np.ndarray, "objects"]
    boxes: Float[np.ndarray, "objects 4"]
    columns: dict[str, np.ndarray]
    masks: list[Code]


class Pairs(NamedTuple):
    """Detections and truths of the same picture and class, every one with every other.

    Attributes:
        detections: place of the detection in its table, rising.
        truths: place of the truth in its table, rising for each detection.
    """

    detections: Int[np.ndarray, "pairs"]
    truths: Int[np.ndarray, "pairs"]


def table(
    name: str, pictures: Sequence[Objects], classes: int, *, masks: bool = False, **defaults: float | bool | None
) -> Table:
    """The objects of all pictures.

    Args:
        name: of the argument, for messages.
        pictures: their objects.
        classes: how many classes there are.
        masks: whether every object has a mask.
        defaults: further columns, with the value of objects for which it is not given; None where it has to be given.

    Raises:
        ValueError: a picture's arrays have different lengths, one is missing, a class is unknown, or a value is NaN.
    """
    counts = np.array([_count(name, place, one) for place, one in enumerate(pictures)], np.int64)
    present = _column(name, pictures, counts, "present", True).astype(bool)
    where = np.repeat(np.arange(len(pictures)), counts)[present]
    numbers = _column(name, pictures, counts, "classes", None)[present]
    if numbers.size and numbers.dtype.kind not in "iu":
        raise ValueError(f"{name}: classes of {numbers.dtype} came; expected whole numbers from 0 to {classes - 1}")
    _refuse(name, where, (numbers < 0) | (numbers >= classes), f"a class out of range; expected 0 to {classes - 1}")
    boxes = _column(name, pictures, counts, "boxes", None, (4,))[present].astype(np.float64)
    _refuse(name, where, np.isnan(boxes).any(axis=1), "a box with a NaN")
    columns = {}
    for key, default in defaults.items():
        columns[key] = _column(name, pictures, counts, key, default)[present]
        if default is None:
            _refuse(name, where, np.isnan(columns[key]), f"NaN among {key}")
    codes: list[Code] = []
    if masks:
        for place, (one, count) in enumerate(zip(pictures, counts, strict=True)):
            if "masks" not in one or len(one["masks"]) != count:
                raise ValueError(
                    f"{name} of picture {place}: {len(one.get('masks', ()))} masks came for {count} objects; expected"
                    ' a run-length code for each in "masks"'
                )
            codes.extend(one["masks"])
        codes = [code for code, there in zip(codes, present, strict=True) if there]
    return Table(where, numbers.astype(np.int64), boxes, columns, codes)


def sorted_by(objects: Table, *keys: np.ndarray) -> Table:
    """The table in the order of keys, the last of which counts the most; what is equal stays in its order."""
    order = np.lexsort(keys)
    columns = {key: column[order] for key, column in objects.columns.items()}
    masks = [objects.masks[place] for place in order] if objects.masks else []
    return Table(objects.pictures[order], objects.classes[order], objects.boxes[order], columns, masks)


def candidates(detections: Table, truths: Table) -> tuple[Int[np.ndarray, "detections"], Int[np.ndarray, "detections"]]:
    """For each detection, how many truths its picture and class have, and at which the first of them is.

    The truths have to be sorted by class and then by picture.
    """
    most = max(detections.pictures.max(initial=0), truths.pictures.max(initial=0)) + 1
    theirs = truths.classes * most + truths.pictures
    ours = detections.classes * most + detections.pictures
    first = np.searchsorted(theirs, ours, side="left")
    return np.searchsorted(theirs, ours, side="right") - first, first


def pairs_of(
    counts: Int[np.ndarray, "detections"], first: Int[np.ndarray, "detections"], begin: int, end: int
) -> Pairs:
    """The pairs of the detections from `begin` to `end` with their candidates."""
    counts, first = counts[begin:end], first[begin:end]
    rows = np.repeat(np.arange(end - begin), counts)
    place = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    return Pairs(rows + begin, first[rows] + place)


def box_areas(boxes: Float[np.ndarray, "objects 4"], extra: float = 0.0) -> Float[np.ndarray, "objects"]:
    """Width times height, each with `extra` added; zero for inverted boxes."""
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2] + extra, 0.0), axis=1)


def common_areas(
    ours: Float[np.ndarray, "pairs 4"], theirs: Float[np.ndarray, "pairs 4"], extra: float = 0.0
) -> Float[np.ndarray, "pairs"]:
    """The area that the two boxes of each pair have in common."""
    low = np.maximum(ours[:, :2], theirs[:, :2])
    high = np.minimum(ours[:, 2:], theirs[:, 2:])
    span = np.maximum(high - low + extra, 0.0)
    return span[:, 0] * span[:, 1]


def same_pictures(truths: Sequence[Objects], detections: Sequence[Objects]) -> None:
    """Raises ValueError unless there are as many of both, one for each picture."""
    if len(truths) != len(detections):
        raise ValueError(
            f"truths of {len(truths)} and detections of {len(detections)} pictures came; expected one entry of each for"
            " every picture, with arrays of length 0 where nothing is or was found"
        )


def _unpadded(objects: Mapping[str, np.ndarray], order: Int[np.ndarray, "pictures"]) -> list[dict[str, np.ndarray]]:
    present = objects.get("present", np.ones(objects["classes"].shape, bool))
    return [
        {key: array[place][present[place]] for key, array in objects.items() if key != "present"} for place in order
    ]


def _count(name: str, place: int, objects: Objects) -> int:
    if "classes" not in objects:
        raise ValueError(f'{name} of picture {place}: "classes" is missing; {", ".join(objects) or "nothing"} came')
    return len(objects["classes"])


def _column(
    name: str,
    pictures: Sequence[Objects],
    counts: Int[np.ndarray, "pictures"],
    column: str,
    default: float | bool | None,
    rest: tuple[int, ...] = (),
) -> np.ndarray:
    """One array of all pictures."""
    parts = []
    for place, (objects, count) in enumerate(zip(pictures, counts.tolist(), strict=True)):
        if column in objects:
            part = np.asarray(objects[column])
            if part.shape != (count, *rest):
                # An empty list has one axis only.
                if part.size or count:
                    raise ValueError(
                        f"{name} of picture {place}: {column} of shape {part.shape} came, {(count, *rest)} was"
                        f" expected, for there are {count} classes"
                    )
                continue
        elif default is None:
            raise ValueError(f'{name} of picture {place}: "{column}" is missing; {", ".join(objects)} came')
        else:
            part = np.full(count, default)
        if count:
            parts.append(part)
    return np.concatenate(parts) if parts else np.zeros((0, *rest), np.int64)


def _refuse(name: str, pictures: Int[np.ndarray, "objects"], wrong: Bool[np.ndarray, "objects"], what: str) -> None:
    if wrong.any():
        raise ValueError(f"{name} of picture {pictures[np.argmax(wrong)]}: {what} came")
