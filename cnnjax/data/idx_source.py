"""Folders of MNIST's IDX files, plain or gzipped: each split is an `ArraySource` read from two of them."""

import gzip
import math
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from cnnjax.data.sources import ArraySource, Info, local_path

# What MNIST calls its splits.
_STEMS = {"train": "train", "test": "t10k"}


def idx_parts(spelling: str, argument: str, data_dir: Path | None) -> dict[str, Callable[[], ArraySource]]:
    """How to read each split whose two files lie in the folder `argument`, which starts from `data_dir` if relative.

    Raises:
        FileNotFoundError: If there is no such folder, it holds no split, or one of a split's files is missing.
    """
    folder = local_path(spelling, argument, data_dir, kind="folder")
    parts = {}
    for split, stem in _STEMS.items():
        names = (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
        found = [p for n in names if (p := _either(folder / f"{n}.gz", folder / n)).is_file()]
        if len(found) == 2:
            parts[split] = partial(_open_idx, found[0], found[1], Info(spelling, split, {}, tuple("0123456789")))
        elif found:
            lacking = names[found[0].name.startswith(names[0])]
            raise FileNotFoundError(f"{folder} has {found[0].name} but lacks {lacking}.gz")
    if not parts:
        raise FileNotFoundError(
            f"{folder} holds none of MNIST's files; expected train-images-idx3-ubyte.gz and "
            "train-labels-idx1-ubyte.gz, or t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz"
        )
    return parts


def _either(first: Path, second: Path) -> Path:
    return first if first.is_file() else second


def _open_idx(images_file: Path, labels_file: Path, info: Info) -> ArraySource:
    images, labels = _read_idx(images_file, axes=3), _read_idx(labels_file, axes=1)
    if len(images) != len(labels):
        raise ValueError(
            f"{images_file} holds {len(images)} images but {labels_file} {len(labels)} labels; expected as many"
        )
    return ArraySource({"image": images[..., None], "label": labels}, info)


def _read_idx(path: Path, *, axes: int) -> np.ndarray:
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is not an undamaged gzip file ({error}); download it again") from error
    header = 4 + 4 * axes
    if len(data) < header or struct.unpack(">I", data[:4])[0] != 0x800 + axes:
        raise ValueError(
            f"{path} begins with {data[:4].hex()}; expected the IDX magic {0x800 + axes:08x} and {axes} sizes"
        )
    shape = struct.unpack(f">{axes}I", data[4:header])
    if len(data) - header != math.prod(shape):
        raise ValueError(
            f"{path} has {len(data) - header} bytes after its header; expected {math.prod(shape)} for the shape "
            f"{shape}, so it is truncated or damaged; download it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
