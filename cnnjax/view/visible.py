"""Pictures of any type, scale and number of channels as grey or RGB from 0 to 1, by one rule for every figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# By how much values may lie beyond 0 and 1 for rounding.
_ROUNDING = 1e-3

# A component whose values span less than this share of the first one's is taken to be constant.
_CONSTANT = 1e-6


def visible(pictures: Sequence[Any] | np.ndarray) -> tuple[list[np.ndarray], str]:
    """The pictures (height, width, channels) of one figure, each with one channel or three, and a note for its caption.

    Bytes are divided by 255; floats from 0 to 1 stay; other floats are stretched, the smallest of all pictures to black
    and the largest to white. One channel is grey and three are RGB. Of another number of channels the first three
    principal components over all pixels are shown as red, green and blue, each from its smallest to its largest value.
    The note says what was done beyond the ordinary, and is empty where nothing was. Pixels that are not finite are NaN.

    Raises:
        ValueError: a picture has other axes or is empty, or pictures differ in their channels.
    """
    arrays = [np.asarray(picture) for picture in pictures]
    shapes = {array.shape for array in arrays}
    if any(len(shape) != 3 or 0 in shape for shape in shapes) or len({shape[-1] for shape in shapes}) > 1:
        raise ValueError(f"pictures of {sorted(shapes)}; expected (height, width, channels), of one number of channels")
    floats = [as_floats(array) for array in arrays]
    if floats and (channels := floats[0].shape[-1]) not in (1, 3):
        colours = ", ".join(("red", "green", "blue")[:channels])
        return _principal_components(floats), f"principal components of {channels} channels as {colours}"
    low, high = scale_of(floats)
    note = "" if (low, high) == (0, 1) else f"black is {low:.3g}, white {high:.3g}"
    return [((array - low) / (high - low)).clip(0, 1) for array in floats], note


def as_floats(array: np.ndarray) -> np.ndarray:
    """Bytes divided by 255, and all else as it is, in double precision; what is not finite as NaN."""
    values = array.astype(np.float64) / (255 if array.dtype == np.uint8 else 1)
    return np.where(np.isfinite(values), values, np.nan)


def scale_of(floats: Sequence[np.ndarray]) -> tuple[float, float]:
    """The values that are black and white: 0 and 1 where all values lie between, else the smallest and the largest."""
    finite = np.concatenate([np.ravel(array)[np.isfinite(np.ravel(array))] for array in floats] or [np.zeros(0)])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        return 0.0, 1.0
    return low, high if high > low else low + 1


def _principal_components(floats: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The first three components of all pixels, each from 0 to 1; a constant one, and one that there is not, is 0.5."""
    pixels = np.concatenate([array.reshape(-1, array.shape[-1]) for array in floats])
    fine = pixels[np.isfinite(pixels).all(axis=1)]
    mean = fine.mean(axis=0) if len(fine) else np.zeros(pixels.shape[1])
    _, vectors = np.linalg.eigh((fine - mean).T @ (fine - mean))
    axes = vectors[:, ::-1][:, :3]
    # An axis has two directions: that of its largest weight is taken.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    spread = (fine - mean) @ axes if len(fine) else np.zeros((1, axes.shape[1]))
    low, span = spread.min(axis=0), np.ptp(spread, axis=0)
    flat = span <= _CONSTANT * max(span[0], np.finfo(float).tiny)
    shown = []
    for array in floats:
        scores = np.full((*array.shape[:2], 3), 0.5)
        found = ((array - mean) @ axes - low) / np.where(flat, 1, span)
        scores[..., : axes.shape[1]] = np.where(flat, 0.5, found)
        shown.append(scores.clip(0, 1))
    return shown
