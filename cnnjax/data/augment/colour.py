"""Random brightness, contrast, saturation and hue, each picture by its own draw.

Factors are relative to the picture, 1 leaving it as it is: a range (low, high), or a number s that stands for 1 - s,
at least 0, to 1 + s. Results are cut to [0, 1]. Pictures have three channels, red, green and blue, or one, grey, which
saturation and hue leave as they are. Targets stay where they are.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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

# How much each colour weighs in grey.
_LUMA = (0.299, 0.587, 0.114)


def brightness(key: Keys, images: Images, targets: Targets | None = None, *, strength: Interval) -> Result:
    """Multiplies all channels by a factor: towards black below 1.

    Raises:
        ValueError: `strength` is no range of numbers at least 0, or images have other than one or three channels.
    """
    factors = _factors(key, images, targets, strength)
    return joined(from_unit(to_unit(images) * factors, images.dtype), targets)


def contrast(key: Keys, images: Images, targets: Targets | None = None, *, strength: Interval) -> Result:
    """Multiplies the distance from the picture's mean grey by a factor; errors as `brightness`."""
    factors = _factors(key, images, targets, strength)
    pictures = to_unit(images)
    return joined(from_unit(blend(mean_grey(pictures), pictures, factors), images.dtype), targets)


def saturation(key: Keys, images: Images, targets: Targets | None = None, *, strength: Interval) -> Result:
    """Multiplies each pixel's distance from its own grey by a factor; errors as `brightness`."""
    factors = _factors(key, images, targets, strength)
    pictures = to_unit(images)
    return joined(from_unit(blend(luma(pictures), pictures, factors), images.dtype), targets)


def hue(key: Keys, images: Images, targets: Targets | None = None, *, turns: Interval) -> Result:
    """Turns hues around the circle of colours by a share of it, `turns`, within -0.5 to 0.5.

    Raises:
        ValueError: `turns` is no range within -0.5 to 0.5, or as `brightness`.
    """
    check_images(images, colour=True)
    check_targets(targets, images)
    interval = interval_of("turns", turns, lowest=-0.5, highest=0.5)
    turned = turn_hue(to_unit(images), per_image(uniform(image_keys(key, images), interval)))
    return joined(from_unit(turned, images.dtype), targets)


def colour_jitter(
    key: Keys,
    images: Images,
    targets: Targets | None = None,
    *,
    brightness: Interval = 0.4,
    contrast: Interval = 0.4,
    saturation: Interval = 0.4,
    hue: Interval = 0.1,
) -> Result:
    """Brightness, contrast, saturation and hue in an order drawn for each picture, cut to [0, 1] after each.

    Args:
        key: One key, or one per image.
        images: Bytes or float32 in [0, 1].
        targets: Stay as they are.
        brightness: Factors; as `contrast` and `saturation`.
        contrast: Factors.
        saturation: Factors.
        hue: Turns, within -0.5 to 0.5.

    Raises:
        ValueError: a range is not one, or images have other than one or three channels.

    Reference: Howard (2014), "Some Improvements on Deep Convolutional Neural Network Based Image Classification",
    section 2.2, for the random order; Chen et al. (2020), "A Simple Framework for Contrastive Learning of Visual
    Representations", appendix A, which takes 0.8, 0.8, 0.8 and 0.2 times a strength.
    """
    check_images(images, colour=True)
    check_targets(targets, images)
    ranges = ranges_of_factors(brightness=brightness, contrast=contrast, saturation=saturation)
    turns = interval_of("hue", hue, lowest=-0.5, highest=0.5)
    of_order, *of_factors, of_turn = split_each(image_keys(key, images), 5)
    order = jax.vmap(lambda key: jax.random.permutation(key, 4))(of_order)
    factors = jnp.stack([uniform(keys, interval) for keys, interval in zip(of_factors, ranges, strict=True)], -1)
    turn = per_image(uniform(of_turn, turns))
    pictures = to_unit(images)
    for place in range(4):
        # At every place each picture has one of the four; three of them are the same blend with different ends.
        step = per_image(order[:, place])
        factor = jnp.take_along_axis(factors, jnp.minimum(order[:, place : place + 1], 2), 1)[:, :, None, None]
        grey = luma(pictures)
        end = jnp.where(step == 2, grey, jnp.where(step == 1, jnp.mean(grey, (1, 2, 3), keepdims=True), 0.0))
        blended = jnp.clip(blend(end, pictures, factor), 0.0, 1.0)
        turned = turn_hue(pictures, turn) if turns != (0.0, 0.0) else pictures
        pictures = jnp.where(step == 3, turned, blended)
    return joined(from_unit(pictures, images.dtype), targets)


def grayscale(key: Keys, images: Images, targets: Targets | None = None, *, probability: float = 0.2) -> Result:
    """Takes the colours away, with a probability: all three channels become 0.299 red + 0.587 green + 0.114 blue.

    Raises:
        ValueError: `probability` is outside [0, 1], or images have other than one or three channels.
    """
    check_images(images, colour=True)
    check_targets(targets, images)
    check_number("probability", probability, 0.0, 1.0, "that of a grey picture")
    chosen = per_image(uniform(image_keys(key, images)) < probability)
    grey = from_unit(luma(to_unit(images)), images.dtype)
    return joined(jnp.where(chosen, grey, images), targets)


def luma(images: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width 1"]:
    """Grey of red, green and blue, by the weights of ITU-R BT.601; of one channel, itself."""
    if images.shape[-1] == 1:
        return images
    red, green, blue = (weight * images[..., channel, None] for channel, weight in enumerate(_LUMA))
    return red + green + blue


def mean_grey(images: Float[Array, "batch height width channels"]) -> Float[Array, "batch 1 1 1"]:
    """The mean over each picture of its `luma`."""
    return jnp.mean(luma(images), (1, 2, 3), keepdims=True)


def ranges_of_factors(**strengths: Interval) -> list[tuple[float, float]]:
    """The ranges of factors, by name, each around 1 and not below 0; raises ValueError as `interval_of`."""
    return [interval_of(name, value, around=1.0, lowest=0.0, cut=True) for name, value in strengths.items()]


def blend(
    end: Float[Array, "#batch #height #width #channels"],
    images: Float[Array, "batch height width channels"],
    factors: Float[Array, "batch 1 1 1"],
) -> Float[Array, "batch height width channels"]:
    """From `end`, at factor 0, through the picture, at 1, and beyond."""
    return end + factors * (images - end)


def turn_hue(
    images: Float[Array, "batch height width channels"], turns: Float[Array, "batch 1 1 1"]
) -> Float[Array, "batch height width channels"]:
    """Pictures whose hue is turned by a share of the circle; brightest and darkest channel keep their values.

    Reference: Smith (1978), "Color Gamut Transform Pairs".
    """
    if images.shape[-1] == 1:
        return images
    red, green, blue = (images[..., channel, None] for channel in range(3))
    value, low = jnp.max(images, -1, keepdims=True), jnp.min(images, -1, keepdims=True)
    span = value - low
    safe = jnp.where(span > 0, span, 1.0)
    # In sixths of the circle, from red. Not by which channel equals the largest: compiled, that may be computed twice,
    # and rounded apart. Where two are about equal, both their formulas give about the same.
    of_red, of_green = (green - blue) / safe, (blue - red) / safe + 2.0
    of_others = jnp.where(green >= blue, of_green, (red - green) / safe + 4.0)
    sixths = jnp.where((red >= green) & (red >= blue), of_red, of_others)
    sixths = sixths + 6.0 * turns
    channels = []
    for start in (5.0, 3.0, 1.0):
        place = jnp.mod(start + sixths, 6.0)
        channels.append(value - span * jnp.clip(jnp.minimum(place, 4.0 - place), 0.0, 1.0))
    return jnp.concatenate(channels, -1)


def _factors(key: Keys, images: Images, targets: Targets | None, strength: Interval) -> Float[Array, "batch 1 1 1"]:
    check_images(images, colour=True)
    check_targets(targets, images)
    interval = interval_of("strength", strength, around=1.0, lowest=0.0, cut=True)
    return per_image(uniform(image_keys(key, images), interval))
