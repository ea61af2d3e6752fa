"""RoIPool: the largest value in each bin of a box, bit for bit as Caffe and torchvision compute it."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnjax.functional.boxes.coordinates import as_rows
from cnnjax.functional.precision import require_floating


def roi_pool(
    features: Float[Array, "height width channels"],
    boxes: Float[Array, "boxes 4"],
    *,
    size: tuple[int, int],
    scale: float,
) -> Float[Array, "boxes rows columns channels"]:
    """The largest value in each of the bins that a box, rounded to whole pixels of the map, is divided into.

    Corners are rounded to pixels, halves away from zero; the last pixel counts as inside. A bin covers all pixels that
    it touches, so that neighbours may share some. Bins outside the map are zero. The gradient goes to the first
    largest value, row by row.

    Maxima of windows whose sides are powers of two are computed once for the whole map; four of them cover any bin.

    Args:
        features: of one picture.
        boxes: in pixels of the picture.
        size: bins down and along; (7, 7) with VGG-16.
        scale: one over the map's stride.

    Returns:
        The boxes' bins.

    Raises:
        ValueError: a number is not positive, or the features or boxes have another shape.

    Reference: Girshick (2015), "Fast R-CNN", section 2.1.

    >>> features = jnp.arange(16.0).reshape(4, 4, 1)
    >>> roi_pool(features, jnp.asarray([[0.0, 0.0, 3.0, 3.0]]), size=(2, 2), scale=1.0)[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    if min(size) < 1 or not scale > 0:
        raise ValueError(f"size={size} and scale={scale}; expected numbers above zero")
    features = jnp.asarray(features)
    require_floating("features", features)
    if features.ndim != 3 or 0 in features.shape[:2]:
        raise ValueError(
            f"features: shape {features.shape} came; expected (height, width, channels) of one picture; map over a"
            " batch with vmap"
        )
    return _pool(features, as_rows("boxes", boxes), tuple(size), float(scale))


@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _pool(features: jax.Array, boxes: jax.Array, size: tuple[int, int], scale: float) -> jax.Array:
    rows, columns, empty = _bins(features, boxes, size, scale)
    found = _range_maxima((features,), rows, columns, lambda first, second: second[0] > first[0])[0]
    return jnp.where(empty, jnp.zeros_like(found), found)


@_pool.defjvp
def _pool_and_derivative(
    boxes: jax.Array, size: tuple[int, int], scale: float, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Gathers what stands at the first largest value: a gather has derivatives of every order."""
    (features,), (d_features,) = primals, tangents
    height, width, channels = features.shape
    rows, columns, empty = _bins(features, boxes, size, scale)
    pixels = jnp.broadcast_to(jnp.arange(height * width).reshape(height, width, 1), features.shape)

    def later(first: tuple[jax.Array, ...], second: tuple[jax.Array, ...]) -> jax.Array:
        return (second[0] > first[0]) | ((second[0] == first[0]) & (second[1] < first[1]))

    fixed = lax.stop_gradient(features)
    _, place = _range_maxima((fixed, pixels), rows, columns, later)

    def gather(values: jax.Array) -> jax.Array:
        table = values.reshape(height * width, channels)
        found = jnp.take_along_axis(table, place.reshape(-1, channels), axis=0, mode="clip").reshape(place.shape)
        return jnp.where(empty, jnp.zeros_like(found), found)

    return gather(features), gather(d_features)


def _bins(
    features: jax.Array, boxes: jax.Array, size: tuple[int, int], scale: float
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array], jax.Array]:
    """First row and the row after the last of each bin, likewise columns, and whether nothing is in the bin."""
    scaled = boxes * scale
    rounded = jnp.trunc(scaled + jnp.where(scaled >= 0, 0.5, -0.5))
    x_min, y_min, x_max, y_max = jnp.moveaxis(rounded, -1, 0)
    rows = _edges(y_min, y_max, size[0], features.shape[0])
    columns = _edges(x_min, x_max, size[1], features.shape[1])
    empty = (rows[1] <= rows[0])[:, :, None] | (columns[1] <= columns[0])[:, None, :]
    return rows, columns, empty[..., None]


def _edges(first: jax.Array, last: jax.Array, bins: int, side: int) -> tuple[jax.Array, jax.Array]:
    length = jnp.maximum(last - first + 1, 1)
    # By a number, or a number laid over an array, XLA divides on CPUs by multiplying with its rounded inverse.
    divisor = lax.optimization_barrier(jnp.full_like(length, bins))
    step = (length / divisor)[:, None]
    number = jnp.arange(bins, dtype=first.dtype)[None]
    start, end = jnp.floor(number * step), jnp.ceil((number + 1) * step)
    first = first[:, None]
    return jnp.clip(start + first, 0, side).astype(jnp.int32), jnp.clip(end + first, 0, side).astype(jnp.int32)


def _range_maxima(
    tables: tuple[jax.Array, ...],
    rows: tuple[jax.Array, jax.Array],
    columns: tuple[jax.Array, jax.Array],
    later: Callable[[tuple[jax.Array, ...], tuple[jax.Array, ...]], jax.Array],
) -> tuple[jax.Array, ...]:
    """What is largest in each bin of the first table, with what stands there in the others."""
    height, width = tables[0].shape[:2]
    down, along = height.bit_length(), width.bit_length()

    def larger(first: tuple[jax.Array, ...], second: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        which = later(first, second)
        return tuple(jnp.where(which, two, one) for one, two in zip(first, second, strict=True))

    def shifted(arrays: tuple[jax.Array, ...], axis: int, by: int) -> tuple[jax.Array, ...]:
        """The window `by` further on; at the end, where there is none, the last one that is whole."""
        side = arrays[0].shape[axis]
        place = jnp.minimum(jnp.arange(side) + by, side - 1)
        return tuple(jnp.take(array, place, axis=axis) for array in arrays)

    windows = []
    column = tables
    for vertical in range(down):
        window = column
        for horizontal in range(along):
            windows.append(window)
            window = larger(window, shifted(window, 1, 1 << horizontal)) if horizontal + 1 < along else window
        column = larger(column, shifted(column, 0, 1 << vertical)) if vertical + 1 < down else column
    every = tuple(jnp.stack(kind).reshape(-1, kind[0].shape[-1]) for kind in zip(*windows, strict=True))

    (top, bottom), (left, right) = rows, columns
    tall, wide = (31 - lax.clz(jnp.maximum(end - start, 1)) for start, end in (rows, columns))
    lower, further = jnp.maximum(bottom - (1 << tall), 0), jnp.maximum(right - (1 << wide), 0)
    table = tall[:, :, None] * along + wide[:, None, :]

    def at(row: jax.Array, column: jax.Array) -> tuple[jax.Array, ...]:
        row, column = jnp.minimum(row, height - 1), jnp.minimum(column, width - 1)
        place = (table * height + row[:, :, None]) * width + column[:, None, :]
        return tuple(array.at[place].get(mode="promise_in_bounds") for array in every)

    return larger(larger(at(top, left), at(top, further)), larger(at(lower, left), at(lower, further)))
