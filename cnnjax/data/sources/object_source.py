"""Pictures in files with objects: what every source of boxes gives.

An example holds, for `slots` objects of which those that are not present are zeros:

| element | shape | what |
|---|---|---|
| image | (height, width, 3) | the picture; uint8 once it is read |
| boxes | (slots, 4) float32 | (x_min, y_min, x_max, y_max) in pixels from the upper left corner, x_max - x_min wide |
| classes | (slots,) int32 | the class of each object, a place in `info.classes` |
| present | (slots,) bool | whether the slot holds an object |
| difficult, truncated | (slots,) bool | as Pascal VOC marks them |
| crowd | (slots,) bool | whether the object is a region of many (COCO's iscrowd) |
| area | (slots,) float32 | pixels of the object: of its mask where the source knows it, else of its box |
| keypoints | (slots, points, 2) float32 | (x, y) in the same pixels |
| visibility | (slots, points) int32 | 0 if a key point is not labelled, 1 if it is hidden, 2 if seen |
| masks | (height, width) int32 | k where the object in slot k - 1 is; or (height, width, slots) uint8 |
| picture | () int32 | the number of the picture in its file |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from cnnjax.data.pictures.decode import OpenPicture, open_picture
from cnnjax.data.sources.files import FileSource, Paths
from cnnjax.data.sources.fingerprint import fingerprint
from cnnjax.data.sources.object_masks import draw_outlines
from cnnjax.data.sources.object_table import Table, fill
from cnnjax.data.sources.source import Info, describe_source
from cnnjax.image_size import Size
from cnnjax.settings.objects import MaskForm


@dataclass(frozen=True, eq=False, repr=False)
class ObjectSource:
    """Pictures by file, with the objects of a table.

    Attributes:
        files: The pictures, with what else is known of each.
        table: Their objects.
        slots: How many objects an example holds.
        sides: Height and width of each picture, as its annotation says.
        notes: The file of the annotation of each picture, and its place in there.
        info: What the source holds.
        tell: Names an object by its row in the table, with its file and entry; needed for masks.
        outlines: Of each object, COCO's run-length code or polygons; needed for masks.
        form: How masks are given.
        texts: What is known of each picture in words, such as "captions"; in columns, and in no example.
    """

    files: FileSource
    table: Table
    slots: int
    sides: Int[np.ndarray, "pictures 2"]
    notes: Sequence[str] | Paths
    info: Info
    tell: Callable[[int], str] = str
    outlines: Sequence[Any] = ()
    form: MaskForm = "none"
    texts: Mapping[str, np.ndarray] | None = None

    def __post_init__(self) -> None:
        objects = {name: (self.slots, *values.shape[1:]) for name, values in self.table.columns.items()}
        shapes = {**self.files.info.shapes, **objects, **({"present": (self.slots,)} if objects else {})}
        if self.form != "none":
            shapes["masks"] = (None, None) if self.form == "map" else (None, None, self.slots)
        object.__setattr__(self, "info", replace(self.info, shapes=shapes))

    def __repr__(self) -> str:
        return describe_source(self)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example, place = self.files[index], index % len(self)
        sides = int(self.sides[place, 0]), int(self.sides[place, 1])
        example["image"] = open_annotated(example["image"], sides, self.notes[place])
        if not self.table.columns:
            return example
        rows = self.table.rows(place)
        objects = {name: values[rows] for name, values in self.table.columns.items()}
        example |= fill(objects, self.slots)
        if self.form != "none":
            example["masks"] = draw_outlines(
                self.outlines[rows],
                sides,
                self.form,
                self.slots,
                crowd=objects["crowd"],
                tell=lambda number: self.tell(rows.start + number),
            )
        return example

    def column(self, name: str) -> np.ndarray | None:
        """All values of an element in order, filled up to the slots; None for pictures, masks and unknown names.

        A COCO file's "captions" are here, a tuple of texts for each picture, and in no example.
        """
        if name in self.table.columns or (name == "present" and self.table.columns):
            return self.table.filled(self.slots)[name]
        return self.files.column(name) if name not in (self.texts or {}) else (self.texts or {})[name]

    def where(self, index: int) -> str:
        """The file of a picture, and its annotation."""
        return f"{self.files.where(index)} ({self.notes[index % len(self)]})"


def open_annotated(data: bytes, sides: Size, note: str) -> OpenPicture:
    """The picture in these bytes, if its height and width are those of its annotation.

    Raises:
        ValueError: If they are not, or the bytes are no picture.
    """
    picture = open_picture(data, channels=3)
    if picture.sides != sides:
        turned = picture.image.size[::-1] == sides
        cure = (
            "its EXIF orientation turns it: turn its pixels and remove the tag (exiftran -a), or annotate it anew"
            if turned
            else "correct the size, or use the picture that was annotated"
        )
        raise ValueError(
            f"the picture has {picture.sides[0]} rows of {picture.sides[1]} pixels, its annotation ({note}) says"
            f" {sides[0]} rows of {sides[1]}; {cure}"
        )
    return picture


def describe_objects(
    info: Info, paths: Paths, sizes: Int[np.ndarray, "pictures"], table: Table, *parts: str | bytes | np.ndarray
) -> Info:
    """The same with its fingerprint: of relative paths, sizes in bytes, the table of objects, classes, and `parts`."""
    columns = [part for name in sorted(table.columns) for part in (name, table.columns[name])]
    mark = fingerprint(
        paths.text, paths.ends, np.asarray(sizes, np.int64), table.first, *columns, *info.classes, *parts
    )
    return replace(info, fingerprint=mark)
