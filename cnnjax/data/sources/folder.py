"""Folders of pictures, one folder per class: indexed once, and the index kept until a folder changes."""

import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np

from cnnjax.cache import read_cache, write_cache
from cnnjax.data.pictures.decode import SUFFIXES
from cnnjax.data.sources.class_names import class_name, listed, remarks_on_splits
from cnnjax.data.sources.files import FileSource, Paths, describe
from cnnjax.data.sources.fingerprint import fingerprint
from cnnjax.data.sources.folder_listing import HIDDEN, Folder, Listing, list_below, list_folder, tell_skipped
from cnnjax.data.sources.source import Source, local_path
from cnnjax.data.sources.split_names import SPLITS, names_by_split, resembles_split, split_name

# A folder that changed less than this before it was listed could change again within the same tick of its clock.
_SETTLED_NS = 2_000_000_000

# Raised when an index means something else, so that kept ones are not taken for it.
_VERSION = 2

# Suffixes of what stands beside pictures; a folder of nothing else is no class.
_ANNOTATIONS = {".csv", ".json", ".mat", ".md", ".tsv", ".txt", ".xml", ".yaml", ".yml"}
_NO_CLASS = "in no folder of a class"


def folder_parts(
    spelling: str, argument: str, data_dir: Path | None, *, follow_links: bool = False
) -> dict[str, Callable[[], Source]]:
    """How to open each split of a folder of pictures.

    PATH holds a folder per class, `PATH/cat/1.jpg`, or a folder per split that does, `PATH/train/cat/1.jpg`, where
    splits have their usual names (`cnnjax.data.sources.split_names`). Below a class folder the pictures may be nested.
    Classes are the union over all splits, labelled 0 to n - 1 by sorted name in Unicode's composed form. What counts is
    a suffix of `SUFFIXES` in any case. Other files, hidden entries, those of systems, such as `@eaDir` and `__MACOSX`,
    and folders that hold annotations only are passed over, and a remark says how many.

    The index is kept in the cache folder, and made anew when one of the folders has changed, by its time of change
    and its inode. A picture that is overwritten in place changes no folder: its new bytes are read, but the
    fingerprint remains that of the old size until a folder changes (`touch PATH`).

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are no pictures in folders of classes, a class folder has none or no UTF-8 name, there is
            one class only, "train" lacks a class of another split, folders of classes and splits are mixed, or a
            symbolic link leads round in a circle or, unless `follow_links`, outside PATH.
    """
    root = Path(os.path.realpath(local_path(spelling, argument, data_dir, kind="folder")))
    name = f"folder-{fingerprint(str(root), str(follow_links))[:32]}.npz"
    index = _restore(read_cache(name), root)
    if index is None:
        began = time.time_ns()
        index = _build(root, follow_links)
        if index.stamps[:, 0].max() < began - _SETTLED_NS:
            write_cache(name, _store(index, root))
    return {split: partial(_open_folder, index, root, split, spelling) for split in index.splits}


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
    remarks: dict[str, tuple[str, ...]]


def _open_folder(index: _Index, root: Path, split: str, spelling: str) -> FileSource:
    start, stop = index.splits[split]
    if start == stop:
        raise ValueError(
            f"{root} has no pictures in folders of classes for the split {split}; expected {split}/class/1.jpg as in "
            "the other splits: sort its pictures into folders of classes, or choose another split"
        )
    paths, elements = index.paths.part(start, stop), {"label": index.labels[start:stop]}
    info = describe(spelling, split, index.classes, paths, index.sizes[start:stop], elements, index.remarks[split])
    return FileSource(root, paths, elements, info)


def _build(root: Path, follow_links: bool) -> _Index:
    top = list_folder(root, Folder("", str(root), frozenset([str(root)])), follow_links=follow_links)
    splits, beside = _splits(root, top, follow_links)
    places = [(split, folder) for split, listing in splits.items() for folder in listing.folders]
    below = list_below(root, [folder for _, folder in places], follow_links=follow_links)
    above = [top, *(listing for listing in splits.values() if listing is not top)]
    stamps = [stamp for listing in [*above, *below] for stamp in listing.stamps]
    skipped = sum((listing.skipped for listing in [*above, *below]), Counter())
    skipped[_NO_CLASS] += sum(len(listing.files) for listing in above)
    beside += [folder.path for (_, folder), listing in zip(places, below, strict=True) if _annotates(listing)]
    found = [
        (split, folder, listing.files)
        for (split, folder), listing in zip(places, below, strict=True)
        if not _annotates(listing)
    ]
    empty = [folder.path for _, folder, files in found if not files]
    if len(empty) == len(found):
        raise ValueError(
            f"{root} has no pictures in folders of classes; expected files such as {root}/cat/1.jpg "
            f"or {root}/train/cat/1.jpg, with a suffix of {', '.join(SUFFIXES)}"
        )
    if empty:
        raise ValueError(
            f"{root}: no pictures in the class folders {listed(empty)}; add pictures, or remove the folders"
        )
    names = [_class_of(root, folder) for _, folder, _ in found]
    classes = tuple(sorted(set(names)))
    if len(classes) == 1:
        deeper = {path.split("/")[1] for _, _, files in found for path, _ in files if path.count("/") > 1}
        cure = f": open folder:{root}/{found[0][1].path}" if len(splits) == 1 and len(deeper) > 1 else ""
        raise ValueError(f"{root} has one class only, {classes[0]!r}; expected at least two folders of classes{cure}")
    label = {name: number for number, name in enumerate(classes)}
    labels = np.repeat([label[name] for name in names], [len(files) for _, _, files in found]).astype(np.int32)
    counts = [sum(len(files) for of, _, files in found if of == split) for split in splits]
    bounds = {
        split: (stop - count, stop) for split, count, stop in zip(splits, counts, accumulate(counts), strict=True)
    }
    said = [tell_skipped(+skipped)] if +skipped else []
    said += [f"no pictures in {listed(beside)}, taken for annotations and left out"] if beside else []
    said += _doubts(root, {folder.path: files for split, folder, files in found if split == "all"})
    lacking = remarks_on_splits(str(root), classes, {split: labels[slice(*part)] for split, part in bounds.items()})
    return _Index(
        classes,
        bounds,
        Paths.pack(path for _, _, files in found for path, _ in files),
        labels,
        np.array([size for _, _, files in found for _, size in files], np.int64),
        Paths.pack(path for path, _, _ in stamps),
        np.array([stamp[1:] for stamp in stamps], np.int64),
        {split: (*said, *lacking[split]) for split in splits},
    )


def _splits(root: Path, top: Listing, follow_links: bool) -> tuple[dict[str, Listing], list[str]]:
    """The folders of classes by split, and folders without pictures beside the splits; of one split called "all".

    A class may be called train as well, beside bus and car.
    """
    named = [folder for folder in top.folders if split_name(folder.path) in SPLITS]
    others = [folder for folder in top.folders if folder not in named]
    within = {folder.path: list_folder(root, folder, follow_links=follow_links) for folder in named}
    nested = [name for name, listing in within.items() if listing.folders]
    if not named or (others and not nested):
        return {"all": top}, []
    listings = list_below(root, others, follow_links=follow_links)
    filled = [folder.path for folder, listing in zip(others, listings, strict=True) if listing.files]
    if filled:
        raise ValueError(
            f"{root} has the folders {listed(filled)} beside {listed(nested)}, which has folders of classes; "
            f"expected folders of splits only ({', '.join(SPLITS)}), or of classes only: move the others away"
        )
    written = names_by_split(within, str(root))
    return {split: within[written[split]] for split in SPLITS if split in written}, [f.path for f in others]


def _annotates(listing: Listing) -> bool:
    """Whether a folder holds annotations and no picture; an empty one does not."""
    kinds = listing.skipped.keys() - {HIDDEN}
    return not listing.files and bool(kinds) and kinds <= _ANNOTATIONS


def _class_of(root: Path, folder: Folder) -> str:
    name = os.path.basename(folder.path)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{root}: the name of the class folder {os.fsencode(folder.path)!r} is not UTF-8, as the names of classes "
            "must be; rename it (convmv -f latin1 -t utf8 --notest)"
        ) from None
    return class_name(name)


def _doubts(root: Path, classes: Mapping[str, list[tuple[str, int]]]) -> list[str]:
    """What is to be said of classes that hold folders of equal names, as splits do.

    Raises:
        ValueError: If they are called like splits too.
    """
    # All pictures of each lie in further folders.
    inner = [{path.split("/")[1] for path, _ in files if path.count("/") > 1} for files in classes.values()]
    nested = all(path.count("/") > 1 for files in classes.values() for path, _ in files)
    if not classes or not nested:
        return []
    if all(map(resembles_split, classes)):
        raise ValueError(
            f"{root}: the folders {listed(list(classes))} hold folders and look like splits; expected the names "
            f"{', '.join(SPLITS)}: rename them, or open one of them by its own path"
        )
    shared = sorted(set.intersection(*inner))
    if len(shared) < 2:
        return []
    return [
        f"each of the classes {listed(list(classes))} holds the folders {listed(shared)}: if these are the classes, "
        f"rename the folders above them to {', '.join(SPLITS)}, or open one of them by its own path"
    ]


def _store(index: _Index, root: Path) -> bytes:
    about = {"version": _VERSION, "root": str(root), "classes": index.classes, "splits": index.splits}
    about |= {"remarks": index.remarks}
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
                {split: tuple(remarks) for split, remarks in about["remarks"].items()},
            )
        for number, stamp in enumerate(index.stamps.tolist()):
            status = os.stat(os.path.join(root, index.folders[number]))
            if stamp != [status.st_mtime_ns, status.st_ino]:
                return None
    # A file cut short or overwritten fails in the ways of zip, JSON and NumPy alike; the folder itself is the truth.
    except Exception:
        return None
    return index
