"""Pictures in files of their own: each is read, still encoded, when it is asked for."""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.data.sources.fingerprint import fingerprint
from cnnjax.data.sources.source import Info, describe_source

# A larger file is no picture that could be decoded: so many bytes of uncompressed pixels would be too many pixels.
_MOST_BYTES = 2**29


@dataclass(frozen=True, eq=False, repr=False)
class Paths:
    """Many relative paths in two arrays, so that a million of them cost little more than their letters.

    `text` is their bytes, one after another; path i ends before `ends[i]`.
    """

    text: np.ndarray
    ends: np.ndarray

    @classmethod
    def pack(cls, paths: Iterable[str]) -> "Paths":
        """The same paths, packed."""
        encoded = [os.fsencode(path) for path in paths]
        return cls(np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([len(e) for e in encoded], dtype=np.int64))

    def __repr__(self) -> str:
        return f"{len(self):,} paths"

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(self.text[self.ends[index - 1] if index else 0 : self.ends[index]].tobytes())

    def part(self, start: int, stop: int) -> "Paths":
        """Those from `start` to before `stop`."""
        before = int(self.ends[start - 1]) if start else 0
        ends = self.ends[start:stop]
        return Paths(self.text[before : int(ends[-1]) if len(ends) else before], ends - before)


@dataclass(frozen=True, eq=False, repr=False)
class FileSource:
    """Pictures by file: an "image" is the bytes of a file under `root`, to be decoded as RGB.

    `elements` are what else an example has, one entry per picture: "label", int32, or "tags", float32. `rows` are the
    rows of a table that tell of the pictures, where there is one called `table`.
    """

    root: Path
    paths: Paths
    elements: Mapping[str, np.ndarray]
    info: Info
    table: str = ""
    rows: np.ndarray | None = None

    def __repr__(self) -> str:
        return describe_source(self)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {self.info.name}, which has {len(self)} examples")
        place = index % len(self)
        with open(os.path.join(self.root, self.paths[place]), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MOST_BYTES:
                raise ValueError(f"it has {size:,} bytes; expected a picture of at most {_MOST_BYTES:,}")
            data = file.read(size)
        return {"image": data, **{name: np.asarray(values[place]) for name, values in self.elements.items()}}

    def column(self, name: str) -> np.ndarray | None:
        """All values of an element in order; None for pictures, and where there is none of this name."""
        return self.elements.get(name)

    def where(self, index: int) -> str:
        """The file of a picture, and its row in the table if there is one."""
        # A file's name need not be UTF-8, as what is printed must be.
        path = os.fsencode(os.path.join(self.root, self.paths[index])).decode("utf-8", "backslashreplace")
        return path if self.rows is None else f"{path} ({self.table}, row {self.rows[index]})"


def describe(
    name: str,
    split: str,
    classes: tuple[str, ...],
    paths: Paths,
    sizes: np.ndarray,
    elements: Mapping[str, np.ndarray],
    remarks: tuple[str, ...] = (),
) -> Info:
    """What a `FileSource` holds; its fingerprint is made of relative paths, sizes in bytes, elements and classes.

    Times of change are left out, so that a copy elsewhere is the same data.
    """
    parts = [part for element in sorted(elements) for part in (element, elements[element])]
    mark = fingerprint(paths.text, paths.ends, np.asarray(sizes, np.int64), *parts, *classes)
    shapes = {"image": (None, None, 3), **{element: values.shape[1:] for element, values in elements.items()}}
    return Info(name, split, shapes, classes, mark, remarks)


def find_pictures(
    folder: Path, names: Sequence[str], table: Path, places: Sequence[str], *, follow_links: bool = False
) -> tuple[list[str], np.ndarray]:
    """The normalised paths of pictures that a table names, and their sizes in bytes.

    Args:
        folder: What the names start from.
        names: As they are written in the table.
        table: The file that names them, for messages.
        places: Where in the table each name stands, such as "row 3".
        follow_links: Whether symbolic links may lead out of the folder.

    Raises:
        FileNotFoundError: If a picture is missing.
        ValueError: If a name occurs twice, does not lie inside the folder, leads out of it by a link, or is no file.
    """
    root = os.path.realpath(folder)
    inside = os.path.join(root, "")
    seen: dict[str, str] = {}
    parents: dict[str, str] = {}
    sizes = []
    for name, entry in zip(names, places, strict=True):
        at = f"{table}, {entry}: the picture {name!r}"
        path = os.path.normpath(name) if name else ""
        if not path or os.path.isabs(name) or ".." in Path(name).parts:
            raise ValueError(f"{at} is not inside the folder {root}; expected a path relative to it without ..")
        if path in seen:
            raise ValueError(f"{at} is already in {seen[path]}; expected every picture once: remove one of the two")
        seen[path] = entry
        above = os.path.dirname(path)
        if above not in parents:
            parents[above] = os.path.realpath(os.path.join(root, above))
        full = os.path.join(parents[above], os.path.basename(path))
        try:
            status = os.lstat(full)
            if stat.S_ISLNK(status.st_mode):
                full = os.path.realpath(full, strict=True)
                status = os.stat(full)
        except OSError as error:
            raise FileNotFoundError(
                f"{at} is missing ({error.strerror}); expected it at {os.path.join(root, path)}: put it there, or "
                f"remove {entry} (--loading.unreadable is for pictures that are there)"
            ) from error
        if not (follow_links or full.startswith(inside)):
            raise ValueError(
                f"{at} is reached by a link that leads outside {root}, to {full}; copy the picture there, or allow "
                "such links by follow_links (--loading.follow-links)"
            )
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{at} is no file; expected a picture")
        sizes.append(status.st_size)
    return list(seen), np.array(sizes, np.int64)
