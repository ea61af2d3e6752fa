"""What lies in folders of pictures: listed once, several folders at a time, no link followed out of the root."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cnnjax.data.file_source import SUFFIXES

# From here on a progress bar is shown: so many pictures, or so many seconds.
BAR_AFTER_FILES, BAR_AFTER_SECONDS = 10_000, 2.0


@dataclass(frozen=True)
class Folder:
    """A folder by its path below the root; `real` is where it is, and `chain` where it and all above it are."""

    path: str
    real: str
    chain: frozenset[str]


@dataclass(frozen=True)
class Listing:
    """What was found: paths and sizes of pictures, folders, and the path, time of change and inode of those listed."""

    files: list[tuple[str, int]]
    folders: list[Folder]
    stamps: list[tuple[str, int, int]]


def list_below(root: Path, folders: Sequence[Folder]) -> list[Listing]:
    """All pictures below each folder, however deep, by path; a progress bar on stderr while there are many.

    Raises:
        ValueError: As `list_folder`.
    """
    # What a network file system needs is several questions at a time.
    with ThreadPoolExecutor(8) as pool, _progress(root, len(folders)) as advance:
        listings = []
        for listing in pool.map(partial(_walk, root), folders):
            listings.append(listing)
            advance(len(listing.files))
    return listings


def _walk(root: Path, folder: Folder) -> Listing:
    files, stamps, waiting = [], [], [folder]
    while waiting:
        listing = list_folder(root, waiting.pop())
        files += listing.files
        stamps += listing.stamps
        waiting += listing.folders
    return Listing(sorted(files), [], stamps)


def list_folder(root: Path, folder: Folder) -> Listing:
    """The pictures and the folders directly in a folder, the latter by name; hidden ones are passed over.

    Raises:
        ValueError: If a symbolic link leads outside the root, round in a circle, or from a picture's name to nothing.
    """
    files, folders = [], []
    at = os.path.join(root, folder.path)
    # Before listing, so that a change while it lasts makes the index stale.
    status = os.stat(at)
    with os.scandir(at) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = f"{folder.path}/{entry.name}" if folder.path else entry.name
            picture = entry.name.lower().endswith(SUFFIXES)
            real = _follow(root, path, picture) if entry.is_symlink() else f"{folder.real}/{entry.name}"
            if real is None:
                continue
            if entry.is_dir():
                if real in folder.chain:
                    raise ValueError(
                        f"the link {os.path.join(root, path)} leads back to a folder it lies in; remove it"
                    )
                folders.append(Folder(path, real, folder.chain | {real}))
            elif picture and entry.is_file():
                files.append((path, entry.stat().st_size))
    folders.sort(key=lambda found: found.path)
    return Listing(files, folders, [(folder.path, status.st_mtime_ns, status.st_ino)])


def _follow(root: Path, path: str, picture: bool) -> str | None:
    """Where a symbolic link leads; None where it leads to nothing that matters.

    Raises:
        ValueError: If that is outside the root, or no picture is there though it is called one.
    """
    link = os.path.join(root, path)
    try:
        real = os.path.realpath(link, strict=True)
    except OSError as error:
        if picture:
            raise ValueError(f"the link {link} leads nowhere ({error.strerror}); remove it") from error
        return None
    if not real.startswith(os.path.join(root, "")) and real != str(root):
        if not picture and not os.path.isdir(real):
            return None
        raise ValueError(f"the link {link} leads outside {root}, to {real}; copy what it leads to, or remove it")
    return real


@contextmanager
def _progress(root: Path, total: int) -> Iterator[Callable[[int], None]]:
    """Counts folders that are listed; a bar appears on stderr once there are many pictures, or it has taken long."""
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    task = bar.add_task(f"indexing {root.name}", total=total)
    began, pictures, shown = time.monotonic(), 0, False

    def advance(count: int) -> None:
        nonlocal pictures, shown
        pictures += count
        bar.update(task, advance=1)
        if not shown and (pictures > BAR_AFTER_FILES or time.monotonic() - began > BAR_AFTER_SECONDS):
            bar.start()
            shown = True

    try:
        yield advance
    finally:
        if shown:
            bar.stop()
