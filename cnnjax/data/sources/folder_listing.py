"""What lies in folders of pictures: listed once, several folders at a time, no link followed out of the root."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cnnjax.data.batches.progress import progress
from cnnjax.data.pictures.decode import SUFFIXES
from cnnjax.data.sources.class_names import listed

# What systems, network storage and archives lay beside files, in lower case.
_SERVICE = {
    "@eadir",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "__macosx",
    "desktop.ini",
    "lost+found",
    "system volume information",
    "thumbs.db",
}
# How entries that are passed over are counted, besides the suffixes of files.
HIDDEN, OTHER_LINK, NO_SUFFIX = "hidden or of the system", "links that are not followed", "without a suffix"


@dataclass(frozen=True)
class Folder:
    """A folder by its path below the root; `real` is where it is, and `chain` where it and all above it are."""

    path: str
    real: str
    chain: frozenset[str]


@dataclass(frozen=True)
class Listing:
    """What was found.

    Attributes:
        files: Paths and sizes of pictures.
        folders: The folders directly within.
        stamps: The path, time of change and inode of each folder that was listed.
        skipped: How many entries were passed over, by suffix or what else they are.
    """

    files: list[tuple[str, int]]
    folders: list[Folder]
    stamps: list[tuple[str, int, int]]
    skipped: Counter[str]


def list_below(
    root: Path, folders: Sequence[Folder], *, follow_links: bool = False, suffixes: tuple[str, ...] = SUFFIXES
) -> list[Listing]:
    """All pictures below each folder, however deep, by path; what takes long is shown on stderr.

    With other `suffixes`, files of other kinds are listed.

    Raises:
        ValueError: As `list_folder`.
    """
    # What a network file system needs is several questions at a time.
    with ThreadPoolExecutor(8) as pool, progress(f"indexing folders of {root.name}", len(folders)) as advance:
        listings = []
        for listing in pool.map(partial(_walk, root, follow_links=follow_links, suffixes=suffixes), folders):
            listings.append(listing)
            advance(1)
    return listings


def _walk(root: Path, folder: Folder, *, follow_links: bool, suffixes: tuple[str, ...]) -> Listing:
    files, stamps, skipped, waiting = [], [], Counter(), [folder]
    while waiting:
        listing = list_folder(root, waiting.pop(), follow_links=follow_links, suffixes=suffixes)
        files += listing.files
        stamps += listing.stamps
        skipped += listing.skipped
        waiting += listing.folders
    return Listing(sorted(files), [], stamps, skipped)


def list_folder(
    root: Path, folder: Folder, *, follow_links: bool = False, suffixes: tuple[str, ...] = SUFFIXES
) -> Listing:
    """The pictures and the folders directly in a folder, the latter by name; what is passed over is counted.

    With other `suffixes`, files of other kinds are listed.

    Raises:
        ValueError: If a symbolic link leads round in a circle, from a picture's name to nothing, or, unless
            `follow_links`, outside the root.
    """
    files, folders, skipped = [], [], Counter[str]()
    at = os.path.join(root, folder.path)
    # Before listing, so that a change while it lasts makes the index stale.
    status = os.stat(at)
    with os.scandir(at) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in _SERVICE:
                skipped[HIDDEN] += 1
                continue
            path = f"{folder.path}/{entry.name}" if folder.path else entry.name
            picture = entry.name.lower().endswith(suffixes)
            link = entry.is_symlink()
            real = _follow(root, path, picture, follow_links) if link else f"{folder.real}/{entry.name}"
            if real is None:
                skipped[OTHER_LINK] += 1
            elif entry.is_dir():
                if real in folder.chain:
                    raise ValueError(
                        f"the link {os.path.join(root, path)} leads back to a folder it lies in; remove it"
                    )
                folders.append(Folder(path, real, folder.chain | {real}))
            elif picture and entry.is_file():
                files.append((path, entry.stat().st_size))
            else:
                skipped[os.path.splitext(entry.name)[1].lower() or NO_SUFFIX] += 1
    folders.sort(key=lambda found: found.path)
    return Listing(files, folders, [(folder.path, status.st_mtime_ns, status.st_ino)], skipped)


def tell_skipped(skipped: Mapping[str, int]) -> str:
    """How many entries were passed over, in words; empty where none were.

    >>> tell_skipped({".txt": 1, ".heic": 12})
    'passed over: 12 .heic, 1 .txt'
    """
    counts = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    return f"passed over: {listed([f'{count:,} {what}' for what, count in counts])}" if counts else ""


def _follow(root: Path, path: str, picture: bool, follow_links: bool) -> str | None:
    """Where a symbolic link leads; None where it leads to nothing that matters.

    Raises:
        ValueError: If that is outside the root and must not be, or nothing is there though it is called a picture.
    """
    link = os.path.join(root, path)
    try:
        real = os.path.realpath(link, strict=True)
    except OSError as error:
        if picture:
            raise ValueError(f"the link {link} leads nowhere ({error.strerror}); remove it") from error
        return None
    if not follow_links and not real.startswith(os.path.join(root, "")) and real != str(root):
        if not picture and not os.path.isdir(real):
            return None
        raise ValueError(
            f"the link {link} leads outside {root}, to {real}; copy what it leads to, remove it, or allow such links "
            "by follow_links (--loading.follow-links)"
        )
    return real
