"""COCO's run-length code of one mask: written, read, united, measured."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from cnnjax.functional.masks.runs import Code, code_of_changes, intervals, read_runs, regions


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """The run-length code of a mask of zeros and ones.

    Args:
        mask: (height, width), of booleans or of the whole numbers 0 and 1.

    Returns:
        COCO's dictionary: `size` as [height, width], `counts` as text.

    Raises:
        ValueError: the mask has another rank, or other values than 0 and 1.

    >>> mask = np.zeros((4, 5), bool)
    >>> mask[1:3, 2:4] = True
    >>> encode_rle(mask)
    {'size': [4, 5], 'counts': '92203'}
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"mask: shape {mask.shape} came, (height, width) was expected: one mask for each call")
    if mask.dtype != bool:
        if mask.dtype.kind not in "iu" or mask.max(initial=0) > 1 or mask.min(initial=0) < 0:
            raise ValueError(
                f"mask: other values than the whole numbers 0 and 1 came ({mask.dtype}); compare first, as in"
                " labels == 3 or probabilities >= 0.5"
            )
        mask = mask.astype(bool)
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    if pixels[:1].any():
        changes = np.concatenate([[0], changes])
    return code_of_changes(changes, *mask.shape)


def decode_rle(rle: Code) -> UInt8[np.ndarray, "height width"]:
    """The mask of a run-length code, of zeros and ones.

    Raises:
        ValueError: the code is no mask: see `cnnjax.functional.masks`.

    >>> decode_rle({"size": [2, 3], "counts": [1, 2, 3]}).tolist()
    [[0, 1, 0], [1, 0, 0]]
    """
    runs = read_runs([rle])
    height, width = runs.sizes[0]
    values = np.arange(len(runs.lengths), dtype=np.uint8) & 1
    return np.repeat(values, runs.lengths).reshape(width, height).T


def merge_rle(rles: Sequence[Code], intersect: bool = False) -> dict[str, Any]:
    """The code of the pixels that are in any of several masks, or of those that are in all of them.

    Args:
        rles: one code or more, of masks of one size.
        intersect: whether a pixel has to be in all.

    Raises:
        ValueError: there is no code, the sizes differ, or a code is no mask.

    >>> whole, half = {"size": [1, 4], "counts": [0, 4]}, {"size": [1, 4], "counts": [2, 2]}
    >>> rle_area(merge_rle([whole, half])), rle_area(merge_rle([whole, half], intersect=True))
    (4, 2)
    """
    if not rles:
        raise ValueError("rles: none came, one was expected at least; the size of a merged mask is that of its parts")
    runs = read_runs(rles, "rles")
    other = np.flatnonzero((runs.sizes != runs.sizes[0]).any(axis=1))
    if other.size:
        raise ValueError(
            f"rles {other[0]}: size {runs.sizes[other[0]].tolist()} came, {runs.sizes[0].tolist()} was expected, that"
            " of the first; masks of one picture have its size"
        )
    where = intervals(runs)
    pixels, inverse = np.unique(np.concatenate([where.starts, where.ends]), return_inverse=True)
    steps = np.zeros(len(pixels), np.int64)
    np.add.at(steps, inverse, np.repeat([1, -1], len(where.starts)))
    inside = np.cumsum(steps) >= (len(rles) if intersect else 1)
    height, width = runs.sizes[0].tolist()
    changes = pixels[np.diff(inside, prepend=False)]
    return code_of_changes(changes[changes < height * width], height, width)


def rle_area(rle: Code) -> int:
    """Pixels of a mask.

    Raises:
        ValueError: the code is no mask.
    """
    return int(regions(read_runs([rle])).areas[0])


def rle_box(rle: Code) -> Float[np.ndarray, "4"]:
    """The smallest box around a mask as COCO writes boxes, (x, y, width, height) in pixels; zeros for an empty mask.

    With (x, y, x + width, y + height) it is a box of this package.

    Raises:
        ValueError: the code is no mask.

    >>> rle_box({"size": [4, 5], "counts": "92203"}).tolist()
    [2.0, 1.0, 2.0, 2.0]
    """
    return regions(read_runs([rle])).boxes[0]
