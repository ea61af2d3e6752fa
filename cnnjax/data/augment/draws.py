"""What every transform begins with: checks at the door, a key for each image, and draws from them.

Images are bytes, 0 to 255, or float32 in [0, 1]; what is computed in between is float32 on the scale of 0 to 1.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key, Shaped

Images: TypeAlias = Shaped[Array, "batch height width channels"]
Keys: TypeAlias = Key[Array, "..."]
# The images alone, or (images, targets) where targets came in.
Result: TypeAlias = Any
Interval: TypeAlias = float | tuple[float, float]
Fill: TypeAlias = float | Sequence[float]


def keys_for(key: Key[Array, ""], ids: Int[Array, " batch"]) -> Key[Array, " batch"]:
    """A key for each example, by folding in its id: the same wherever in a batch, or on whichever device, it is.

    Raises:
        ValueError: `key` is not one key, or `ids` are not one integer per example.
    """
    if key.shape:
        raise ValueError(f"key has shape {key.shape}; expected one key: the ids make one for each example of it")
    if ids.ndim != 1 or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"ids are {ids.dtype} of shape {ids.shape}; expected integers, (batch,)")
    return jax.vmap(jax.random.fold_in, (None, 0))(key, ids)


def image_keys(key: Keys, images: Shaped[Array, "..."]) -> Key[Array, " batch"]:
    """A key for each image: one key is split, one per image stay as they are.

    Raises:
        ValueError: `key` is neither, or no typed key.
    """
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise ValueError(f"key is {key.dtype} of shape {key.shape}; expected a typed key, as of jax.random.key")
    if not key.shape:
        return jax.random.split(key, images.shape[0])
    if key.shape != images.shape[:1]:
        raise ValueError(f"key has shape {key.shape}; expected one key, or one for each of {images.shape[0]} images")
    return key


def split_each(keys: Key[Array, " batch"], count: int) -> Key[Array, "count batch"]:
    """`count` keys of each image's own."""
    return jax.vmap(lambda key: jax.random.split(key, count), out_axes=1)(keys)


def uniform(
    keys: Key[Array, " batch"], interval: tuple[float, float] = (0.0, 1.0), *, shape: tuple[int, ...] = ()
) -> Float[Array, "batch *shape"]:
    """Numbers drawn for each image by itself, alike likely anywhere in the interval."""
    low, high = interval
    return low + (high - low) * jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)


def check_images(images: Shaped[Array, "..."], *, colour: bool = False, any_type: bool = False) -> None:
    """Raises ValueError unless images are (batch, height, width, channels), bytes or float32.

    With `colour` the channels must be one, grey, or three, RGB; `any_type` is for transforms that only move pixels.
    """
    if images.ndim != 4:
        raise ValueError(f"images have shape {images.shape}; expected (batch, height, width, channels)")
    if not any_type and images.dtype not in (jnp.uint8, jnp.float32):
        raise ValueError(f"images are {images.dtype}; expected uint8, 0 to 255, or float32, 0 to 1: convert them")
    if colour and images.shape[-1] not in (1, 3):
        raise ValueError(f"images have {images.shape[-1]} channels; expected 1, grey, or 3, red, green and blue")


def interval_of(
    name: str,
    value: Interval,
    *,
    around: float = 0.0,
    lowest: float = -math.inf,
    highest: float = math.inf,
    cut: bool = False,
) -> tuple[float, float]:
    """(low, high) as given, or from a number s at least zero the interval from `around` - s to `around` + s.

    With `cut`, that interval begins at `lowest` where it would begin below.

    Raises:
        ValueError: s is negative, low above high, or an end outside of `lowest` to `highest` or not finite.
    """
    if isinstance(value, int | float):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}={value}; expected a number of 0 or more, or (low, high)")
        low, high = max(around - value, lowest if cut else -math.inf), around + value
    elif len(value) == 2:
        low, high = value
    else:
        raise ValueError(f"{name}={value}; expected a number, or (low, high)")
    if not (lowest <= low <= high <= highest and math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name}={value}; expected low to high, in order, within {lowest:g} to {highest:g}")
    return float(low), float(high)


def check_number(name: str, value: float, low: float, high: float, meaning: str) -> None:
    """Raises ValueError unless `value` lies from `low` to `high`; NaN does not."""
    if not low <= value <= high:
        raise ValueError(f"{name}={value}; expected {low:g} to {high:g}: {meaning}")


def fill_of(fill: Fill, channels: int) -> Float[Array, " channels"]:
    """What comes in where there is no picture, per channel, on the scale of 0 to 1.

    Raises:
        ValueError: `fill` is not in [0, 1], or neither one number nor one per channel.
    """
    values = [fill] * channels if isinstance(fill, int | float) else list(fill)
    if len(values) != channels or not all(0 <= value <= 1 for value in values):
        raise ValueError(f"fill={fill}; expected a number from 0 to 1, or one for each of {channels} channels")
    return jnp.asarray(values, jnp.float32)


def to_unit(images: Shaped[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Images as float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255.0 if images.dtype == jnp.uint8 else images


def from_unit(images: Float[Array, "*shape"], dtype: DTypeLike) -> Shaped[Array, "*shape"]:
    """Images in [0, 1], what is outside being cut off, as bytes, rounded, or as float32."""
    images = jnp.clip(images, 0.0, 1.0)
    return jnp.round(images * 255.0).astype(jnp.uint8) if dtype == jnp.uint8 else images


def per_image(values: Shaped[Array, " batch"]) -> Shaped[Array, "batch 1 1 1"]:
    """One value per image, in the shape that meets images."""
    return values[:, None, None, None]
