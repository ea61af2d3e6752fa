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


def write_xml(file: Path, sides: tuple[int, int] | None, *objects: tuple, flags: str = "") -> None:
    """An annotation of Pascal VOC: height and width, and of each object its class and its four corners."""
    file.parent.mkdir(parents=True, exist_ok=True)
    size = "" if sides is None else f"<size><width>{sides[1]}</width><height>{sides[0]}</height></size>"
    corners = ("xmin", "ymin", "xmax", "ymax")
    told = [
        f"<object><name>{name}</name>{flags}<bndbox>"
        + "".join(f"<{corner}>{number}</{corner}>" for corner, number in zip(corners, box, strict=True))
        + "</bndbox></object>"
        for name, *box in objects
    ]
    file.write_text(f"<annotation>{size}{''.join(told)}</annotation>")


def write_picture(file: Path, height: int, width: int, value: int = 100) -> None:
    """A grey picture of this height and width."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height), value).save(file)


def write_labels(file: Path, labels, *, palette: bool = False) -> None:
    """A label map as PNG: of 16 bits where 8 do not hold it, or of a palette."""
    file.parent.mkdir(parents=True, exist_ok=True)
    labels = np.asarray(labels)
    image = Image.fromarray(labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16))
    if palette:
        image.putpalette([value for index in range(256) for value in (255 - index, index, index // 2)])
    image.save(file)
