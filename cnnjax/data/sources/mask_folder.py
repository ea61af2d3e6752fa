"""Pictures with masks in files: label maps of classes or of objects, or one file for each object."""

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from cnnjax.cache import read_cache, write_cache
from cnnjax.data.batches.progress import progress
from cnnjax.data.pictures.decode import open_picture
from cnnjax.data.sources.class_names import listed, read_class_names
from cnnjax.data.sources.files import FileSource, Paths
from cnnjax.data.sources.fingerprint import fingerprint
from cnnjax.data.sources.mask_layout import Layout, Masked, find_layout
from cnnjax.data.sources.mask_source import VOID, MaskSource, read_labels
from cnnjax.data.sources.object_table import choose_slots
from cnnjax.data.sources.source import Info, Source, local_path
from cnnjax.settings.objects import Objects

_CLASSES = "classes.txt"
# Raised when the same masks would give other numbers, so that kept ones are not taken for them.
_VERSION = 1
# What is known of the masks of a picture: the columns of what `_survey` gives.
_LARGEST, _LARGEST_BUT_VOID, _OBJECTS, _HEIGHT, _WIDTH = range(5)


def mask_parts(
    spelling: str,
    argument: str,
    data_dir: Path | None,
    *,
    follow_links: bool = False,
    objects: Objects | None = None,
) -> dict[str, Callable[[], Source]]:
    """How to open each split of a folder of pictures and masks.

    | PATH holds | labels |
    |---|---|
    | images and masks, or images and labels | semantic: a pixel's label is its class; a file for each picture |
    | images and instances | instances: 0 for the background, and a number for each object |
    | a folder for each picture, with images (one) and masks (a file for each object, 0 where it is not) | instances |

    or folders of splits (`cnnjax.data.sources.split_names`) that do; or images and masks hold the folders of splits.
    A picture and its label map have one name but for the suffix. `info.labels` tells which labels they are.

    Semantic labels: "masks" (height, width) int32. The names of the classes are the lines of PATH/classes.txt, that of
    label 0 first, or else "background", "class 1" and on up to the largest label of all splits. Where all masks hold
    0 and 255 only, 255 is class 1; else 255 is no class, is kept, and is `info.ignored`.

    Instance labels: boxes, classes (1), area, present and masks, see `cnnjax.data.sources.object_source`. Gaps in the
    numbers of a picture are closed. The classes are "background" and "object", or the two lines of classes.txt.

    All masks are looked through once, and what was found is kept in the cache folder until one of them changes.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has another layout, a picture has no mask or the reverse, a mask is damaged or of another size
            than its picture, a label is above the number of classes, a file of an object has no pixel and is refused,
            or a picture has more objects than slots.
    """
    objects = objects or Objects()
    root = Path(os.path.realpath(local_path(spelling, argument, data_dir, kind="folder")))
    layout = find_layout(root, follow_links=follow_links)
    semantic = layout.kind == "semantic"
    if semantic and (objects.slots is not None or objects.masks in ("none", "stack")):
        raise ValueError(
            f"{spelling} has labels of classes, not of objects, and {objects} came; leave out --objects.slots and "
            "--objects.masks, or call the folder of the masks instances if they number objects"
        )
    found = {split: _survey(root, layout, pairs, f"{split} of {root.name}") for split, pairs in layout.splits.items()}
    if semantic:
        binary, classes, ignored, remarks = _semantic_classes(root, layout, found)
        options = {"binary": binary, "slots": 0, "form": "map", "ignored": ignored}
        said = dict.fromkeys(found, remarks)
    else:
        classes = read_class_names(root / _CLASSES) if (root / _CLASSES).is_file() else ("background", "object")
        if len(classes) != 2:
            raise ValueError(f"{root / _CLASSES} has {len(classes)} lines; expected two, as background and object")
        slots = choose_slots(
            {split: table[:, _OBJECTS] for split, table in found.items()},
            objects.slots,
            lambda split, index: str(root / layout.splits[split][index].picture),
        )
        said = {split: _empty_files(root, layout, split, table, objects) for split, table in found.items()}
        options = {"slots": slots, "form": objects.mask_form("map")}
    return {
        split: partial(_open, spelling, root, split, layout, found[split], classes, said[split], options)
        for split in layout.splits
    }


def _open(
    spelling: str,
    root: Path,
    split: str,
    layout: Layout,
    found: np.ndarray,
    classes: tuple[str, ...],
    remarks: tuple[str, ...],
    options: dict,
) -> MaskSource:
    pairs = layout.splits[split]
    paths, masks = Paths.pack(one.picture for one in pairs), [one.masks for one in pairs]
    every = [path for one in masks for path in one]
    sizes = [
        np.array([one.size for one in pairs]),
        np.array([os.stat(root / path).st_size for path in every], np.int64),
    ]
    ends = np.cumsum([len(one) for one in masks])
    mark = fingerprint(layout.kind, paths.text, paths.ends, *every, ends, *sizes, *classes)
    info = Info(spelling, split, {"image": (None, None, 3)}, classes, mark, remarks)
    files = FileSource(root, paths, {}, info)
    sides = found[:, [_HEIGHT, _WIDTH]]
    return MaskSource(files, masks, layout.kind, sides, info, **options)


def _semantic_classes(
    root: Path, layout: Layout, found: dict[str, np.ndarray]
) -> tuple[bool, tuple[str, ...], int | None, tuple[str, ...]]:
    """Whether 255 stands for 1, the classes, the label that is ignored, and what is to be said of it."""
    every = np.concatenate(list(found.values()))
    given = read_class_names(root / _CLASSES) if (root / _CLASSES).is_file() else None
    voids = every[:, _LARGEST].max() == VOID and len(given or ()) <= VOID
    largest = int(every[:, _LARGEST_BUT_VOID].max()) if voids else int(every[:, _LARGEST].max())
    binary = bool(voids and largest == 0)
    if given is not None:
        classes = given
        column = _LARGEST_BUT_VOID if voids else _LARGEST
        for split, table in found.items():
            above = np.flatnonzero(table[:, column] >= len(classes))
            if len(above):
                mask, label = layout.splits[split][above[0]].masks[0], table[above[0], column]
                raise ValueError(
                    f"{root / mask} has the label {label}, and {root / _CLASSES} names {len(classes)} classes, 0 to"
                    f" {len(classes) - 1}; add a line for it, or correct the mask"
                )
    else:
        classes = ("background", *(f"class {number}" for number in range(1, max(largest, 1) + 1)))
    if binary:
        return True, classes, None, (f"masks hold 0 and {VOID} only: {VOID} is read as 1, {classes[-1]!r}",)
    if voids:
        return False, classes, VOID, (f"the label {VOID} is taken for pixels of no class, which are ignored",)
    return False, classes, None, ()


def _empty_files(root: Path, layout: Layout, split: str, found: np.ndarray, objects: Objects) -> tuple[str, ...]:
    """What is to be said of files of objects that have no pixel."""
    if layout.kind != "files":
        return ()
    pairs = layout.splits[split]
    fewer = [place for place, one in enumerate(pairs) if found[place, _OBJECTS] < len(one.masks)]
    if not fewer:
        return ()
    empty = next(root / mask for mask in pairs[fewer[0]].masks if not read_labels(root / mask).any())
    if objects.invalid == "refuse":
        raise ValueError(
            f"{empty} has no pixel; expected those of an object: remove it, or have such files left out by "
            'Objects(invalid="drop") (--objects.invalid drop)'
        )
    count = sum(len(one.masks) for one in pairs) - int(found[:, _OBJECTS].sum())
    return (f"left out {count:,} masks without a pixel, of {listed([pairs[place].picture for place in fewer])}",)


def _survey(root: Path, layout: Layout, pairs: Sequence[Masked], text: str) -> np.ndarray:
    """What is known of the masks of each picture, kept until a file changes."""
    stamps = [os.stat(root / path) for one in pairs for path in (one.picture, *one.masks)]
    stamped = np.array([(status.st_size, status.st_mtime_ns, status.st_ino) for status in stamps], np.int64)
    names = [path for one in pairs for path in (one.picture, *one.masks)]
    name = f"masks-{fingerprint(str(_VERSION), str(root), layout.kind, *names, stamped)[:32]}.npy"
    if (kept := _restore(read_cache(name), len(pairs))) is not None:
        return kept
    rows = []
    with ThreadPoolExecutor(8) as pool, progress(f"looking through masks of {text}", len(pairs)) as advance:
        for row in pool.map(partial(_look, root, layout.kind), pairs):
            rows.append(row)
            advance(1)
    found = np.array(rows, np.int64).reshape(-1, 5)
    file = io.BytesIO()
    np.save(file, found)
    write_cache(name, file.getvalue())
    return found


def _look(root: Path, kind: str, one: Masked) -> tuple[int, int, int, int, int]:
    labels = [read_labels(root / path) for path in one.masks]
    height, width = _sides(root / one.picture, labels)
    for path, values in zip(one.masks, labels, strict=True):
        if values.shape != (height, width):
            raise ValueError(
                f"{root / path} has {values.shape[0]} rows of {values.shape[1]} pixels, its picture"
                f" {root / one.picture} {height} rows of {width}; expected the same: make the mask anew"
            )
    if kind == "files":
        return 1, 1, sum(bool(values.any()) for values in labels), height, width
    (values,) = labels
    there = np.unique(values)
    largest, but_void = int(there[-1]), int(there[there != VOID].max(initial=0))
    return largest, but_void, int(np.count_nonzero(there)), height, width


def _sides(picture: Path, labels: Sequence[np.ndarray]) -> tuple[int, int]:
    """Height and width of a picture; those of its masks where it cannot be read, which is said when it is to be."""
    expected = labels[0].shape if labels else (0, 0)
    try:
        with Image.open(picture) as image:
            sides = image.height, image.width
            plain = image.format != "JPEG" and sides == expected
        # What an EXIF orientation turns is compared as it is seen; of a JPEG its header is enough to tell.
        return sides if plain else open_picture(picture.read_bytes()).sides
    except Exception:
        return expected[0], expected[1]


def _restore(data: bytes | None, count: int) -> np.ndarray | None:
    """The numbers of a kept file, or None if it does not hold what was written."""
    if data is None:
        return None
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False)
    # A file cut short or overwritten fails in several ways; the masks themselves are the truth.
    except Exception:
        return None
    return found if found.shape == (count, 5) and found.dtype == np.int64 else None
