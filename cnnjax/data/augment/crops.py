"""Crops and mirrors: pixels that move by whole places, and a part of the picture brought to a new size."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

from cnnjax.data.augment.draws import (
    Fill,
    Images,
    Keys,
    Result,
    check_images,
    check_number,
    fill_of,
    image_keys,
    interval_of,
    split_each,
    uniform,
)
from cnnjax.data.augment.matrices import product, scaling_matrices, transform_points, translation_matrices
from cnnjax.data.augment.targets import Targets, check_targets, choose, moved

# So many parts of the picture are drawn; the first that fits is taken.
_TRIES = 10


def pad_and_crop(key: Keys, images: Images, targets: Targets | None = None, *, pixels: int, fill: Fill = 0.0) -> Result:
    """Shifts by whole pixels, at most `pixels` along each axis: a random crop of the picture with a border of `fill`.

    Raises:
        ValueError: `pixels` is negative, `fill` not in [0, 1], or images or targets do not fit.

    Reference: He et al. (2016), "Deep Residual Learning for Image Recognition", section 4.2.
    """
    check_images(images)
    check_targets(targets, images)
    if pixels < 0:
        raise ValueError(f"pixels={pixels}; expected 0 or more")
    keys = image_keys(key, images)
    corners = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, 2 * pixels + 1))(keys)
    border = fill_of(fill, images.shape[-1])
    border = jnp.round(border * 255.0) if images.dtype == jnp.uint8 else border
    pictures = _shifted(images, corners, pixels, border.astype(images.dtype))
    if targets is None:
        return pictures
    shifts = (pixels - corners).astype(jnp.float32)
    matrices = translation_matrices(shifts[:, 1], shifts[:, 0])
    return pictures, moved(
        targets,
        points=lambda points: transform_points(matrices, points),
        masks=lambda masks: _shifted(masks, corners, pixels, jnp.zeros(masks.shape[-1:], masks.dtype)),
        size=(images.shape[1], images.shape[2]),
    )


def flip(
    key: Keys,
    images: Images,
    targets: Targets | None = None,
    *,
    direction: Literal["horizontal", "vertical"] = "horizontal",
    probability: float = 0.5,
) -> Result:
    """Mirrors each image, of any type, left to right, or upside down if "vertical", with a probability.

    Raises:
        ValueError: `probability` is outside [0, 1], `direction` unknown, or images or targets do not fit.
    """
    check_images(images, any_type=True)
    check_targets(targets, images)
    check_number("probability", probability, 0.0, 1.0, "that of a mirrored image")
    if direction not in ("horizontal", "vertical"):
        raise ValueError(f"direction={direction!r}; expected 'horizontal' or 'vertical'")
    mirrored = uniform(image_keys(key, images)) < probability
    height, width = images.shape[1:3]
    axis = 2 if direction == "horizontal" else 1
    pictures = jnp.where(mirrored[:, None, None, None], jnp.flip(images, axis), images)
    if targets is None:
        return pictures
    signs, ends = ((-1.0, 1.0), (width, 0)) if axis == 2 else ((1.0, -1.0), (0, height))
    sign, end = (jnp.asarray(pair, jnp.float32)[None, None] for pair in (signs, ends))
    turned = moved(
        targets,
        points=lambda points: sign * points + end,
        masks=lambda masks: jnp.flip(masks, axis),
        size=(height, width),
    )
    return pictures, choose(mirrored, turned, targets)


def random_resized_crop(
    key: Keys,
    images: Images,
    targets: Targets | None = None,
    *,
    size: tuple[int, int],
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Result:
    """A random part of the picture, brought to `size`: its share of the area uniform, its aspect log-uniform.

    Sides are whole pixels. Of ten parts drawn the first that fits into the picture is taken, at a uniform place; where
    none does, the largest part about the centre whose aspect is allowed.

    Args:
        key: One key, or one per image.
        images: Bytes or float32 in [0, 1].
        targets: What moves along.
        size: Height and width of what comes out.
        area: The least and the largest share of the picture's area.
        aspect: The least and the largest ratio of width to height.

    Raises:
        ValueError: a range is not one, or as `crop_and_resize`.

    Reference: Szegedy et al. (2015), "Going Deeper with Convolutions", section 6.
    """
    check_images(images)
    check_size(size)
    areas = interval_of("area", area, lowest=1e-6, highest=1.0)
    low, high = interval_of("aspect", aspect, lowest=1e-3, highest=1e3)
    height, width = images.shape[1:3]
    of_area, of_aspect, of_place = split_each(image_keys(key, images), 3)
    surfaces = (height * width) * uniform(of_area, areas, shape=(_TRIES,))
    ratios = jnp.exp(uniform(of_aspect, (math.log(low), math.log(high)), shape=(_TRIES,)))
    widths, heights = jnp.round(jnp.sqrt(surfaces * ratios)), jnp.round(jnp.sqrt(surfaces / ratios))
    fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
    first = jnp.argmax(fits, -1)[:, None]
    wide, tall = (jnp.take_along_axis(sides, first, -1)[:, 0] for sides in (widths, heights))
    whole = min(max(width / height, low), high)
    around = (min(width, max(1, round(height * whole))), min(height, max(1, round(width / whole))))
    fitting = fits.any(-1)
    wide, tall = jnp.where(fitting, wide, float(around[0])), jnp.where(fitting, tall, float(around[1]))
    places = uniform(of_place, shape=(2,))
    room = jnp.stack([width - wide, height - tall], -1)
    # A draw just below 1 times the room plus one may round up to one place too far.
    drawn = jnp.minimum(jnp.floor(places * (room + 1.0)), room)
    corner = jnp.where(fitting[:, None], drawn, jnp.floor(room / 2))
    windows = jnp.concatenate([corner, corner + jnp.stack([wide, tall], -1)], -1)
    return crop_and_resize(images, windows, targets, size=size)


def crop_and_resize(
    images: Images,
    windows: Float[Array, "batch 4"],
    targets: Targets | None = None,
    *,
    size: tuple[int, int],
    fill: Fill = 0.0,
) -> Result:
    """The part of each picture in its window, brought to `size` as Pillow resizes: linearly, smoothing what shrinks.

    Each pixel is a mean of those of the window, by weights that fall off linearly from its centre: over one pixel of
    the picture, or, where it shrinks, one of the result. Masks take the pixel under the centre. A window may reach
    beyond the picture, which then lies on a canvas of `fill`; masks are zero there.

    Args:
        images: Bytes or float32 in [0, 1].
        windows: x_min, y_min, x_max, y_max in pixels of the picture, each minimum below its maximum.
        targets: What moves along.
        size: Height and width of what comes out.
        fill: What is shown beyond the picture, 0 to 1: one number, or one for each channel.

    Raises:
        ValueError: `size` is not two numbers of 1 or more, windows are not four numbers for each image, `fill` is not
            in [0, 1], or images or targets do not fit.
    """
    check_images(images)
    check_targets(targets, images)
    check_size(size)
    canvas = fill_of(fill, images.shape[-1])
    if windows.shape != (images.shape[0], 4):
        raise ValueError(f"windows have shape {windows.shape}; expected {(images.shape[0], 4)}: one for each image")
    left, top, right, bottom = (windows.astype(jnp.float32)[:, side] for side in range(4))
    height, width = images.shape[1:3]
    down = _weights(top, bottom, height, size[0])
    along = _weights(left, right, width, size[1])
    pictures = images.astype(jnp.float32)
    pictures = jnp.einsum("bih,bhwc->biwc", down, pictures, precision=lax.Precision.HIGHEST)
    pictures = jnp.einsum("bjw,biwc->bijc", along, pictures, precision=lax.Precision.HIGHEST)
    share = down.sum(-1)[:, :, None, None] * along.sum(-1)[:, None, :, None]
    canvas = jnp.round(canvas * 255.0) if images.dtype == jnp.uint8 else canvas
    pictures = pictures + (1.0 - share) * canvas[None, None, None]
    pictures = jnp.round(pictures).astype(images.dtype) if images.dtype == jnp.uint8 else pictures
    if targets is None:
        return pictures
    factors_x, factors_y = size[1] / (right - left), size[0] / (bottom - top)
    matrices = product(scaling_matrices(factors_x, factors_y), translation_matrices(-left, -top))
    rows, columns = _nearest(top, bottom, height, size[0]), _nearest(left, right, width, size[1])
    return pictures, moved(
        targets,
        points=lambda points: transform_points(matrices, points),
        masks=lambda masks: jax.vmap(_picked)(masks, rows, columns),
        size=size,
    )


def check_size(size: tuple[int, int]) -> None:
    """Raises ValueError unless `size` is a height and a width, each 1 or more."""
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size={size}; expected height and width, each 1 or more")


def _shifted(
    arrays: Shaped[Array, "batch height width channels"],
    corners: Int[Array, "batch 2"],
    pixels: int,
    border: Shaped[Array, " channels"],
) -> Shaped[Array, "batch height width channels"]:
    batch, height, width, channels = arrays.shape
    padded = jnp.broadcast_to(border, (batch, height + 2 * pixels, width + 2 * pixels, channels))
    padded = padded.at[:, pixels : pixels + height, pixels : pixels + width].set(arrays)

    def crop(array: jax.Array, corner: jax.Array) -> jax.Array:
        return lax.dynamic_slice(array, (corner[0], corner[1], 0), (height, width, channels))

    return jax.vmap(crop)(padded, corners)


def _weights(
    low: Float[Array, " batch"], high: Float[Array, " batch"], length: int, count: int
) -> Float[Array, "batch count length"]:
    """How much each of `length` pixels counts in each of `count` that cover the window from low to high."""
    low, high = low[:, None, None], high[:, None, None]
    step = (high - low) / count
    reach = jnp.maximum(step, 1.0)
    centres = low + (jnp.arange(count, dtype=jnp.float32)[None, :, None] + 0.5) * step
    pixels = jnp.arange(length, dtype=jnp.float32)[None, None]
    weights = jnp.maximum(1.0 - jnp.abs(pixels + 0.5 - centres) / reach, 0.0)
    weights = jnp.where((pixels >= jnp.floor(low)) & (pixels < jnp.ceil(high)), weights, 0.0)
    # Pixels of the window count in the whole though they are beyond the picture, so it is summed in closed form.
    last = jnp.floor(centres - 0.5)
    before = centres - 0.5 - last
    whole = _sum_of_side(before, reach, last - jnp.floor(low) + 1.0)
    whole = whole + _sum_of_side(1.0 - before, reach, jnp.ceil(high) - 1.0 - last)
    return weights / whole


def _sum_of_side(nearest: jax.Array, reach: jax.Array, most: jax.Array) -> jax.Array:
    """The sum of 1 - d / reach over the distances d = nearest, nearest + 1, ... below reach, at most so many."""
    number = jnp.clip(jnp.ceil(reach - nearest), 0.0, most)
    return number - number * (nearest + (number - 1.0) / 2) / reach


def _nearest(
    low: Float[Array, " batch"], high: Float[Array, " batch"], length: int, count: int
) -> Int[Array, "batch count"]:
    """The pixel under each of `count` centres; `length`, one too many, where it is beyond the picture."""
    step = ((high - low) / count)[:, None]
    centres = low[:, None] + (jnp.arange(count, dtype=jnp.float32)[None] + 0.5) * step
    return jnp.where((centres >= 0) & (centres < length), jnp.floor(centres), length).astype(jnp.int32)


def _picked(mask: Shaped[Array, "h w n"], rows: Int[Array, " i"], columns: Int[Array, " j"]) -> Shaped[Array, "i j n"]:
    rows, columns = rows[:, None], columns[None]
    return mask.at[rows, columns].get(mode="fill", fill_value=0)
