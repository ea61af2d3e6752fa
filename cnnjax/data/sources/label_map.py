"""Label maps: pictures whose pixels are whole numbers, not colours. What they say of classes and of objects."""

import io

import numpy as np
from jaxtyping import Int, Int32
from PIL import Image

from cnnjax.data.pictures.decode import MAX_PIXELS

# Formats that keep every pixel as it was, by the suffixes of their files.
_FORMATS = ("PNG", "TIFF", "BMP", "GIF")
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif")
# Larger labels are looked up by sorting, smaller ones in a table.
_LARGEST_IN_TABLE = 2**20


def decode_labels(data: bytes) -> Int32[np.ndarray, "height width"]:
    """The labels in the bytes of a PNG, TIFF, BMP or GIF: grey of up to 32 bits as it is, a palette as indices.

    One-bit pictures give 0 and 1. Colour is refused, unless red, green and blue are equal and nothing is transparent.

    Raises:
        ValueError: If the bytes are no such picture, are damaged, or hold colours or a negative number.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"it has {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
            packing = str(image.tile[0].args) if image.format == "PNG" and image.tile else ""
            mode, values = image.mode, np.asarray(image)
    # Pillow's decoders raise whatever the damaged byte led them to.
    except Exception as error:
        raise ValueError(f"{len(data):,} bytes are no label map ({error}); expected {', '.join(_FORMATS)}") from error
    if mode in ("RGB", "RGBA") and (values[..., :1] == values[..., :3]).all() and (values[..., 3:] == 255).all():
        values = values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "biu":
        raise ValueError(
            f"it is a picture of Pillow's mode {mode!r}; expected one whole number for each pixel: grey of 8 or 16"
            " bits, or a palette, whose indices are the labels"
        )
    # Pillow spreads grey of 2 and 4 bits over 0 to 255.
    labels = values.astype(np.int64) // {"L;2": 85, "L;4": 17}.get(packing, 1)
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= 2**31:
        raise ValueError(f"its labels run from {labels.min()} to {labels.max()}; expected 0 to {2**31 - 1:,}")
    return labels.astype(np.int32)


def renumber(labels: Int[np.ndarray, "height width"]) -> Int32[np.ndarray, "height width"]:
    """The same objects numbered 1 to n without gaps, in the order of their labels; 0 stays.

    >>> renumber(np.array([[7, 0], [3, 7]])).tolist()
    [[2, 0], [1, 2]]
    """
    largest = int(labels.max(initial=0))
    if largest >= _LARGEST_IN_TABLE:
        _, places = np.unique(np.concatenate([[0], labels.ravel()]), return_inverse=True)
        return places[1:].reshape(labels.shape).astype(np.int32)
    there = np.bincount(labels.ravel(), minlength=largest + 1) > 0
    there[0] = False
    return np.where(there, np.cumsum(there), 0).astype(np.int32)[labels]


def objects_in(labels: Int32[np.ndarray, "height width"]) -> dict[str, np.ndarray]:
    """Box, class (1) and area in pixels of each object of a map that is numbered 1 to n.

    >>> objects_in(np.array([[0, 1, 1], [2, 0, 0]], np.int32))["boxes"].tolist()
    [[1.0, 0.0, 3.0, 1.0], [0.0, 1.0, 1.0, 2.0]]
    """
    from scipy import ndimage

    found = ndimage.find_objects(labels)
    boxes = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in found]
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "classes": np.ones(len(found), np.int32),
        "area": np.bincount(labels.ravel(), minlength=len(found) + 1)[1:].astype(np.float32),
    }
