"""COCO files: boxes, outlines, crowds, key points and captions of pictures, one JSON file for each split."""

import glob
import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from cnnjax.data.sources.coco_json import CocoFile, read_coco, tell_annotation
from cnnjax.data.sources.files import FileSource, Paths, find_pictures
from cnnjax.data.sources.object_source import ObjectSource, describe_objects
from cnnjax.data.sources.object_table import Table, choose_slots, sound_boxes
from cnnjax.data.sources.source import Info, Source, local_path
from cnnjax.data.sources.split_names import SPLITS, names_by_split, split_name
from cnnjax.settings.objects import Invalid, Objects

_FORM = "coco:IMAGES:JSON, a folder of pictures and a COCO file"


def coco_parts(
    spelling: str,
    argument: str,
    data_dir: Path | None,
    *,
    follow_links: bool = False,
    objects: Objects | None = None,
) -> dict[str, Callable[[], Source]]:
    """How to open each split of pictures with COCO's annotations.

    `argument` is IMAGES:JSON. A `*` in JSON stands for the name of a split, and is put in IMAGES too where there is a
    `*`: `coco:nuclei/*/images:nuclei/instances_*.json`. A year after a usual name is not counted: "val2017" is "val".

    Categories are classes in the order of their numbers, which need not be 0 to n - 1 and stay in `info.class_ids`.
    Elements of the examples are image, picture (the id), boxes, classes, crowd, area, present, and where the file has
    key points keypoints and visibility; see `cnnjax.data.sources.object_source`. Masks are read if `objects.masks`
    says in which form. Captions are in `column("captions")`, a tuple of texts for each picture. Boxes are
    (x, y, x + width, y + height) in pixels from the upper left corner. A key point is the centre of the pixel that the
    file names. Pictures without annotations are ordinary.

    Raises:
        FileNotFoundError: If there is no such folder or file, or a picture is missing.
        ValueError: If a file or an entry is not sound (see `read_coco`), a box is not sound and refused, splits differ
            in their categories, a picture has more objects than slots, or masks are asked for and an object has no
            outline. The message names the file and the entry.
    """
    objects = objects or Objects()
    images, separator, file = argument.rpartition(":")
    if not separator or not images or not file or file.count("*") > 1 or images.count("*") > file.count("*"):
        raise ValueError(f"{spelling!r} names no pictures or no file; expected {_FORM}, with one * at most in each")
    places = _places(spelling, images, file, data_dir)
    read = _read_all(tuple(_stamp(json) for _, json in places.values()), objects.invalid)
    parts = dict(zip(places, read, strict=True))
    first = parts[next(iter(parts))].told
    for part in parts.values():
        if part.told.categories != first.categories:
            raise ValueError(
                f"{part.told.file} has other categories than {first.file}; expected the same in all splits"
            )
    slots = choose_slots(
        {split: part.table.counts for split, part in parts.items()},
        objects.slots,
        lambda split, index: f"{parts[split].told.tell_picture(index)}: {parts[split].told.names[index]}",
    )
    form = objects.mask_form("none")
    for part in parts.values():
        if form != "none" and not part.table.columns:
            raise ValueError(f"{part.told.file} has captions only, and masks={form!r} came; leave out --objects.masks")
        without = [row for row, outline in enumerate(part.outlines) if outline is None] if form != "none" else []
        if without:
            raise ValueError(
                f"{part.tell(without[0])}: it has no segmentation, and masks={form!r} came ({len(without)} without one"
                " in all); leave out --objects.masks, or remove the annotation"
            )
    return {
        split: partial(_open, spelling, split, places[split][0], part, slots, objects, follow_links)
        for split, part in parts.items()
    }


@dataclass(frozen=True)
class _Entries:
    """Names the objects of a table by their annotations; of a class of a module, as workers need it."""

    file: Path
    numbers: np.ndarray
    identities: Sequence[object]

    def __call__(self, row: int) -> str:
        return tell_annotation(self.file, int(self.numbers[row]), self.identities[row])


@dataclass(frozen=True, eq=False)
class _Part:
    """A file, with its objects sorted by picture, and without those that are left out."""

    told: CocoFile
    table: Table
    tell: _Entries
    outlines: Sequence[object]
    remarks: tuple[str, ...]
    digest: str


def _places(spelling: str, images: str, file: str, data_dir: Path | None) -> dict[str, tuple[Path, Path]]:
    """The folder of the pictures and the file of each split."""
    if "*" not in file:
        folder = local_path(spelling, images, data_dir, kind="folder")
        return {"all": (folder, local_path(spelling, file, data_dir, kind="file"))}
    before, after = str((data_dir or Path()) / Path(file).expanduser()).split("*")
    found = sorted(path for path in glob.glob(f"{glob.escape(before)}*{glob.escape(after)}") if os.path.isfile(path))
    names = {path[len(before) : len(path) - len(after)]: path for path in found}
    if not names:
        raise FileNotFoundError(f"{spelling!r}: there is no file {before}*{after}; check the path")
    by_split = names_by_split([_without_year(name) for name in names], f"{before}*{after}")
    written = {_without_year(name): name for name in names}
    if len(written) < len(names):
        raise ValueError(f"{before}*{after} stands for {', '.join(names)}; expected one file for each split")
    return {
        split: (
            local_path(spelling, images.replace("*", written[name]), data_dir, kind="folder"),
            Path(names[written[name]]),
        )
        for split, name in by_split.items()
    }


def _without_year(name: str) -> str:
    """The name of a split without the year behind it.

    >>> _without_year("val2017"), _without_year("fold2")
    ('val', 'fold2')
    """
    stem = re.sub(r"[-_]?\d{4}$", "", name)
    return stem if split_name(stem) in SPLITS else name


def _stamp(file: Path) -> tuple[str, int, int]:
    """A file as it is now."""
    status = os.stat(file)
    return os.path.realpath(file), status.st_mtime_ns, status.st_size


@lru_cache(maxsize=1)
def _read_all(stamps: tuple[tuple[str, int, int], ...], invalid: Invalid) -> tuple[_Part, ...]:
    """All files; those of a run are opened once for training and once for testing, and large."""
    return tuple(_sort(read_coco(Path(path)), invalid) for path, *_ in stamps)


def _sort(told: CocoFile, invalid: Invalid) -> _Part:
    order = np.argsort(np.array(told.picture, np.int64), kind="stable")
    picture = np.array(told.picture, np.int64)[order]
    number, identity = np.array(told.number, np.int64)[order], [told.identity[row] for row in order]
    written = np.array(told.boxes, np.float64).reshape(-1, 4)[order]
    tell = _Entries(told.file, number, identity)

    def tell_box(row: int) -> str:
        x, y, width, height = (f"{value:.10g}" for value in written[row])
        return f"{tell(row)}: the box x {x}, y {y}, width {width}, height {height}"

    boxes = np.concatenate([written[:, :2], written[:, :2] + written[:, 2:]], 1)
    sound = sound_boxes(boxes, told.sides[picture], invalid, tell_box)
    kept = np.flatnonzero(sound.kept)
    columns: dict[str, np.ndarray] = {}
    if len(told.picture) or not told.captions:
        columns = {
            "boxes": sound.boxes,
            "classes": np.array(told.classes, np.int32)[order][kept],
            "crowd": np.array(told.crowd, bool)[order][kept],
            "area": np.array(told.area, np.float32)[order][kept],
        }
    if columns and told.categories.points:
        points = np.array(told.points, np.float64).reshape(-1, len(told.categories.points), 3)[order][kept]
        columns |= {"keypoints": points[..., :2].astype(np.float32), "visibility": points[..., 2].astype(np.int32)}
    return _Part(
        told,
        Table.of(picture[kept], len(told.names), columns),
        _Entries(told.file, number[kept], [identity[row] for row in kept]),
        [told.outlines[row] for row in order[kept]],
        sound.remarks,
        hashlib.sha256(told.file.read_bytes()).hexdigest(),
    )


def _open(
    spelling: str, split: str, folder: Path, part: _Part, slots: int, objects: Objects, follow_links: bool
) -> ObjectSource:
    told, form = part.told, objects.mask_form("none")
    notes = [told.tell_picture(place) for place in range(len(told.names))]
    entries = [f"image {place + 1} (id {identity})" for place, identity in enumerate(told.ids.tolist())]
    found, sizes = find_pictures(folder, told.names, told.file, entries, follow_links=follow_links)
    paths, elements = Paths.pack(found), {"picture": told.ids}
    categories = told.categories
    texts: Mapping[str, np.ndarray] = {}
    if told.captions:
        captions = np.empty(len(told.names), object)
        captions[:] = [tuple(told.captions.get(place, ())) for place in range(len(told.names))]
        texts = {"captions": captions}
    info = Info(
        spelling,
        split,
        {"image": (None, None, 3), "picture": ()},
        categories.names,
        remarks=part.remarks,
        labels="instances" if form == "map" else "",
        class_ids=categories.ids,
        points=categories.points,
        skeleton=categories.skeleton,
    )
    info = describe_objects(info, paths, sizes, part.table, part.digest)
    outlines = part.outlines if form != "none" else ()
    files = FileSource(Path(os.path.realpath(folder)), paths, elements, info)
    return ObjectSource(files, part.table, slots, told.sides, notes, info, part.tell, outlines, form, texts)
