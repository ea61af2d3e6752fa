"""What the pictures of a data set are made of, by which a trained network knows pictures of that kind from others."""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

# Bytes, or floats of any width.
Kind: TypeAlias = Literal["uint8", "float32"]

# By how much values may lie beyond 0 and 1 for rounding.
ROUNDING = 1e-3

# Floats that are so many times larger than any that was seen are in another unit.
_FAR = 50


@dataclass(frozen=True)
class Pixels:
    """Type, range and statistics of pictures.

    Bytes count as floats from 0 to 1, a 255th of them, as everywhere in `augment`; floats count as they are.

    Attributes:
        dtype: "uint8", or "float32" for floats of any width.
        low: the smallest value; 0 for bytes.
        high: the largest value; 255 for bytes.
        mean: of each channel, on the scale of 0 to 1 for bytes.
        deviation: of each channel, on the same scale; 1 for a constant channel.

    Raises:
        ValueError: they are not those of any pictures.
    """

    dtype: Kind
    low: float
    high: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = (self.low, self.high, *self.mean, *self.deviation)
        sound = self.dtype in ("uint8", "float32") and len(self.mean) == len(self.deviation) > 0
        if not (sound and all(map(math.isfinite, numbers)) and self.low <= self.high and min(self.deviation) > 0):
            raise ValueError(f"{self} are of no pictures; expected finite numbers, one mean and deviation per channel")

    @property
    def from_zero_to_one(self) -> bool:
        """Whether they are floats from 0 to 1, or bytes, which count as such."""
        return self.dtype == "uint8" or (self.low >= -ROUNDING and self.high <= 1 + ROUNDING)

    def check(self, pictures: Any) -> None:
        """Does nothing if pictures (batch, height, width, channels) are of this kind.

        Bytes and floats from 0 to 1 are one kind. While a function is traced, values are not known, and not looked at.

        Raises:
            ValueError: they have other axes, another type, or values that these pictures cannot have.
        """
        shape, channels = jnp.shape(pictures), len(self.mean)
        if len(shape) != 4 or shape[-1] != channels:
            raise ValueError(
                f"pictures have the shape {shape}; expected (batch, height, width, {channels}), and a batch axis for"
                " one: pictures[None]"
            )
        kind = kind_of("pictures", pictures)
        expected = "bytes (uint8), or floats from 0 to 1"
        if not self.from_zero_to_one:
            expected = f"floats like those of training, which go from {self.low:g} to {self.high:g}"
            if kind == "uint8":
                raise ValueError(f"pictures are uint8; expected {expected}: pictures.astype(np.float32) if they are")
        if kind == "uint8" or isinstance(pictures, jax.core.Tracer) or not np.size(pictures):
            return
        with jax.ensure_compile_time_eval():
            low, high = float(jnp.min(pictures)), float(jnp.max(pictures))
        if (low < -ROUNDING or high > 1 + ROUNDING) if self.from_zero_to_one else self.differ(low, high):
            raise ValueError(f"pictures have values from {low:g} to {high:g}; expected {expected}")

    def differ(self, low: float, high: float) -> bool:
        """Whether floats from `low` to `high` are in another unit than these floats.

        They are where they reach 50 times as far, and where they end at 1 while these go on towards 255.
        """
        too_small = self.low >= 0 and self.high > 100 and low >= 0 and 0 < high <= 1 + ROUNDING
        return too_small or max(-low, high) > _FAR * max(-self.low, self.high)


def kind_of(what: str, pictures: Any) -> Kind:
    """Whether pictures are bytes, or floats of any width.

    Raises:
        ValueError: they are neither; `what` is what the message calls them.
    """
    dtype = pictures.dtype if hasattr(pictures, "dtype") else np.asarray(pictures).dtype
    if dtype == np.uint8:
        return "uint8"
    if jnp.issubdtype(dtype, jnp.floating):
        return "float32"
    cure = "pass images.astype(np.uint8) where they go from 0 to 255, images / 65535 where they go to 65535"
    raise ValueError(
        f"{what} are {dtype}; expected uint8 from 0 to 255, or floats:"
        f" {'pass images.astype(np.float32)' if dtype == np.bool_ else cure}"
    )
