"""Folders of pictures and masks: which layout it is, and which masks belong to which picture."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from cnnjax.data.pictures.decode import SUFFIXES
from cnnjax.data.sources.class_names import listed
from cnnjax.data.sources.folder_listing import Folder, Listing, list_folder
from cnnjax.data.sources.label_map import LABEL_SUFFIXES
from cnnjax.data.sources.pairing import files_below, named_folder, pair_by_name, split_folders, whole
from cnnjax.data.sources.split_names import SPLITS

_PICTURES, _SEMANTIC, _INSTANCES = ("images",), ("masks", "labels"), ("instances",)
_EXPECTED = (
    "the folders images and masks (or labels) for labels of classes, images and instances for labels of objects, or a "
    f"folder for each picture with images and masks, one file for each object; below folders of splits "
    f"({', '.join(SPLITS)}) if you like"
)

Kind = Literal["semantic", "instances", "files"]


class Masked(NamedTuple):
    """A picture by its path and size in bytes, and its mask, or the masks of its objects, below the root."""

    picture: str
    size: int
    masks: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The pictures of each split, and what their masks are: maps of classes, maps of objects, or a file per object."""

    kind: Kind
    splits: dict[str, list[Masked]]


def find_layout(root: Path, *, follow_links: bool = False) -> Layout:
    """Looks at a folder and those below.

    Raises:
        ValueError: If there are no pictures with masks, a picture has no mask or the reverse, or splits differ in what
            their masks are.
    """
    top = list_folder(root, whole(root), follow_links=follow_links)
    splits = split_folders(root, top)
    if splits and named_folder(root, top, _PICTURES) is None:
        found = {}
        for split, folder in splits.items():
            found[split] = _read(root, folder, list_folder(root, folder, follow_links=follow_links), follow_links)
    else:
        found = _with_splits_within(root, top, follow_links) or {"all": _read(root, whole(root), top, follow_links)}
    kinds = {split: kind for split, (kind, _) in found.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(f"{root}: the masks of the splits are of several kinds, {kinds}; expected one")
    return Layout(next(iter(kinds.values())), {split: pairs for split, (_, pairs) in found.items()})


def _with_splits_within(root: Path, top: Listing, follow_links: bool) -> dict[str, tuple[Kind, list[Masked]]]:
    """As images/train/1.jpg and masks/train/1.png; empty where it is not so."""
    pictures, masks = (named_folder(root, top, names) for names in (_PICTURES, (*_SEMANTIC, *_INSTANCES)))
    if pictures is None or masks is None:
        return {}
    within, beside = (list_folder(root, folder, follow_links=follow_links) for folder in (pictures, masks))
    ours, theirs = split_folders(root, within), split_folders(root, beside)
    if within.files or not ours:
        return {}
    if ours.keys() != theirs.keys():
        raise ValueError(
            f"{root}: {pictures.path} has the splits {', '.join(ours)} and {masks.path} {', '.join(theirs) or 'none'};"
            " expected the same"
        )
    return {split: _paired(root, ours[split], theirs[split], _kind(masks), follow_links) for split in ours}


def _read(root: Path, folder: Folder, listing: Listing, follow_links: bool) -> tuple[Kind, list[Masked]]:
    pictures, masks = (named_folder(root, listing, names) for names in (_PICTURES, (*_SEMANTIC, *_INSTANCES)))
    if pictures is not None and masks is not None:
        return _paired(root, pictures, masks, _kind(masks), follow_links)
    at = root / folder.path
    if pictures is not None or not listing.folders:
        raise ValueError(f"{at} has no pictures with masks; expected {_EXPECTED}")
    return "files", [_of_folder(root, one, follow_links) for one in listing.folders]


def _kind(masks: Folder) -> Kind:
    return "instances" if os.path.basename(masks.path).lower() in _INSTANCES else "semantic"


def _paired(root: Path, pictures: Folder, masks: Folder, kind: Kind, follow_links: bool) -> tuple[Kind, list[Masked]]:
    ours = files_below(root, pictures, SUFFIXES, follow_links=follow_links)
    theirs = files_below(root, masks, LABEL_SUFFIXES, follow_links=follow_links)
    if ours and not theirs:
        raise ValueError(
            f"{root / masks.path} has no label maps; expected files with a suffix of {', '.join(LABEL_SUFFIXES)}, "
            "called like their pictures (JPEG does not keep labels)"
        )
    pairs = pair_by_name(root, ours, theirs, "mask")
    if not pairs:
        raise ValueError(
            f"{root / pictures.path} has no pictures; expected files with a suffix of {', '.join(SUFFIXES)}"
        )
    return kind, [Masked(picture, size, (mask,)) for picture, size, mask in pairs]


def _of_folder(root: Path, folder: Folder, follow_links: bool) -> Masked:
    """A folder of one picture, with a file for each of its objects."""
    listing = list_folder(root, folder, follow_links=follow_links)
    pictures, masks = (named_folder(root, listing, names) for names in (_PICTURES, ("masks",)))
    if pictures is None or masks is None:
        raise ValueError(f"{root / folder.path} has no folders images and masks; expected {_EXPECTED}")
    found = _files(files_below(root, pictures, SUFFIXES, follow_links=follow_links).values())
    if len(found) != 1:
        told = f"the pictures {listed([path for path, _ in found])}" if found else "no picture"
        raise ValueError(
            f"{root / pictures.path} has {told}; expected one, because {masks.path} holds a file for each object in it"
        )
    ((picture, size),) = found
    files = _files(files_below(root, masks, LABEL_SUFFIXES, follow_links=follow_links).values())
    return Masked(picture, size, tuple(path for path, _ in files))


def _files(found: Iterable[Sequence[tuple[str, int]]]) -> list[tuple[str, int]]:
    return [file for files in found for file in files]
