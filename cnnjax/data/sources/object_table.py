"""Objects of many pictures in one table: their boxes checked, and filled up to a fixed number of slots."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from cnnjax.settings.objects import Invalid

# A box may reach so far out of its picture, in pixels: annotators and files round.
_ROUNDED = 0.5
# So many boxes are told of by their entries.
_LISTED = 5


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """Objects of pictures, one picture after another: those of picture i are the rows `first[i]` to `first[i + 1]`.

    `columns` are what is known of each object, by the names of the elements of an example: "boxes", "classes", ...
    """

    first: Int[np.ndarray, "pictures_and_one"]
    columns: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, picture: Int[np.ndarray, "objects"], pictures: int, columns: Mapping[str, np.ndarray]) -> "Table":
        """Of columns whose rows are sorted by the picture that they belong to."""
        return cls(np.searchsorted(picture, np.arange(pictures + 1)), columns)

    @property
    def counts(self) -> Int[np.ndarray, "pictures"]:
        """How many objects each picture has."""
        return np.diff(self.first)

    def rows(self, index: int) -> slice:
        """Where the objects of a picture are."""
        return slice(int(self.first[index]), int(self.first[index + 1]))

    def filled(self, slots: int) -> dict[str, np.ndarray]:
        """All columns as elements of the examples: (pictures, slots, ...), as `fill` has them, one for each picture."""
        place = np.arange(int(self.first[-1])) - np.repeat(self.first[:-1], self.counts)
        at = np.repeat(np.arange(len(self.first) - 1), self.counts), place
        found = {}
        for name, values in self.columns.items():
            found[name] = np.zeros((len(self.first) - 1, slots, *values.shape[1:]), values.dtype)
            found[name][at] = values
        return found | {"present": np.arange(slots) < self.counts[:, None]}


def fill(columns: Mapping[str, np.ndarray], slots: int) -> dict[str, np.ndarray]:
    """The objects of one picture in a number of slots, zeros in those that are left; "present" says which are not.

    >>> fill({"classes": np.array([2, 1], np.int32)}, 3)["classes"].tolist()
    [2, 1, 0]
    """
    count = len(next(iter(columns.values())))
    found = {
        name: np.concatenate([values, np.zeros((slots - count, *values.shape[1:]), values.dtype)])
        for name, values in columns.items()
    }
    return found | {"present": np.arange(slots) < count}


class Sound(NamedTuple):
    """Boxes that passed: which of those that came, how they are now, and what is to be said of the others."""

    kept: Bool[np.ndarray, "objects"]
    boxes: Float32[np.ndarray, "kept 4"]
    remarks: tuple[str, ...]


def sound_boxes(
    boxes: Float[np.ndarray, "objects 4"],
    sides: Int[np.ndarray, "objects 2"],
    invalid: Invalid,
    tell: Callable[[int], str],
) -> Sound:
    """Boxes that are not empty and lie in their pictures, those that reach out by up to half a pixel cut at the border.

    Args:
        boxes: (x_min, y_min, x_max, y_max) in pixels.
        sides: Height and width of the picture of each.
        invalid: What is done about the others; see `Objects`.
        tell: Names a box by its number, with its file and entry.

    Raises:
        ValueError: If one is not sound, and they are refused.
    """
    border = np.tile(sides[:, ::-1], 2).astype(np.float64)
    cut = np.clip(boxes, 0.0, border).astype(np.float32)
    finite = np.isfinite(boxes).all(1)
    inverted = (boxes[:, 2:] < boxes[:, :2]).any(1)
    empty = (boxes[:, 2:] == boxes[:, :2]).any(1)
    out = (np.abs(np.clip(boxes, 0.0, border) - boxes) > _ROUNDED).any(1)
    nothing = ~(cut[:, 2:] > cut[:, :2]).all(1)
    lost = ~finite | inverted | empty | nothing
    wrong = lost | out

    def problem(number: int) -> str:
        height, width = sides[number]
        if not finite[number]:
            return "is not finite"
        if inverted[number]:
            return "is inverted: its end lies before its beginning"
        if empty[number]:
            return "is empty"
        where = "lies outside of" if nothing[number] else "reaches out of"
        return f"{where} its picture, which is {width} wide and {height} high"

    if wrong.any() and invalid == "refuse":
        first = int(np.argmax(wrong))
        more = f" ({wrong.sum() - 1} more boxes are wrong)" if wrong.sum() > 1 else ""
        raise ValueError(
            f"{tell(first)} {problem(first)}{more}; correct it, or have such objects left out by Objects(invalid="
            '"drop") (--objects.invalid drop), or cut at the border by "cut"'
        )
    dropped = lost if invalid == "cut" else wrong
    remarks = []
    for said, which in (("left out", dropped), ("cut at the border", wrong & ~dropped)):
        numbers = np.flatnonzero(which).tolist()
        if numbers:
            told = "; ".join(f"{tell(number)} {problem(number)}" for number in numbers[:_LISTED])
            more = f"; and {len(numbers) - _LISTED:,} more" if len(numbers) > _LISTED else ""
            remarks.append(f"{said} {len(numbers):,} {'object' if len(numbers) == 1 else 'objects'}: {told}{more}")
    return Sound(~dropped, cut[~dropped], tuple(remarks))


def choose_slots(
    counts: Mapping[str, Int[np.ndarray, "pictures"]], slots: int | None, tell: Callable[[str, int], str]
) -> int:
    """How many slots all splits have: as many as asked for, or the largest number of objects of any picture.

    Args:
        counts: How many objects each picture has, by split.
        slots: What was asked for.
        tell: Names a picture by its split and number.

    Raises:
        ValueError: If a picture has more objects.
    """
    most = max([1, *(int(numbers.max(initial=0)) for numbers in counts.values())])
    for split, numbers in counts.items():
        if slots is not None and numbers.max(initial=0) > slots:
            index = int(np.argmax(numbers > slots))
            raise ValueError(
                f"{tell(split, index)} has {numbers[index]} objects, and there are slots={slots}; pass slots={most}"
                f" (--objects.slots {most}), the largest number of any picture, or leave it out"
            )
    return most if slots is None else slots
