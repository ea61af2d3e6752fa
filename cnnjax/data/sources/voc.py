"""Pascal VOC: pictures with an XML file each, in the challenge's layout or a simpler one."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from cnnjax.data.batches.progress import counted
from cnnjax.data.pictures.decode import SUFFIXES
from cnnjax.data.sources.class_names import listed, read_class_names, remarks_on_splits
from cnnjax.data.sources.files import FileSource, Paths
from cnnjax.data.sources.folder_listing import Folder, list_folder
from cnnjax.data.sources.object_source import ObjectSource, describe_objects
from cnnjax.data.sources.object_table import Table, choose_slots, sound_boxes
from cnnjax.data.sources.pairing import (
    Files,
    Pair,
    files_below,
    files_beside,
    named_folder,
    pair_by_name,
    split_folders,
    whole,
)
from cnnjax.data.sources.source import Info, Source, local_path
from cnnjax.data.sources.split_names import SPLITS, names_by_split, split_name
from cnnjax.data.sources.voc_xml import Annotation, read_annotation, tell_corners
from cnnjax.settings.objects import Invalid, Objects

_PICTURES, _ANNOTATIONS, _CLASSES = ("JPEGImages", "images"), ("Annotations",), "classes.txt"
_EXPECTED = (
    "JPEGImages and Annotations, images and annotations, or pictures beside their XML files; below folders of splits "
    f"({', '.join(SPLITS)}) if you like"
)


def voc_parts(
    spelling: str,
    argument: str,
    data_dir: Path | None,
    *,
    follow_links: bool = False,
    objects: Objects | None = None,
) -> dict[str, Callable[[], Source]]:
    """How to open each split of a folder of pictures with Pascal VOC's annotations.

    PATH holds the folders JPEGImages and Annotations, or images and annotations, in any case, or pictures beside their
    XML files; or folders of splits (`cnnjax.data.sources.split_names`) that do. A picture and its XML file have one
    name but for the suffix. Where there are files such as ImageSets/Main/train.txt, they say which pictures a split
    has, "trainval" among them, and others are not read; else every picture has an XML file and the reverse. A picture
    without objects has an XML file without objects.

    The classes are those that occur in any split, sorted by name in Unicode's composed form, or the lines of a
    classes.txt in PATH. Elements of the examples are image, boxes, classes, difficult, truncated and present, see
    `cnnjax.data.sources.object_source`. VOC's pixels count from 1, the last included: (xmin, ymin, xmax, ymax) becomes
    (xmin - 1, ymin - 1, xmax, ymax).

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has another layout, a picture has no annotation or the reverse, an XML file is not sound, a
            class is none of classes.txt, a box is not sound and refused, or a picture has more objects than slots. The
            message names the file and the object.
    """
    objects = objects or Objects()
    if objects.masks in ("map", "stack"):
        raise ValueError(
            f"{spelling} has boxes and no masks, and masks={objects.masks!r} came; leave out --objects.masks, or open"
            " pictures with label maps as masks:PATH"
        )
    root = Path(os.path.realpath(local_path(spelling, argument, data_dir, kind="folder")))
    pairs = _pairs(root, follow_links)
    names = root / _CLASSES
    given = read_class_names(names) if names.is_file() else None
    stamps = tuple(os.stat(root / annotation).st_mtime_ns for found in pairs.values() for *_, annotation in found)
    named = tuple((split, tuple(found)) for split, found in pairs.items())
    read = dict(zip(pairs, _read_all(root, named, stamps, objects.invalid, given), strict=True))
    classes = given or tuple(sorted({name for part in read.values() for name in part.names}))
    numbers = {name: number for number, name in enumerate(classes)}
    tables = {split: part.table(numbers) for split, part in read.items()}
    slots = choose_slots(
        {split: table.counts for split, table in tables.items()},
        objects.slots,
        lambda split, index: str(root / pairs[split][index][0]),
    )
    has = {split: _occurring(table, len(classes)) for split, table in tables.items()}
    lacking = remarks_on_splits(str(root), classes, has)
    return {
        split: partial(_open, spelling, root, split, pairs[split], tables[split], part, classes, slots, lacking[split])
        for split, part in read.items()
    }


@dataclass(frozen=True, eq=False)
class _Part:
    """The annotations of a split: size of each picture, and of each object its picture, class, box and marks."""

    sides: np.ndarray
    picture: np.ndarray
    names: Sequence[str]
    columns: Mapping[str, np.ndarray]
    remarks: tuple[str, ...]

    def table(self, numbers: Mapping[str, int]) -> Table:
        """The objects, with their classes as numbers."""
        classes = np.array([numbers[name] for name in self.names], np.int32)
        columns = {"boxes": self.columns["boxes"], "classes": classes, **self.columns}
        return Table.of(self.picture, len(self.sides), columns)


def _open(
    spelling: str,
    root: Path,
    split: str,
    pairs: Sequence[Pair],
    table: Table,
    part: _Part,
    classes: tuple[str, ...],
    slots: int,
    lacking: tuple[str, ...],
) -> ObjectSource:
    if not pairs:
        raise ValueError(f"{root} has no pictures for the split {split}; add some, or choose another split")
    paths = Paths.pack(picture for picture, *_ in pairs)
    info = Info(spelling, split, {"image": (None, None, 3)}, classes, remarks=(*part.remarks, *lacking))
    info = describe_objects(info, paths, np.array([size for _, size, _ in pairs], np.int64), table, part.sides)
    notes = [str(root / annotation) for *_, annotation in pairs]
    return ObjectSource(FileSource(root, paths, {}, info), table, slots, part.sides, notes, info)


@lru_cache(maxsize=1)
def _read_all(
    root: Path,
    pairs: tuple[tuple[str, tuple[Pair, ...]], ...],
    stamps: tuple[int, ...],
    invalid: Invalid,
    classes: tuple[str, ...] | None,
) -> tuple[_Part, ...]:
    """All annotations, as they are at these times: those of a run are opened once to train and once more to test."""
    return tuple(_read(root, split, found, invalid, classes) for split, found in pairs)


def _read(root: Path, split: str, pairs: Sequence[Pair], invalid: Invalid, classes: tuple[str, ...] | None) -> _Part:
    text = f"reading annotations of {root.name} ({split})"
    found = [read_annotation(root / annotation) for *_, annotation in counted(pairs, text)]
    picture = np.repeat(np.arange(len(found)), [len(one.names) for one in found])
    first = np.concatenate([[0], np.cumsum([len(one.names) for one in found], dtype=np.int64)])
    written = _joined(found, "written", (0, 4))
    names = [name for one in found for name in one.names]
    sides = np.array([one.sides for one in found], np.int64).reshape(-1, 2)

    def entry(number: int) -> str:
        of = picture[number]
        return f"{root / pairs[of][2]}, object {number - first[of] + 1} ({names[number]})"

    for number, name in enumerate(names):
        if classes is not None and name not in classes:
            raise ValueError(
                f"{entry(number)}: {root / _CLASSES} has no class {name!r}, only {listed(classes)}; add it there, or "
                "correct the name"
            )
    sound = sound_boxes(
        _joined(found, "boxes", (0, 4)),
        sides[picture],
        invalid,
        lambda number: f"{entry(number)}: {tell_corners(written[number])}",
    )
    columns = {"boxes": sound.boxes}
    for flag in ("difficult", "truncated"):
        columns[flag] = _joined(found, flag, (0,)).astype(bool)[sound.kept]
    kept = [name for name, keep in zip(names, sound.kept.tolist(), strict=True) if keep]
    return _Part(sides, picture[sound.kept], kept, columns, sound.remarks)


def _joined(found: Sequence[Annotation], name: str, empty: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([np.zeros(empty), *(getattr(one, name) for one in found)])


def _occurring(table: Table, classes: int) -> np.ndarray:
    """Which classes each picture has, as tags are."""
    has = np.zeros((len(table.counts), classes), np.float32)
    has[np.repeat(np.arange(len(table.counts)), table.counts), table.columns["classes"]] = 1
    return has


def _pairs(root: Path, follow_links: bool) -> dict[str, list[Pair]]:
    """Pictures and their annotations by split."""
    top = list_folder(root, whole(root), follow_links=follow_links)
    splits = split_folders(root, top)
    if splits and named_folder(root, top, _ANNOTATIONS) is None:
        return {
            split: pair_by_name(root, *_files_in(root, folder, follow_links), "annotation")
            for split, folder in splits.items()
        }
    pictures, annotations = _files_in(root, whole(root), follow_links)
    lists = _lists(root)
    if not lists:
        return {"all": pair_by_name(root, pictures, annotations, "annotation")}
    return {
        split: pair_by_name(root, pictures, annotations, "annotation", names=_names(file), where=str(file))
        for split, file in lists.items()
    }


def _files_in(root: Path, folder: Folder, follow_links: bool) -> tuple[Files, Files]:
    """Pictures and XML files of a folder in one of the layouts.

    Raises:
        ValueError: If it has none of them.
    """
    listing = list_folder(root, folder, follow_links=follow_links)
    pictures, annotations = (named_folder(root, listing, names) for names in (_PICTURES, _ANNOTATIONS))
    if pictures is not None and annotations is not None:
        found = files_below(root, pictures, SUFFIXES, follow_links=follow_links)
        return found, files_below(root, annotations, (".xml",), follow_links=follow_links)
    beside = files_beside(root, folder, (".xml",), follow_links=follow_links)
    if not any(beside):
        deeper = [below for below in listing.folders if (root / below.path / _ANNOTATIONS[0]).is_dir()]
        hint = f" (did you mean 'voc:{root / deeper[0].path}'?)" if deeper else ""
        raise ValueError(f"{root / folder.path} has no pictures with XML files{hint}; expected {_EXPECTED}")
    return beside


def _lists(root: Path) -> dict[str, Path]:
    """The files that list the pictures of a split, by the split."""
    folder = next((at for at in (root / "ImageSets" / "Main", root / "ImageSets") if at.is_dir()), None)
    if folder is None:
        return {}
    stems = sorted(file.stem for file in folder.glob("*.txt") if split_name(file.stem) in (*SPLITS, "trainval"))
    return {split: folder / f"{stem}.txt" for split, stem in names_by_split(stems, str(folder)).items()}


def _names(file: Path) -> list[str]:
    """The names in a list of pictures; what else stands in a line, as the 1 and -1 of a class's list, is not read."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 ({error}); save it as UTF-8") from error
    return [re.split(r"\s+", line.strip())[0] for line in lines if line.strip()]
