"""Zooming out and in to a fixed size: SSD's expansion, and the scale jitter of detectors that train from scratch.

Each is one window of the picture, which may reach beyond it, brought to `size` by `crop_and_resize`: shapes are static.
"""

import jax.numpy as jnp

from cnnjax.data.augment.crops import check_size, crop_and_resize
from cnnjax.data.augment.draws import (
    Fill,
    Images,
    Keys,
    Result,
    check_images,
    check_number,
    image_keys,
    interval_of,
    uniform,
)
from cnnjax.data.augment.targets import Targets

# The mean colour of ImageNet's pictures.
_MEAN = (0.485, 0.456, 0.406)


def expand(
    key: Keys,
    images: Images,
    targets: Targets | None = None,
    *,
    size: tuple[int, int],
    ratio: tuple[float, float] = (1.0, 4.0),
    probability: float = 0.5,
    fill: Fill = _MEAN,
) -> Result:
    """Lays the picture at a random place on a canvas of the mean colour, `ratio` times as high and as wide, as SSD.

    The canvas is brought to `size`, so objects become smaller; pictures that are not expanded are brought to it too.

    Args:
        key: One key, or one per image.
        images: Bytes or float32 in [0, 1].
        targets: What moves along.
        size: Height and width of what comes out.
        ratio: The least and the largest ratio of the sides, drawn alike likely; 1 or more.
        probability: That of an expanded image.
        fill: The canvas, 0 to 1: one number, or one for each channel; ImageNet's mean of red, green and blue.

    Raises:
        ValueError: `ratio` is not a range from 1, `probability` outside [0, 1], or as `crop_and_resize`.

    Reference: Liu et al. (2016), "SSD: Single Shot MultiBox Detector", section 3.6.
    """
    check_images(images)
    check_size(size)
    check_number("probability", probability, 0.0, 1.0, "that of an expanded image")
    low, high = interval_of("ratio", ratio, lowest=1.0)
    draws = uniform(image_keys(key, images), shape=(4,))
    ratios = jnp.where(draws[:, 0] < probability, low + (high - low) * draws[:, 1], 1.0)[:, None]
    sides = jnp.asarray(images.shape[2:0:-1], jnp.float32)[None]
    # Where the picture lies on the canvas, (x, y); the window is the canvas, as the picture sees it.
    corners = -draws[:, 2:] * (ratios - 1.0) * sides
    return crop_and_resize(
        images, jnp.concatenate([corners, corners + ratios * sides], -1), targets, size=size, fill=fill
    )


def scale_jitter(
    key: Keys,
    images: Images,
    targets: Targets | None = None,
    *,
    size: tuple[int, int],
    factors: tuple[float, float] = (0.1, 2.0),
    fill: Fill = 0.5,
) -> Result:
    """Resizes by a random factor, keeping the aspect, then cuts out `size` at a random place, or pads up to it.

    At factor 1 the picture just fits into `size`. What is longer than `size` is cut, at a place alike likely anywhere;
    what is shorter lies at the upper left, with `fill` to its right and below, as detection codes pad.

    Args:
        key: One key, or one per image.
        images: Bytes or float32 in [0, 1].
        targets: What moves along.
        size: Height and width of what comes out.
        factors: The least and the largest factor, drawn alike likely: 0.1 and 2 are large-scale jitter, 0.8 and 1.25
            the usual one.
        fill: What pads, 0 to 1: one number, or one for each channel.

    Raises:
        ValueError: `factors` are not a range above 0, or as `crop_and_resize`.

    Reference: Ghiasi et al. (2021), "Simple Copy-Paste is a Strong Data Augmentation Method for Instance
    Segmentation", section 3.
    """
    check_images(images)
    check_size(size)
    low, high = interval_of("factors", factors, lowest=1e-3, highest=1e3)
    draws = uniform(image_keys(key, images), shape=(3,))
    height, width = images.shape[1:3]
    fitting = min(size[0] / height, size[1] / width)
    scales = fitting * (low + (high - low) * draws[:, :1])
    windows = jnp.asarray([size[1], size[0]], jnp.float32)[None] / scales
    room = jnp.maximum(jnp.asarray([width, height], jnp.float32)[None] - windows, 0.0)
    corners = draws[:, 1:] * room
    return crop_and_resize(images, jnp.concatenate([corners, corners + windows], -1), targets, size=size, fill=fill)
