"""Random blur, sharpness and noise, each picture by its own draw; targets stay where they are."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.data.augment.colour import blend
from cnnjax.data.augment.draws import (
    Images,
    Interval,
    Keys,
    Result,
    check_images,
    check_number,
    from_unit,
    image_keys,
    interval_of,
    per_image,
    split_each,
    to_unit,
    uniform,
)
from cnnjax.data.augment.targets import Targets, check_targets, joined


def blur(
    key: Keys, images: Images, targets: Targets | None = None, *, sigma: tuple[float, float] = (0.1, 2.0)
) -> Result:
    """Smooths by a Gaussian whose deviation, in pixels, is uniform from low to high; the border mirrors the picture.

    The weights reach three times the largest deviation to each side, for every picture alike.

    Raises:
        ValueError: `sigma` is not from a number above 0 to one of at most 50, or images or targets do not fit.

    Reference: Chen et al. (2020), "A Simple Framework for Contrastive Learning of Visual Representations", appendix A.
    """
    check_images(images)
    check_targets(targets, images)
    low, high = interval_of("sigma", sigma, lowest=1e-3, highest=50.0)
    deviations = uniform(image_keys(key, images), (low, high))
    reach = math.ceil(3 * high)
    weights = jnp.exp(-0.5 * jnp.square(jnp.arange(-reach, reach + 1.0)[None] / deviations[:, None]))
    weights = weights / jnp.sum(weights, 1, keepdims=True)
    pictures = to_unit(images)
    for axis in (1, 2):
        pictures = _smoothed(pictures, weights, axis)
    return joined(from_unit(pictures, images.dtype), targets)


def sharpness(key: Keys, images: Images, targets: Targets | None = None, *, strength: Interval) -> Result:
    """Multiplies the distance from the smoothed picture by a factor: blurred at 0, as it is at 1, sharp above.

    A range (low, high), or a number s that stands for 1 - s, at least 0, to 1 + s. Pixels at the border stay.

    Raises:
        ValueError: `strength` is no range of numbers at least 0, or images or targets do not fit.
    """
    check_images(images)
    check_targets(targets, images)
    interval = interval_of("strength", strength, around=1.0, lowest=0.0, cut=True)
    pictures = to_unit(images)
    factors = per_image(uniform(image_keys(key, images), interval))
    return joined(from_unit(blend(smooth(pictures), pictures, factors), images.dtype), targets)


def noise(key: Keys, images: Images, targets: Targets | None = None, *, deviation: Interval) -> Result:
    """Adds independent Gaussian noise to every value, its deviation, on the scale of 0 to 1, uniform in a range.

    The range is (low, high), or a number that is both; what leaves [0, 1] is cut.

    Raises:
        ValueError: `deviation` is no range within 0 to 1, or images or targets do not fit.
    """
    check_images(images)
    check_targets(targets, images)
    if isinstance(deviation, int | float):
        check_number("deviation", deviation, 0.0, 1.0, "on the scale from black to white")
    pair = (deviation, deviation) if isinstance(deviation, int | float) else deviation
    interval = interval_of("deviation", pair, lowest=0.0, highest=1.0)
    of_deviation, of_noise = split_each(image_keys(key, images), 2)
    grain = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(of_noise)
    return joined(
        from_unit(to_unit(images) + per_image(uniform(of_deviation, interval)) * grain, images.dtype), targets
    )


def smooth(images: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
    """Pillow's SMOOTH: the mean of a pixel, five times, and its eight neighbours; pixels at the border stay."""
    _, height, width, _ = images.shape
    if height < 3 or width < 3:
        return images
    rows = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    around = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    return images.at[:, 1:-1, 1:-1].set((around + 4.0 * images[:, 1:-1, 1:-1]) / 13.0)


def _smoothed(
    images: Float[Array, "batch height width channels"], weights: Float[Array, "batch taps"], axis: int
) -> Float[Array, "batch height width channels"]:
    length, taps = images.shape[axis], weights.shape[1]
    margins = [(0, 0)] * 4
    margins[axis] = (taps // 2, taps // 2)
    padded = jnp.pad(images, margins, mode="reflect")
    shifted = (jax.lax.slice_in_dim(padded, tap, tap + length, axis=axis) for tap in range(taps))
    weighted = (per_image(weights[:, tap]) * part for tap, part in enumerate(shifted))
    return functools.reduce(jnp.add, weighted)
