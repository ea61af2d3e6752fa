"""Pictures and what annotates each of them, in two folders or side by side: found, and paired by name."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from cnnjax.data.pictures.decode import SUFFIXES
from cnnjax.data.sources.class_names import listed
from cnnjax.data.sources.folder_listing import Folder, Listing, list_below, list_folder
from cnnjax.data.sources.split_names import SPLITS, names_by_split, split_name

# The paths and sizes in bytes of files, by their names without the suffix, relative to the folder they were found in.
Files: TypeAlias = Mapping[str, Sequence[tuple[str, int]]]
# The path of a picture, its size in bytes, and the path of what annotates it, each below the root.
Pair: TypeAlias = tuple[str, int, str]


def whole(root: Path) -> Folder:
    """The root itself, as what is listed."""
    return Folder("", str(root), frozenset([str(root)]))


def split_folders(root: Path, listing: Listing) -> dict[str, Folder]:
    """The folders that are called like splits, by split.

    Raises:
        ValueError: If two stand for one split.
    """
    named = {os.path.basename(folder.path): folder for folder in listing.folders}
    written = names_by_split([name for name in named if split_name(name) in SPLITS], str(root))
    return {split: named[written[split]] for split in SPLITS if split in written}


def named_folder(root: Path, listing: Listing, names: Sequence[str]) -> Folder | None:
    """The folder of a listing that has one of these names, in any case; None where there is none.

    Raises:
        ValueError: If several have.
    """
    lower = [name.lower() for name in names]
    found = [folder for folder in listing.folders if os.path.basename(folder.path).lower() in lower]
    if len(found) > 1:
        raise ValueError(
            f"{root} has the folders {listed([folder.path for folder in found])}; expected one of them: move the "
            "others away, or make a folder with links to what is to be read"
        )
    return found[0] if found else None


def files_below(root: Path, folder: Folder, suffixes: tuple[str, ...], *, follow_links: bool = False) -> Files:
    """The files with these suffixes, in any case, below a folder, however deep.

    Raises:
        ValueError: As `list_folder`.
    """
    (listing,) = list_below(root, [folder], follow_links=follow_links, suffixes=suffixes)
    return by_name(listing.files, folder)


def files_beside(
    root: Path, folder: Folder, suffixes: tuple[str, ...], *, follow_links: bool = False
) -> tuple[Files, Files]:
    """The pictures directly in a folder, and the files with these suffixes.

    Raises:
        ValueError: As `list_folder`.
    """
    files = list_folder(root, folder, follow_links=follow_links, suffixes=SUFFIXES + suffixes).files
    others = [file for file in files if file[0].lower().endswith(suffixes)]
    return by_name([file for file in files if file not in others], folder), by_name(others, folder)


def by_name(files: Sequence[tuple[str, int]], folder: Folder) -> Files:
    """Files by their names without the suffix, relative to a folder, sorted."""
    found: dict[str, list[tuple[str, int]]] = {}
    for path, size in sorted(files):
        name = path[len(folder.path) + 1 if folder.path else 0 :]
        found.setdefault(os.path.splitext(name)[0], []).append((path, size))
    return found


def pair_by_name(
    root: Path, pictures: Files, others: Files, what: str, *, names: Sequence[str] | None = None, where: str = ""
) -> list[Pair]:
    """Every picture with the one file of its name.

    Args:
        root: The folder of all, for messages.
        pictures: All pictures.
        others: All files that annotate one.
        what: What these are, such as "annotation".
        names: Those that are wanted, with or without a suffix; all where None, and then none may be alone.
        where: The list that names them, for messages.

    Raises:
        ValueError: If a picture or an annotation is alone, is there twice, or is named twice.
    """
    wanted = list(pictures) if names is None else [_known(name, pictures, others) for name in names]
    if len(set(wanted)) < len(wanted):
        twice = next(name for name in wanted if wanted.count(name) > 1)
        raise ValueError(f"{where} lists {twice!r} twice; expected every picture once: remove a line")
    said = f", which {where} lists" if where else ""
    pairs = []
    for name in wanted:
        for kind, files in (("picture", pictures), (what, others)):
            if len(files.get(name, ())) > 1:
                paths = listed([path for path, _ in files[name]])
                raise ValueError(
                    f"{root} has several {kind} files of one name, {paths}; expected one: rename the others"
                )
        if name not in pictures:
            there = f" of {root / others[name][0][0]}" if name in others else ""
            raise ValueError(
                f"{root} has no picture called {name!r}{said}{there}; expected one with a suffix of "
                f"{', '.join(SUFFIXES)}: put it there, or take its name off the list"
            )
        ((picture, size),) = pictures[name]
        if name not in others:
            raise ValueError(
                f"{root / picture} has no {what}{said}; expected a file called {os.path.basename(name)!r} but for the "
                f"suffix: add it, without objects where the picture shows none, or take the picture away"
            )
        pairs.append((picture, size, others[name][0][0]))
    alone = [name for name in others if name not in pictures] if names is None else []
    if alone:
        raise ValueError(
            f"{root / others[alone[0]][0][0]} is the {what} of no picture; expected one called "
            f"{os.path.basename(alone[0])!r} but for the suffix ({len(alone)} without a picture in all): add it, or "
            f"take the {what} away"
        )
    return pairs


def _known(name: str, pictures: Files, others: Files) -> str:
    """The name without the suffix that it may have in a list."""
    stem = os.path.splitext(name)[0]
    return stem if name not in pictures and name not in others and stem in pictures else name
