"""RandAugment and TrivialAugment: of fourteen operations one or a few for each picture, drawn by chance.

A layer computes no branch per operation. All fourteen are settings of one warp, one blend and one tone curve, so every
picture goes through each of these once, two of the three set to leave it as it is: the cost is that of one of each,
whatever was drawn, without a loop over pictures: about 7 ms for a picture of 224x224 on two shared cores.

The operations are those of the papers: identity, autocontrast, equalize, rotate, solarize, colour (saturation),
posterize, contrast, brightness, sharpness, and shear and translate along x and y. Shears and rotations are about the
centre; strengths have a random sign where there are two directions, as in torchvision's RandAugment.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from cnnjax.data.augment.colour import blend, luma
from cnnjax.data.augment.draws import (
    Fill,
    Images,
    Keys,
    Result,
    check_images,
    check_number,
    from_unit,
    image_keys,
    per_image,
    split_each,
    to_unit,
    uniform,
)
from cnnjax.data.augment.filters import smooth
from cnnjax.data.augment.matrices import affine_matrices
from cnnjax.data.augment.targets import Targets, joined
from cnnjax.data.augment.tone import equalized, stretched
from cnnjax.data.augment.warp import warp

OPERATIONS: tuple[str, ...] = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "colour",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)


class Ranges(NamedTuple):
    """The strongest of each kind of operation.

    Attributes:
        degrees: Rotation.
        shear: Shift in pixels per pixel.
        translation: (along x, along y), in pixels.
        enhancement: What factors of colour, contrast, brightness and sharpness differ from 1 by.
        bits: How many of the eight bits posterize drops.
    """

    degrees: float
    shear: float
    translation: tuple[float, float]
    enhancement: float
    bits: int


def rand_augment(
    key: Keys,
    images: Images,
    targets: Targets | None = None,
    *,
    number: int = 2,
    magnitude: float = 9.0,
    fill: Fill = 0.0,
) -> Result:
    """Applies `number` of fourteen operations, one after the other, each drawn anew, all of one magnitude.

    At `magnitude` 10: rotation by 30 degrees, shear by 0.3, translation by 150 pixels of 331, factors of 1 - 0.9 or
    1 + 0.9, four bits left, solarization of everything; in proportion below. (On a scale of 30, as in torchvision, its
    9 is 3 here.) float32 pictures are rounded to 256 levels.

    Args:
        key: One key, or one per image.
        images: Bytes or float32 in [0, 1], of one or three channels.
        targets: What moves along.
        number: How many operations.
        magnitude: Their strength, from 0 to 10.
        fill: What comes in where a picture has moved away.

    Raises:
        ValueError: `number` is negative, `magnitude` not from 0 to 10, or as `warp`.

    Reference: Cubuk et al. (2020), "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space",
    section 3; its ranges are those of Cubuk et al. (2019), "AutoAugment", table 6.
    """
    check_images(images, colour=True)
    if number < 0:
        raise ValueError(f"number={number}; expected how many operations, 0 or more")
    check_number("magnitude", magnitude, 0.0, 10.0, "10 is the strongest of the paper's; torchvision counts to 30")
    height, width = images.shape[1:3]
    ranges = Ranges(30.0, 0.3, (width * 150 / 331, height * 150 / 331), 0.9, 4)
    strengths = jnp.full(images.shape[0], magnitude / 10.0, jnp.float32)
    layers = split_each(image_keys(key, images), number) if number else ()
    for keys in layers:
        images, targets = _layer(keys, images, targets, strengths, ranges, fill)
    return joined(images, targets)


def trivial_augment(key: Keys, images: Images, targets: Targets | None = None, *, fill: Fill = 0.0) -> Result:
    """Applies one of fourteen operations at one of 31 strengths, both alike likely: no setting is left to search.

    The strongest are the paper's wide ones: rotation by 135 degrees, shear by 0.99, translation by 32 pixels, factors
    of 1 - 0.99 or 1 + 0.99, two bits left, solarization of everything. float32 pictures are rounded to 256 levels.

    Raises:
        ValueError: as `warp`, or images have other than one or three channels.

    Reference: Müller and Hutter (2021), "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", sections
    3 and 4, "Wide".
    """
    check_images(images, colour=True)
    of_layer, of_strength = split_each(image_keys(key, images), 2)
    strengths = jnp.floor(31.0 * uniform(of_strength)) / 30.0
    ranges = Ranges(135.0, 0.99, (32.0, 32.0), 0.99, 6)
    return joined(*_layer(of_layer, images, targets, jnp.minimum(strengths, 1.0), ranges, fill))


def apply_operations(
    images: Images,
    operations: Int[Array, " batch"],
    strengths: Float[Array, " batch"],
    targets: Targets | None = None,
    *,
    ranges: Ranges,
    fill: Fill = 0.0,
) -> Result:
    """One operation per picture, by its number in `OPERATIONS`, at -1 to 1 of the strongest, the sign its direction.

    Raises:
        ValueError: as `warp`, or images have other than one or three channels.
    """
    check_images(images, colour=True)
    sizes = jnp.abs(strengths)

    def where(*names: str, then: jax.Array, otherwise: float = 0.0) -> jax.Array:
        chosen = (operations[:, None] == jnp.asarray([OPERATIONS.index(name) for name in names])[None]).any(1)
        return jnp.where(chosen, then, otherwise)

    height, width = images.shape[1:3]
    matrices = affine_matrices(
        (height, width),
        degrees=where("rotate", then=ranges.degrees * strengths),
        shear_x=where("shear_x", then=ranges.shear * strengths),
        shear_y=where("shear_y", then=ranges.shear * strengths),
        factors=jnp.ones_like(strengths),
        shift_x=where("translate_x", then=ranges.translation[0] * strengths),
        shift_y=where("translate_y", then=ranges.translation[1] * strengths),
    )
    pictures = from_unit(images, jnp.uint8) if images.dtype != jnp.uint8 else images
    pictures, placed = warp(pictures, matrices, Targets() if targets is None else targets, fill=fill)
    enhancing = ("colour", "contrast", "brightness", "sharpness")
    factors = where(*enhancing, then=1.0 + ranges.enhancement * strengths, otherwise=1.0)
    # Fused into what comes next, each stage would be computed anew for every use of it: four times as slow on CPUs.
    pictures = lax.optimization_barrier(pictures)
    blended = lax.optimization_barrier(_enhanced(to_unit(pictures), operations, factors))
    kept = where("posterize", then=8.0 - jnp.round(ranges.bits * sizes), otherwise=8.0)
    threshold = where("solarize", then=255.0 * (1.0 - sizes), otherwise=256.0)
    levels = _toned(blended, operations, kept.astype(jnp.int32), threshold)
    changed = levels.astype(jnp.uint8) if images.dtype == jnp.uint8 else levels.astype(jnp.float32) / 255.0
    return joined(changed, None if targets is None else placed)


def _layer(
    keys: Keys, images: Images, targets: Targets | None, strengths: Float[Array, " batch"], ranges: Ranges, fill: Fill
) -> tuple[Images, Targets | None]:
    of_operation, of_sign = split_each(keys, 2)
    operations = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(OPERATIONS)))(of_operation)
    signs = jnp.where(uniform(of_sign) < 0.5, -1.0, 1.0)
    changed = apply_operations(images, operations, signs * strengths, targets, ranges=ranges, fill=fill)
    return (changed, None) if targets is None else changed


def _is(operations: Int[Array, " batch"], name: str) -> jax.Array:
    return per_image(operations == OPERATIONS.index(name))


def _enhanced(
    images: Float[Array, "batch height width channels"],
    operations: Int[Array, " batch"],
    factors: Float[Array, " batch"],
) -> Float[Array, "batch height width channels"]:
    """Colour, contrast, brightness and sharpness: from grey, mean grey, black or the smoothed picture outwards."""
    grey = luma(images)
    end = jnp.where(_is(operations, "contrast"), jnp.mean(grey, (1, 2, 3), keepdims=True), 0.0)
    end = jnp.where(_is(operations, "colour"), grey, end)
    end = jnp.where(_is(operations, "sharpness"), smooth(images), end)
    return blend(end, images, per_image(factors))


def _toned(
    images: Float[Array, "batch height width channels"],
    operations: Int[Array, " batch"],
    bits: Int[Array, " batch"],
    threshold: Float[Array, " batch"],
) -> Int[Array, "batch height width channels"]:
    """Autocontrast, posterize, solarize and equalize, in whole numbers from 0 to 255."""
    images = jnp.where(_is(operations, "autocontrast"), stretched(images), images)
    levels = from_unit(images, jnp.uint8).astype(jnp.int32)
    levels = levels & per_image(256 - (1 << (8 - bits)))
    levels = jnp.where(levels.astype(jnp.float32) >= per_image(threshold), 255 - levels, levels)
    return jnp.where(_is(operations, "equalize"), equalized(levels), levels)
