"""Folders of pictures, one folder per class: indexed once, and the index kept until a folder changes."""

import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np

from cnnjax.data.cache import read_cache, write_cache
from cnnjax.data.file_source import SPLITS, SUFFIXES, FileSource, Paths, describe, with_test
from cnnjax.data.fingerprint import fingerprint
from cnnjax.data.folder_listing import Folder, Listing, list_below, list_folder
from cnnjax.data.sources import Source, local_path

# A folder that changed less than this before it was listed could change again within the same tick of its clock.
_SETTLED_NS = 2_000_000_000

# Raised when an index means something else, so that kept ones are not taken for it.
_VERSION = 1


def folder_parts(spelling: str, argument: str, data_dir: Path | None) -> dict[str, Callable[[], Source]]:
    """How to open each split of a folder of pictures.

    PATH holds a folder per class, `PATH/cat/1.jpg`, or a folder per split that does, `PATH/train/cat/1.jpg`, where
    splits are train, val, validation and test. Below a class folder the pictures may be nested. Classes are the union
    over all splits, labelled 0 to n - 1 by sorted name. What counts is a suffix of `SUFFIXES` in any case; hidden
    files and folders are passed over. Without "test", "val" or "validation" is offered as "test" too.

    The index is kept in the cache folder, and made anew when one of the folders has changed, by its time of change
    and its inode. A picture that is overwritten in place changes no folder: its new bytes are read, but the
    fingerprint remains that of the old size until a folder changes (`touch PATH`).

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are no pictures in folders of classes, a class folder has none, there is one class only,
            folders of classes and splits are mixed, or a symbolic link leads outside PATH or round in a circle.
    """
    root = Path(os.path.realpath(local_path(spelling, argument, data_dir, kind="folder")))
    name = f"folder-{fingerprint(str(root))[:32]}.npz"
    index = _restore(read_cache(name), root)
    if index is None:
        began = time.time_ns()
        index = _build(root)
        if index.stamps[:, 0].max() < began - _SETTLED_NS:
            write_cache(name, _store(index, root))
    return with_test({split: partial(_open_folder, index, root, split, spelling) for split in index.splits})


@dataclass(frozen=True, eq=False)
class _Index:
    """All pictures, split after split; `folders` are all that were listed, `stamps` their times and inodes."""

    classes: tuple[str, ...]
    splits: dict[str, tuple[int, int]]
    paths: Paths
    labels: np.ndarray
    sizes: np.ndarray
    folders: Paths
    stamps: np.ndarray


def _open_folder(index: _Index, root: Path, split: str, spelling: str) -> FileSource:
    start, stop = index.splits[split]
    if start == stop:
        raise ValueError(
            f"{root / split} has no pictures in folders of classes; expected {split}/class/1.jpg as in the other "
            "splits: sort its pictures into folders of classes, or choose another split"
        )
    paths, elements = index.paths.part(start, stop), {"label": index.labels[start:stop]}
    info = describe(spelling, split, index.classes, paths, index.sizes[start:stop], elements)
    return FileSource(root, paths, elements, info)


def _build(root: Path) -> _Index:
    top = list_folder(root, Folder("", str(root), frozenset([str(root)])))
    stamps, splits = list(top.stamps), {"all": top.folders}
    if _holds_splits(root, top):
        listings = {folder.path: list_folder(root, folder) for folder in top.folders}
        stamps += [stamp for listing in listings.values() for stamp in listing.stamps]
        splits = {split: listings[split].folders for split in SPLITS if split in listings}
    places = [(split, folder) for split, folders in splits.items() for folder in folders]
    found = list_below(root, [folder for _, folder in places])
    stamps += [stamp for listing in found for stamp in listing.stamps]
    empty = [folder.path for (_, folder), listing in zip(places, found, strict=True) if not listing.files]
    if not places or len(empty) == len(places):
        raise ValueError(
            f"{root} has no pictures in folders of classes; expected files such as {root}/cat/1.jpg "
            f"or {root}/train/cat/1.jpg, with a suffix of {', '.join(SUFFIXES)}"
        )
    if empty:
        named = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        raise ValueError(f"{root}: no pictures in the class folders {named}; add pictures, or remove the folders")
    classes = tuple(sorted({os.path.basename(folder.path) for _, folder in places}))
    if len(classes) == 1:
        raise ValueError(f"{root} has one class only, {classes[0]!r}; expected at least two folders of classes")
    label = {name: number for number, name in enumerate(classes)}
    counts = dict.fromkeys(splits, 0)
    for (split, _), listing in zip(places, found, strict=True):
        counts[split] += len(listing.files)
    stops = list(accumulate(counts.values()))
    bounds = {split: (stop - counts[split], stop) for split, stop in zip(counts, stops, strict=True)}
    files = [file for listing in found for file in listing.files]
    labels = [np.full(len(f.files), label[os.path.basename(at.path)]) for (_, at), f in zip(places, found, strict=True)]
    return _Index(
        classes,
        bounds,
        Paths.pack(path for path, _ in files),
        np.concatenate(labels).astype(np.int32),
        np.array([size for _, size in files], np.int64),
        Paths.pack(path for path, _, _ in stamps),
        np.array([stamp[1:] for stamp in stamps], np.int64),
    )


def _holds_splits(root: Path, top: Listing) -> bool:
    """Whether the folders in the root are splits; a class may be called train as well, beside bus and car."""
    names = [folder.path for folder in top.folders]
    splits = [name for name in names if name in SPLITS]
    if not splits:
        return False
    if len(splits) == len(names):
        return True
    nested = [folder.path for folder in top.folders if folder.path in SPLITS and list_folder(root, folder).folders]
    if nested:
        others = [name for name in names if name not in SPLITS]
        raise ValueError(
            f"{root} has the folders {', '.join(others[:5])} beside {', '.join(nested)}, which has folders of classes; "
            "expected folders of splits only (train, val, validation, test), or of classes only: move the others away"
        )
    return False


def _store(index: _Index, root: Path) -> bytes:
    about = {"version": _VERSION, "root": str(root), "classes": index.classes, "splits": index.splits}
    file = io.BytesIO()
    np.savez(
        file,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        paths=index.paths.text,
        path_ends=index.paths.ends,
        labels=index.labels,
        sizes=index.sizes,
        folders=index.folders.text,
        folder_ends=index.folders.ends,
        stamps=index.stamps,
    )
    return file.getvalue()


def _restore(data: bytes | None, root: Path) -> _Index | None:
    """The index kept for this root; None if there is none, it is damaged, or a folder has changed since."""
    if data is None:
        return None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as kept:
            about = json.loads(kept["about"].tobytes())
            if (about["version"], about["root"]) != (_VERSION, str(root)):
                return None
            index = _Index(
                tuple(about["classes"]),
                {split: (int(start), int(stop)) for split, (start, stop) in about["splits"].items()},
                Paths(kept["paths"], kept["path_ends"]),
                kept["labels"],
                kept["sizes"],
                Paths(kept["folders"], kept["folder_ends"]),
                kept["stamps"],
            )
        for number, stamp in enumerate(index.stamps.tolist()):
            status = os.stat(os.path.join(root, index.folders[number]))
            if stamp != [status.st_mtime_ns, status.st_ino]:
                return None
    # A file cut short or overwritten fails in the ways of zip, JSON and NumPy alike; the folder itself is the truth.
    except Exception:
        return None
    return index
