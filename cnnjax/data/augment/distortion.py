"""Distortions that papers of dense prediction name: SSD's of colours, and U-Net's elastic one by a coarse grid."""

import math

import jax
import jax.numpy as jnp

from cnnjax.data.augment.colour import blend, luma, mean_grey, ranges_of_factors, turn_hue
from cnnjax.data.augment.draws import (
    Fill,
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
    to_unit,
    uniform,
)
from cnnjax.data.augment.targets import Targets, check_targets, joined
from cnnjax.data.augment.warp import displace


def photometric_distortion(
    key: Keys,
    images: Images,
    targets: Targets | None = None,
    *,
    brightness: Interval = 0.125,
    contrast: Interval = 0.5,
    saturation: Interval = 0.5,
    hue: Interval = 0.05,
    probability: float = 0.5,
) -> Result:
    """Brightness, contrast, saturation and hue, each with a probability; contrast second or, as often, last, as SSD.

    Each is what the function of that name does, and results are cut to [0, 1] after each.

    Args:
        key: One key, or one per image.
        images: Bytes or float32 in [0, 1].
        targets: Stay as they are.
        brightness: Factors; as `contrast` and `saturation`, a range or a number s for 1 - s to 1 + s.
        contrast: Factors.
        saturation: Factors.
        hue: Turns, within -0.5 to 0.5.
        probability: That of each of the four, drawn apart.

    Raises:
        ValueError: a range is not one, `probability` is outside [0, 1], or images have neither one nor three channels.

    Reference: Liu et al. (2016), "SSD: Single Shot MultiBox Detector", section 2.2, "Data augmentation"; Howard (2014),
    "Some Improvements on Deep Convolutional Neural Network Based Image Classification".
    """
    check_images(images, colour=True)
    check_targets(targets, images)
    check_number("probability", probability, 0.0, 1.0, "that of each of the four changes")
    ranges = ranges_of_factors(brightness=brightness, contrast=contrast, saturation=saturation)
    ranges.append(interval_of("hue", hue, lowest=-0.5, highest=0.5))
    draws = uniform(image_keys(key, images), shape=(9,))
    lights, contrasts, colours, turns = (
        per_image(jnp.where(draws[:, place] < probability, low + (high - low) * draws[:, 4 + place], neutral))
        for place, ((low, high), neutral) in enumerate(zip(ranges, (1.0, 1.0, 1.0, 0.0), strict=True))
    )
    second = per_image(draws[:, 8] < 0.5)
    pictures = jnp.clip(to_unit(images) * lights, 0.0, 1.0)
    pictures = _contrasted(pictures, jnp.where(second, contrasts, 1.0))
    pictures = jnp.clip(blend(luma(pictures), pictures, colours), 0.0, 1.0)
    pictures = turn_hue(pictures, turns)
    pictures = _contrasted(pictures, jnp.where(second, 1.0, contrasts))
    return joined(from_unit(pictures, images.dtype), targets)


def elastic_grid(
    key: Keys,
    images: Images,
    targets: Targets | None = None,
    *,
    deviation: float = 10.0,
    grid: int = 3,
    fill: Fill = 0.0,
) -> Result:
    """Bends pictures by random vectors on a coarse grid, interpolated bicubically to every pixel, as U-Net does.

    The vectors stand at the centres of `grid` x `grid` equal parts of the picture, and each of their coordinates is
    normal, of mean zero. In between the field is what resizing them as a small picture gives (Keys' cubic of -1/2).
    Where it changes by a pixel per pixel pictures fold: let `deviation` be well below a third of a part's side.

    Args:
        key: One key, or one per image.
        images: Bytes or float32 in [0, 1].
        targets: What moves along.
        deviation: The standard deviation of the vectors' coordinates, in pixels; the paper's pictures have 572.
        grid: How many vectors stand along each side.
        fill: What comes in.

    Raises:
        ValueError: `deviation` is negative, `grid` below 1, or as `displace`.

    Reference: Ronneberger, Fischer and Brox (2015), "U-Net: Convolutional Networks for Biomedical Image Segmentation",
    section 3.1; it does not say where the vectors stand.
    """
    check_images(images)
    if not 0 <= deviation < math.inf:
        raise ValueError(f"deviation={deviation}; expected 0 or more, in pixels")
    if grid < 1:
        raise ValueError(f"grid={grid}; expected 1 or more vectors along each side")
    keys = image_keys(key, images)
    vectors = deviation * jax.vmap(lambda key: jax.random.normal(key, (grid, grid, 2)))(keys)
    fields = jax.image.resize(vectors, (*images.shape[:3], 2), "cubic", antialias=False)
    return displace(images, fields, targets, fill=fill)


def _contrasted(pictures: jax.Array, factors: jax.Array) -> jax.Array:
    return jnp.clip(blend(mean_grey(pictures), pictures, factors), 0.0, 1.0)
