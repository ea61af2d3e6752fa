"""Tone curves, the same for every picture or read off the picture itself; nothing is drawn.

They take a key as all transforms do and leave it alone: `sometimes` makes them random. Pictures may have any number of
channels, and targets stay where they are.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from cnnjax.data.augment.draws import Images, Keys, Result, check_images, check_number, from_unit, to_unit
from cnnjax.data.augment.targets import Targets, check_targets, joined


def invert(key: Keys, images: Images, targets: Targets | None = None) -> Result:
    """The negative: 1 - x.

    Raises:
        ValueError: images or targets do not fit.
    """
    _check(images, targets)
    return joined(from_unit(1.0 - to_unit(images), images.dtype), targets)


def solarize(key: Keys, images: Images, targets: Targets | None = None, *, threshold: float = 0.5) -> Result:
    """The negative of what is as bright as the threshold, 0 to 1, or brighter.

    Raises:
        ValueError: `threshold` is not from 0 to 1, or images or targets do not fit.
    """
    _check(images, targets)
    check_number("threshold", threshold, 0.0, 1.0, "on the scale from black to white")
    white = 255 if images.dtype == jnp.uint8 else 1.0
    bright = images.astype(jnp.float32) >= threshold * white
    return joined(jnp.where(bright, white - images, images), targets)


def posterize(key: Keys, images: Images, targets: Targets | None = None, *, bits: int) -> Result:
    """Keeps the highest bits of eight of every value, the others becoming zero; float32 is rounded to bytes first.

    Raises:
        ValueError: `bits` is not from 1 to 8, or images or targets do not fit.
    """
    _check(images, targets)
    check_number("bits", bits, 1, 8, "of the eight of a byte")
    return joined(from_levels(to_levels(images) & (256 - 2 ** (8 - bits)), images), targets)


def autocontrast(key: Keys, images: Images, targets: Targets | None = None) -> Result:
    """Stretches each channel, its darkest pixel to 0 and its brightest to 1; a flat channel stays.

    Raises:
        ValueError: images or targets do not fit.
    """
    _check(images, targets)
    return joined(from_unit(stretched(to_unit(images)), images.dtype), targets)


def equalize(key: Keys, images: Images, targets: Targets | None = None) -> Result:
    """Spreads each channel's 256 levels so that all are about as common; float32 is rounded to bytes first.

    The curve is Pillow's: a level becomes the number of darker pixels over a 255th of all but the brightest ones,
    rounded; a channel with too few pixels for that stays.

    Raises:
        ValueError: images or targets do not fit.
    """
    _check(images, targets)
    return joined(from_levels(equalized(to_levels(images)), images), targets)


def to_levels(images: Images) -> Int[Array, "batch height width channels"]:
    """Images as whole numbers from 0 to 255."""
    return from_unit(images, jnp.uint8).astype(jnp.int32) if images.dtype != jnp.uint8 else images.astype(jnp.int32)


def from_levels(levels: Int[Array, "batch height width channels"], images: Images) -> Images:
    """Whole numbers from 0 to 255 as what `images` are."""
    return levels.astype(jnp.uint8) if images.dtype == jnp.uint8 else levels.astype(jnp.float32) / 255.0


def stretched(images: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
    """Each channel from its least to its largest value, 0 to 1."""
    low, high = jnp.min(images, (1, 2), keepdims=True), jnp.max(images, (1, 2), keepdims=True)
    flat = high <= low
    return jnp.where(flat, images, (images - low) / jnp.where(flat, 1.0, high - low))


def equalized(levels: Int[Array, "batch height width channels"]) -> Int[Array, "batch height width channels"]:
    """Each channel's levels, from 0 to 255, made about equally common."""
    batch, height, width, channels = levels.shape
    first = 256 * jnp.arange(channels)[None]

    def spread(pixels: Int[Array, "pixels channels"]) -> Int[Array, "pixels channels"]:
        counts = jnp.zeros(256 * channels, jnp.int32).at[first + pixels].add(1, mode="promise_in_bounds")
        counts = counts.reshape(channels, 256)
        brightest = jnp.take_along_axis(counts, jnp.max(pixels, 0)[:, None], 1)
        step = (height * width - brightest) // 255
        darker = jnp.cumsum(counts, 1) - counts
        curves = jnp.clip((step // 2 + darker) // jnp.maximum(step, 1), 0, 255)
        curves = jnp.where(step > 0, curves, jnp.arange(256)[None])
        return curves.reshape(-1).at[first + pixels].get(mode="promise_in_bounds")

    # Compiled for CPUs, what made the levels would be computed anew for every use of them.
    levels = lax.optimization_barrier(levels)
    return jax.vmap(spread)(levels.reshape(batch, height * width, channels)).reshape(levels.shape)


def _check(images: Images, targets: Targets | None) -> None:
    check_images(images)
    check_targets(targets, images)
