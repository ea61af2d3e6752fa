"""Colour spaces of selective search, every channel from 0 to 1.

Reference: Uijlings et al. (2013), "Selective Search for Object Recognition", section 3.2.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float64, UInt8

Space: TypeAlias = Literal["hsv", "lab", "rgi", "hue", "intensity"]

# Linear sRGB to CIE XYZ, over the white of D65 (IEC 61966-2-1; CIE 1931, 2 degrees).
_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WHITE = np.array([0.95047, 1.0, 1.08883])
_WEIGHTS = np.array([0.299, 0.587, 0.114])


def to_hsv(picture: UInt8[np.ndarray, "height width 3"]) -> Float64[np.ndarray, "height width 3"]:
    """Hue, as a share of the circle, saturation and value; a grey has hue 0.

    >>> to_hsv(np.asarray([[[0, 0, 255]]], np.uint8)).round(3).tolist()
    [[[0.667, 1.0, 1.0]]]
    """
    red, green, blue = channels = np.moveaxis(picture / 255.0, -1, 0)
    value = channels.max(0)
    spread = value - channels.min(0)
    divisor = np.where(spread > 0, spread, 1.0)
    # Where two channels are the largest, the later has the say; both give the same hue.
    hue = np.where(value == red, (green - blue) / divisor, 0.0)
    hue = np.where(value == green, 2.0 + (blue - red) / divisor, hue)
    hue = np.where(value == blue, 4.0 + (red - green) / divisor, hue)
    hue = np.where(spread > 0, hue / 6.0 % 1.0, 0.0)
    return np.stack([hue, spread / np.where(value > 0, value, 1.0), value], -1)


def to_lab(picture: UInt8[np.ndarray, "height width 3"]) -> Float64[np.ndarray, "height width 3"]:
    """CIE L*a*b* of sRGB under D65: lightness from 0 to 100, a and b between about -108 and 99.

    >>> to_lab(np.full((1, 1, 3), 255, np.uint8)).round(1)[0, 0, 0].item()
    100.0
    """
    levels = np.arange(256) / 255.0
    linear = np.where(levels > 0.04045, ((levels + 0.055) / 1.055) ** 2.4, levels / 12.92)
    xyz = linear[picture] @ (_XYZ / _WHITE[:, None]).T
    x, y, z = np.moveaxis(np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def to_rgi(picture: UInt8[np.ndarray, "height width 3"]) -> Float64[np.ndarray, "height width 3"]:
    """The shares of red and of green in the sum of the channels, a third each in black, and the intensity.

    >>> to_rgi(np.asarray([[[255, 0, 0]]], np.uint8)).round(3).tolist()
    [[[1.0, 0.0, 0.299]]]
    """
    total = picture.sum(-1, keepdims=True)
    shares = np.where(total > 0, picture / np.where(total > 0, total, 1), 1 / 3)
    return np.concatenate([shares[..., :2], intensity(picture)], -1)


def intensity(picture: UInt8[np.ndarray, "height width 3"]) -> Float64[np.ndarray, "height width 1"]:
    """The grey of ITU-R BT.601."""
    return (picture @ _WEIGHTS / 255.0)[..., None]


def convert(picture: UInt8[np.ndarray, "height width 3"], space: Space) -> Float64[np.ndarray, "height width channels"]:
    """A picture in a colour space, each channel stretched to run from 0 to 1 in this picture; a constant one is 0.

    So no channel counts for little because a picture uses little of its range.
    """
    found = _SPACES[space](picture)
    low, high = found.min((0, 1)), found.max((0, 1))
    return (found - low) / np.where(high > low, high - low, 1.0)


_SPACES: dict[Space, Callable[[np.ndarray], np.ndarray]] = {
    "hsv": to_hsv,
    "lab": to_lab,
    "rgi": to_rgi,
    "hue": lambda picture: to_hsv(picture)[..., :1],
    "intensity": intensity,
}
