"""Files and bytes written by hand, for the tests of the data room."""

import gzip
import io
import os
import struct
import time
from pathlib import Path

import numpy as np
from PIL import Image


class NoColumns:
    """What a source says that knows its elements by its examples only."""

    def column(self, name: str) -> None:
        return None


# A folder of published data sets, for the tests that read them as they are.
PUBLISHED = Path(os.environ.get("CNNJAX_TEST_DATA", os.devnull))


def encode(picture: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def pack_idx(array: np.ndarray) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, stem: str, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(pack_idx(images)))
    (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(pack_idx(labels)))


def images_of(source) -> list[int]:
    """The value that fills each image."""
    return [int(source[i]["image"].flat[0]) for i in range(len(source))]


def write_pictures(folder: Path, **values: int) -> None:
    """A 3x2 picture called NAME.png per value, filled with it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        Image.new("RGB", (3, 2), (value,) * 3).save(folder / f"{name}.png")


def age(root: Path) -> None:
    """Sets the time of change of a folder and all below back by a minute, as if nothing had happened since."""
    then = time.time() - 60
    for at, _, _ in os.walk(root):
        os.utime(at, (then, then))
