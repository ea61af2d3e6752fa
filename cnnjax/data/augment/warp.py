"""The one sampler of all geometric transforms: pictures pulled through a map, and their targets pushed along it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from cnnjax.data.augment.draws import Fill, Images, Result, check_images, fill_of
from cnnjax.data.augment.matrices import Matrices, inverse, transform_points
from cnnjax.data.augment.targets import Points, Targets, check_targets, moved

# Each round of a fixed-point iteration shrinks the error by the field's steepness, below one where nothing folds.
_ROUNDS = 20


def warp(images: Images, matrices: Matrices, targets: Targets | None = None, *, fill: Fill = 0.0) -> Result:
    r"""Moves what pictures show by 3x3 matrices: the point $p$ goes to $M p$, in homogeneous coordinates.

    $$y(q) = x(M^{-1} q)$$

    for the centres $q$ of all pixels, x interpolated linearly between the centres of the four pixels around, with
    `fill`, 0 to 1, where there is no pixel. Maps of several steps are one product of matrices, sampled once (see
    `matrices`). Points that a perspective map would see from behind are filled.

    Raises:
        ValueError: images are not four axes of bytes or float32, matrices not (batch, 3, 3), targets do not fit, or
            `fill` is not in [0, 1].
    """
    check_images(images)
    check_targets(targets, images)
    batch, height, width, channels = images.shape
    if matrices.shape != (batch, 3, 3):
        raise ValueError(f"matrices have shape {matrices.shape}; expected {(batch, 3, 3)}: one for each image")
    matrices = matrices.astype(jnp.float32)
    x, y = _sources(inverse(matrices), height, width)
    pictures = _sample(images, x, y, fill_of(fill, channels))
    if targets is None:
        return pictures
    return pictures, moved(
        targets,
        points=lambda points: transform_points(matrices, points),
        masks=lambda masks: _nearest(masks, x, y),
        size=(height, width),
    )


def displace(
    images: Images, fields: Float[Array, "batch height width 2"], targets: Targets | None = None, *, fill: Fill = 0.0
) -> Result:
    r"""Bends pictures by fields of displacements (dx, dy), in pixels, from every pixel to what it will show.

    $$y(q) = x(q + d(q))$$

    x and what is beyond its border as in `warp`. A point p goes to the $q$ with $q + d(q) = p$, found by repeating
    $q \leftarrow p - d(q)$, $d$ interpolated linearly: where the field changes by a pixel per pixel or more, pictures
    fold, and there is no such place.

    Raises:
        ValueError: images are not four axes of bytes or float32, fields not two numbers for each of their pixels,
            targets do not fit, or `fill` is not in [0, 1].
    """
    check_images(images)
    check_targets(targets, images)
    batch, height, width, channels = images.shape
    if fields.shape != (batch, height, width, 2):
        raise ValueError(f"fields have shape {fields.shape}; expected {(batch, height, width, 2)}: (dx, dy) per pixel")
    fields = fields.astype(jnp.float32)
    x, y = (centres + fields[..., axis] for axis, centres in enumerate(_centres(height, width)))
    pictures = _sample(images, x, y, fill_of(fill, channels))
    if targets is None:
        return pictures

    def pushed(points: Points) -> Points:
        def closer(_: jax.Array, guess: Points) -> Points:
            column = jnp.clip(guess[..., 0] - 0.5, 0.0, width - 1.0)
            row = jnp.clip(guess[..., 1] - 0.5, 0.0, height - 1.0)
            return points - _interpolate(fields, column, row)

        return jax.lax.fori_loop(0, _ROUNDS, closer, points)

    return pictures, moved(targets, points=pushed, masks=lambda masks: _nearest(masks, x, y), size=(height, width))


def _centres(height: int, width: int) -> tuple[Float[Array, "1 height width"], Float[Array, "1 height width"]]:
    """Coordinates x and y of the centres of all pixels."""
    shape = (1, height, width)
    return (
        jnp.broadcast_to((jnp.arange(width, dtype=jnp.float32) + 0.5)[None, None], shape),
        jnp.broadcast_to((jnp.arange(height, dtype=jnp.float32) + 0.5)[None, :, None], shape),
    )


def _sources(
    inverses: Matrices, height: int, width: int
) -> tuple[Float[Array, "batch height width"], Float[Array, "batch height width"]]:
    """Coordinates x and y of the points that end on the centres of the pixels."""
    x, y = _centres(height, width)
    # Products and sums of their own, not a dot: what accelerators round to in one by default is whole pixels.
    u, v, w = (
        inverses[:, row, 0, None, None] * x + inverses[:, row, 1, None, None] * y + inverses[:, row, 2, None, None]
        for row in range(3)
    )
    seen = w > 0
    w = jnp.where(seen, w, 1.0)
    return jnp.where(seen, u / w, -1.0), jnp.where(seen, v / w, -1.0)


def _framed(images: Shaped[Array, "batch height width channels"], border: jax.Array) -> jax.Array:
    """Pictures with one pixel of `border` around, where every point beyond the picture is sent."""
    batch, height, width, channels = images.shape
    frame = jnp.broadcast_to(border.astype(images.dtype), (batch, height + 2, width + 2, channels))
    return frame.at[:, 1:-1, 1:-1].set(images)


def _sample(
    images: Images, x: Float[Array, "batch h w"], y: Float[Array, "batch h w"], fill: Float[Array, " channels"]
) -> Images:
    _, height, width, _ = images.shape
    fill = jnp.round(fill * 255.0) if images.dtype == jnp.uint8 else fill
    framed = _framed(images, fill[None, None, None])
    # Centres are half a pixel off from places in the array, and the frame is one pixel to each side.
    found = _interpolate(framed, jnp.clip(x + 0.5, 0.0, width + 1.0), jnp.clip(y + 0.5, 0.0, height + 1.0))
    return jnp.round(found).astype(images.dtype) if images.dtype == jnp.uint8 else found


def _interpolate(
    arrays: Shaped[Array, "batch height width channels"],
    columns: Float[Array, "batch *places"],
    rows: Float[Array, "batch *places"],
) -> Float[Array, "batch *places channels"]:
    """Arrays between their entries; places are within them."""
    left, top = (jnp.floor(places).astype(jnp.int32) for places in (columns, rows))
    right, bottom = jnp.minimum(left + 1, arrays.shape[2] - 1), jnp.minimum(top + 1, arrays.shape[1] - 1)
    along, down = (columns - left.astype(jnp.float32))[..., None], (rows - top.astype(jnp.float32))[..., None]
    corners = (_gather(arrays, at, row) for row in (top, bottom) for at in (left, right))
    upper_left, upper_right, lower_left, lower_right = (corner.astype(jnp.float32) for corner in corners)
    upper = upper_left + along * (upper_right - upper_left)
    lower = lower_left + along * (lower_right - lower_left)
    return upper + down * (lower - upper)


def _nearest(
    masks: Shaped[Array, "batch height width n"], x: Float[Array, "batch h w"], y: Float[Array, "batch h w"]
) -> Shaped[Array, "batch h w n"]:
    _, height, width, _ = masks.shape
    framed = _framed(masks, jnp.zeros((1, 1, 1, 1), masks.dtype))
    columns = jnp.clip(jnp.floor(x) + 1.0, 0.0, width + 1.0).astype(jnp.int32)
    return _gather(framed, columns, jnp.clip(jnp.floor(y) + 1.0, 0.0, height + 1.0).astype(jnp.int32))


def _gather(arrays: jax.Array, columns: jax.Array, rows: jax.Array) -> jax.Array:
    batch, height, width, channels = arrays.shape
    flat = arrays.reshape(batch, height * width, channels)
    return jax.vmap(lambda array, places: array.at[places].get(mode="clip"))(flat, rows * width + columns)
