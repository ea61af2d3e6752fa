"""Folders of IDX files, plain or gzipped, as of MNIST and EMNIST: each split is read from two of them."""

import gzip
import math
import re
import string
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.data.sources.source import ArraySource, Info, local_path

# "t10k-images-idx3-ubyte.gz", "train-labels.idx1-ubyte", "emnist-letters-test-images-idx3-ubyte.gz".
_NAME = re.compile(r"(?:(.*)-)?(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(?:\.gz)?", re.IGNORECASE)
_SPLIT_OF = {"train": "train", "t10k": "test", "test": "test"}
_KINDS, _AXES = ("images", "labels"), ("idx3", "idx1")

_DIGITS, _CAPITALS = tuple(string.digits), tuple(string.ascii_uppercase)
# The sets of EMNIST whose classes are not the ten digits, by the end of their names.
_CLASSES = {
    "letters": _CAPITALS,
    "balanced": (*_DIGITS, *_CAPITALS, *"abdefghnqrt"),
    "bymerge": (*_DIGITS, *_CAPITALS, *"abdefghnqrt"),
    "byclass": (*_DIGITS, *_CAPITALS, *string.ascii_lowercase),
}
# Bytes that are unpacked at a time to count them.
_BLOCK = 2**20


def idx_parts(spelling: str, argument: str, data_dir: Path | None) -> dict[str, Callable[[], ArraySource]]:
    """How to read each split whose two files lie in the folder `argument`, which starts from `data_dir` if relative.

    Of several sets in one folder, as EMNIST comes, the one whose name is the last part of the path is read, as in
    "idx:gzip/emnist-letters". EMNIST's pictures, which are stored with rows and columns exchanged, are turned upright,
    and its labels of letters, which count from 1, count from 0.

    Raises:
        FileNotFoundError: If there is no such folder, it holds no split, or one of a split's files is missing.
        ValueError: If the folder holds several sets.

    Reference: LeCun, Cortes and Burges, "The MNIST database of handwritten digits"; Cohen, Afshar, Tapson and van
    Schaik, "EMNIST: an extension of MNIST to handwritten letters" (2017), section II.
    """
    folder, wanted = _place(spelling, argument, data_dir)
    files: dict[tuple[str, str, str], Path] = {}
    # A gzipped file comes before a plain one of the same name.
    for path in sorted(folder.iterdir(), key=lambda path: (path.suffix != ".gz", path.name)):
        if (match := _NAME.fullmatch(path.name)) and path.is_file():
            name, split, kind = match.groups()
            files.setdefault((name or "", _SPLIT_OF[split.lower()], kind.lower()), path)
    names = sorted({name for name, _, _ in files if wanted in (None, name)})
    if len(names) > 1:
        raise ValueError(
            f"{folder} holds the files of {', '.join(name or 'MNIST' for name in names)}; expected one set: open "
            f"idx:{argument}/{names[-1]}"
        )
    if not names:
        raise FileNotFoundError(
            f"{folder} holds none of MNIST's files; expected train-images-idx3-ubyte.gz and "
            "train-labels-idx1-ubyte.gz, or t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz"
        )
    parts = {}
    for split in ("train", "test"):
        images, labels = (files.get((names[0], split, kind)) for kind in _KINDS)
        if images and labels:
            parts[split] = partial(_open_idx, images, labels, names[0].lower(), spelling, split)
        elif one := images or labels:
            other = one.name.replace(*(_KINDS if images else _KINDS[::-1])).replace(*(_AXES if images else _AXES[::-1]))
            raise FileNotFoundError(f"{folder} has {one.name} but lacks {other}")
    return parts


def _place(spelling: str, argument: str, data_dir: Path | None) -> tuple[Path, str | None]:
    """The folder, and the name of the set in it where one is asked for."""
    path = (data_dir or Path()) / Path(argument).expanduser()
    if argument and not path.is_dir() and any(_NAME.fullmatch(one.name) for one in path.parent.glob("*-*")):
        return path.parent, path.name
    return local_path(spelling, argument, data_dir, kind="folder"), None


def _open_idx(images_file: Path, labels_file: Path, name: str, spelling: str, split: str) -> ArraySource:
    sizes = [_shape(images_file, axes=3), _shape(labels_file, axes=1)]
    if sizes[0][0] != sizes[1][0]:
        raise ValueError(
            f"{images_file} holds {sizes[0][0]} images but {labels_file} {sizes[1][0]} labels; expected as many"
        )
    labels, images = _read_idx(labels_file, sizes[1]), _read_idx(images_file, sizes[0])
    info = Info(spelling, split, {}, _CLASSES.get(name.rpartition("-")[2], _DIGITS))
    if name == "emnist" or name.startswith("emnist-"):
        images = np.ascontiguousarray(images.transpose(0, 2, 1))
        info = replace(info, remarks=("EMNIST's pictures are turned upright",))
        labels = labels.astype(np.int32) - (name.endswith("-letters"))
    return ArraySource({"image": images[..., None], "label": labels}, info)


def _shape(path: Path, *, axes: int) -> tuple[int, ...]:
    """The sizes in the header, which must be those of what follows; that is counted, and not kept.

    A gzipped file tells no size that could be relied on, and may hold a thousand times as much as it is long.
    """
    length = 4 + 4 * axes
    try:
        with _opened(path) as file:
            header = file.read(length)
            if len(header) < length or struct.unpack(">I", header[:4])[0] != 0x800 + axes:
                raise ValueError(
                    f"{path} begins with {header[:4].hex()}; expected the IDX magic {0x800 + axes:08x} and {axes} sizes"
                )
            shape = struct.unpack(f">{axes}I", header[4:])
            found, expected = 0, math.prod(shape)
            while found <= expected and (block := file.read(_BLOCK)):
                found += len(block)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not an undamaged gzip file ({error}); download it again") from error
    if found != expected:
        raise ValueError(
            f"{path} has {'at least ' if found > expected else ''}{found} bytes after its header; expected {expected} "
            f"for the shape {shape}, so it is truncated or damaged; download it again"
        )
    return shape


def _read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    with _opened(path) as file:
        file.read(4 + 4 * len(shape))
        return np.frombuffer(file.read(math.prod(shape)), np.uint8).reshape(shape)


def _opened(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb")
