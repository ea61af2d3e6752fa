"""Parts of pictures taken away: cutout and random erasing, each picture by its own draw. Targets stay as they are."""

import math
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnnjax.data.augment.draws import (
    Fill,
    Images,
    Keys,
    Result,
    check_images,
    check_number,
    fill_of,
    from_unit,
    image_keys,
    interval_of,
    split_each,
    uniform,
)
from cnnjax.data.augment.targets import Targets, check_targets, joined

# So many rectangles are drawn; the first that fits is taken.
_TRIES = 10


def cutout(key: Keys, images: Images, targets: Targets | None = None, *, side: int, fill: Fill = 0.0) -> Result:
    """Covers a square of `side` pixels about a pixel drawn from the whole picture; it may hang over the border.

    A square of an even side reaches one pixel less to the right and down.

    Raises:
        ValueError: `side` is not 1 or more, `fill` not in [0, 1], or images or targets do not fit.

    Reference: DeVries and Taylor (2017), "Improved Regularization of Convolutional Neural Networks with Cutout".
    """
    check_images(images)
    check_targets(targets, images)
    if side < 1:
        raise ValueError(f"side={side}; expected 1 or more, in pixels")
    height, width = images.shape[1:3]
    lengths = jnp.asarray([height, width], jnp.float32)[None]
    centres = jnp.floor(uniform(image_keys(key, images), shape=(2,)) * lengths)
    corners = jnp.minimum(centres, lengths - 1.0) - side // 2
    covered = inside(height, width, corners, corners + side)
    cover = from_unit(fill_of(fill, images.shape[-1]), images.dtype)[None, None, None]
    return joined(jnp.where(covered, cover, images), targets)


def random_erasing(
    key: Keys,
    images: Images,
    targets: Targets | None = None,
    *,
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    fill: Fill | Literal["noise"] = "noise",
) -> Result:
    """Covers, with a probability, a rectangle inside the picture by noise, each value uniform, or by `fill`.

    Of ten rectangles drawn, their share of the area uniform and their aspect log-uniform, the first that fits is taken;
    where none does the picture stays.

    Args:
        key: One key, or one per image.
        images: Bytes or float32 in [0, 1].
        targets: Stay as they are.
        probability: That of a covered picture.
        area: The least and the largest share of the picture's area.
        aspect: The least and the largest ratio of height to width.
        fill: "noise", or from 0 to 1 one number or one per channel.

    Raises:
        ValueError: a range or the probability is not one, `fill` not in [0, 1], or images or targets do not fit.

    Reference: Zhong et al. (2020), "Random Erasing Data Augmentation", algorithm 1, which draws the aspect uniformly.
    """
    check_images(images)
    check_targets(targets, images)
    check_number("probability", probability, 0.0, 1.0, "that of a covered picture")
    areas = interval_of("area", area, lowest=1e-6, highest=1.0)
    low, high = interval_of("aspect", aspect, lowest=1e-3, highest=1e3)
    height, width = images.shape[1:3]
    of_chance, of_area, of_aspect, of_place, of_noise = split_each(image_keys(key, images), 5)
    surfaces = (height * width) * uniform(of_area, areas, shape=(_TRIES,))
    ratios = jnp.exp(uniform(of_aspect, (math.log(low), math.log(high)), shape=(_TRIES,)))
    sides = jnp.round(jnp.stack([jnp.sqrt(surfaces * ratios), jnp.sqrt(surfaces / ratios)], -1))
    lengths = jnp.asarray([height, width], jnp.float32)
    fits = jnp.all((sides >= 1) & (sides <= lengths[None, None]), -1)
    sides = jnp.take_along_axis(sides, jnp.argmax(fits, 1)[:, None, None], 1)[:, 0]
    room = lengths[None] - sides
    corners = jnp.minimum(jnp.floor(uniform(of_place, shape=(2,)) * (room + 1.0)), room)
    chosen = fits.any(1) & (uniform(of_chance) < probability)
    covered = inside(height, width, corners, corners + sides) & chosen[:, None, None, None]
    if fill == "noise":
        cover = from_unit(uniform(of_noise, shape=images.shape[1:]), images.dtype)
    else:
        cover = from_unit(fill_of(fill, images.shape[-1]), images.dtype)[None, None, None]
    return joined(jnp.where(covered, cover, images), targets)


def inside(
    height: int, width: int, low: Float[Array, "batch 2"], high: Float[Array, "batch 2"]
) -> Bool[Array, "batch height width 1"]:
    """Which pixels have their centres in rectangles from `low` to `high`, (y, x) in pixels."""
    within = [
        (centres >= low[:, None, axis]) & (centres < high[:, None, axis])
        for axis, centres in enumerate(
            (jnp.arange(length, dtype=jnp.float32) + 0.5)[None] for length in (height, width)
        )
    ]
    return (within[0][:, :, None] & within[1][:, None, :])[..., None]
