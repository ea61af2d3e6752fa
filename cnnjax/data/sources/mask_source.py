"""The examples of a folder of pictures and masks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, Int32

from cnnjax.data.sources.files import FileSource
from cnnjax.data.sources.label_map import decode_labels, objects_in, renumber
from cnnjax.data.sources.object_masks import join_masks, stack_labels
from cnnjax.data.sources.object_source import open_annotated
from cnnjax.data.sources.object_table import fill
from cnnjax.data.sources.source import Info, describe_source
from cnnjax.image_size import Size
from cnnjax.settings.objects import MaskForm

# The label that stands for the object in masks of black and white, and for no class in others, as in Pascal VOC.
VOID = 255


@dataclass(frozen=True, eq=False, repr=False)
class MaskSource:
    """Pictures by file, each with a label map or with a file for each of its objects.

    Attributes:
        files: The pictures.
        masks: The files of the masks of each.
        kind: "semantic" and "instances" for one label map for each picture, "files" for a file for each object.
        sides: Height and width of the masks of each picture.
        info: What the source holds.
        slots: How many objects an example holds; 0 for semantic labels.
        form: How masks are given.
        binary: Whether semantic masks hold 0 and 255, which is read as 1.
        ignored: The semantic label of pixels that belong to no class.
    """

    files: FileSource
    masks: Sequence[tuple[str, ...]]
    kind: Literal["semantic", "instances", "files"]
    sides: Int[np.ndarray, "pictures 2"]
    info: Info
    slots: int
    form: MaskForm
    binary: bool = False
    ignored: int | None = None

    def __post_init__(self) -> None:
        shapes: dict[str, tuple[int | None, ...]] = {"image": (None, None, 3)}
        if self.kind != "semantic":
            shapes |= {"boxes": (self.slots, 4)} | dict.fromkeys(("classes", "area", "present"), (self.slots,))
        if self.form != "none":
            shapes["masks"] = (None, None) if self.form == "map" else (None, None, self.slots)
        labels = "semantic" if self.kind == "semantic" else "instances" if self.form == "map" else ""
        object.__setattr__(self, "info", replace(self.info, shapes=shapes, labels=labels, ignored=self.ignored))

    def __repr__(self) -> str:
        return describe_source(self)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example, place = self.files[index], index % len(self)
        sides = int(self.sides[place, 0]), int(self.sides[place, 1])
        note = str(self.files.root / (self.masks[place] or ("its masks",))[0])
        example["image"] = open_annotated(example["image"], sides, note)
        read = [self._read(path, sides) for path in self.masks[place]]
        if self.kind == "semantic":
            return {**example, "masks": self._classes(read[0])}
        if self.kind == "instances":
            labels = renumber(read[0])
            masks = stack_labels(labels, self.slots) if self.form == "stack" else labels
            objects = objects_in(labels)
        else:
            single = [(mask > 0).astype(np.uint8) for mask in read if mask.any()]
            masks = join_masks(single, sides, "stack" if self.form == "stack" else "map", self.slots)
            every = [objects_in(mask.astype(np.int32)) for mask in single]
            nothing = objects_in(np.zeros((1, 1), np.int32))
            objects = {
                name: np.concatenate([values, *(one[name] for one in every)]) for name, values in nothing.items()
            }
        if len(objects["boxes"]) > self.slots:
            raise ValueError(
                f"it has {len(objects['boxes'])} objects now, more than {self.slots} slots; open the data anew"
            )
        return {**example, **fill(objects, self.slots), **({} if self.form == "none" else {"masks": masks})}

    def column(self, name: str) -> None:
        """None: only the examples tell their masks and objects."""
        return

    def where(self, index: int) -> str:
        """The file of a picture, and that of its mask, or the folder of its masks."""
        masks = self.masks[index % len(self)]
        at = str(self.files.root / masks[0]) if masks else "no masks"
        return f"{self.files.where(index)} ({at}{f' and {len(masks) - 1} more' if len(masks) > 1 else ''})"

    def _read(self, path: str, sides: Size) -> Int32[np.ndarray, "height width"]:
        labels = read_labels(self.files.root / path)
        if labels.shape != sides:
            raise ValueError(
                f"{self.files.root / path} has {labels.shape} pixels now, and had {sides}; open the data anew"
            )
        return labels

    def _classes(self, labels: Int32[np.ndarray, "height width"]) -> Int32[np.ndarray, "height width"]:
        if self.binary:
            labels = np.where(labels == VOID, 1, labels).astype(np.int32)
        wrong = labels >= len(self.info.classes)
        if self.ignored is not None:
            wrong &= labels != self.ignored
        if wrong.any():
            raise ValueError(
                f"its mask has the label {labels[wrong][0]}; expected 0 to {len(self.info.classes) - 1}, because there"
                f" are {len(self.info.classes)} classes"
            )
        return labels


def read_labels(file: Path) -> Int32[np.ndarray, "height width"]:
    """The labels of a file.

    Raises:
        ValueError: As `decode_labels`; the message names the file.
    """
    try:
        return decode_labels(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
