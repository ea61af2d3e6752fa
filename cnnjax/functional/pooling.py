"""Pooling over one to three spatial axes, channels last: sliding, global, and onto a given size."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cnnjax.functional.extrema import Windows, extremum, extremum_along
from cnnjax.functional.factors import check_axes
from cnnjax.functional.geometry import Misfit, Padding, Window, pad_all, per_axis, slide_all
from cnnjax.functional.precision import at_least_float32, require_floating


def max_pool(
    images: Float[Array, "batch *spatial channels"],
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    misfit: Misfit = "floor",
) -> Float[Array, "batch *positions channels"]:
    """The largest value in each window, channel by channel; padding never wins.

    `strides` is the window unless given. `misfit="pad"` is the ceil mode of other libraries: one more window where
    the stride leaves a remainder, unless it would begin past the last pixel and the padding before; the first window
    may be larger than the padded images, by less than the stride.

    The gradient goes to the first of equal maxima, in row-major order, as XLA's does. NaN in a window is its maximum
    (on a CPU; elsewhere as in `lax.reduce_window`).

    Raises:
        ValueError: as `geometry.slide`, a window lies wholly in the padding, there are not 1 to 3 spatial axes, or the
            images are not floating point.

    >>> max_pool(jnp.asarray([1.0, 5, 2, 4]).reshape(1, 4, 1), 2)[0, :, 0].tolist()
    [5.0, 4.0]
    """
    return extremum(images, _place(images, window, strides, padding, dilation, misfit), largest=True)


def min_pool(
    images: Float[Array, "batch *spatial channels"],
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    misfit: Misfit = "floor",
) -> Float[Array, "batch *positions channels"]:
    """The smallest value in each window; in all else as `max_pool`.

    Raises:
        ValueError: as `max_pool`.
    """
    return extremum(images, _place(images, window, strides, padding, dilation, misfit), largest=False)


def avg_pool(
    images: Float[Array, "batch *spatial channels"],
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    misfit: Misfit = "floor",
    count_padding: bool = False,
) -> Float[Array, "batch *positions channels"]:
    """The mean of each window, over the pixels in it or, with `count_padding`, over the taps on padding as well.

    `strides` and `misfit` are as in `max_pool`; what `misfit="pad"` adds beyond `padding` never counts. Types
    below float32 are summed in it.

    Raises:
        ValueError: as `max_pool`.
    """
    windows = _place(images, window, strides, padding, dilation, misfit)
    total = _sum(images.astype(at_least_float32(images.dtype)), windows)
    counted = [(0, 0)] * images.ndim
    if count_padding:
        steps = window if strides is None else strides
        counted[1:-1] = pad_all(images.shape[1:-1], window, strides=steps, padding=padding, dilation=dilation)
    return (total / _taps_within(counted, images.shape, windows).astype(total.dtype)).astype(images.dtype)


def l2_pool(
    images: Float[Array, "batch *spatial channels"],
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    misfit: Misfit = "floor",
) -> Float[Array, "batch *positions channels"]:
    r"""The Euclidean norm of each window, channel by channel: $\sqrt{\sum_t x_t^2}$, padding being zero.

    `strides` and `misfit` are as in `max_pool`. The gradient of a window of zeros is zero. Types below float32
    are squared and summed in it, where squares of values beyond 1.8e19 overflow and those of values below 1e-19 vanish
    (below about 1e-23 where the device keeps subnormal numbers).

    Raises:
        ValueError: as `max_pool`.

    Reference: Sermanet, Chintala and LeCun (2012), "Convolutional neural networks applied to house numbers digit
        classification", section 2.2, with P = 2 and equal weights.

    >>> l2_pool(jnp.asarray([3.0, 4.0]).reshape(1, 2, 1), 2).item()
    5.0
    """
    windows = _place(images, window, strides, padding, dilation, misfit)
    total = _sum(jnp.square(images.astype(at_least_float32(images.dtype))), windows)
    zero = total == 0
    norm = jnp.sqrt(jnp.where(zero, jnp.ones_like(total), total))
    return jnp.where(zero, total, norm).astype(images.dtype)


def global_max_pool(
    images: Float[Array, "batch *spatial channels"], *, keep_dims: bool = False
) -> Float[Array, "batch *ones channels"]:
    """The largest value of each channel; its gradient goes to the first of equal maxima.

    With `keep_dims`, the spatial axes stay, of size one.

    Raises:
        ValueError: there are not 1 to 3 spatial axes, one has no pixels, or the images are not floating point.
    """
    return _global(images, lambda flat: extremum_along(flat, 1, largest=True), keep_dims)


def global_min_pool(
    images: Float[Array, "batch *spatial channels"], *, keep_dims: bool = False
) -> Float[Array, "batch *ones channels"]:
    """The smallest value of each channel; in all else as `global_max_pool`.

    Raises:
        ValueError: as `global_max_pool`.
    """
    return _global(images, lambda flat: extremum_along(flat, 1, largest=False), keep_dims)


def global_avg_pool(
    images: Float[Array, "batch *spatial channels"], *, keep_dims: bool = False
) -> Float[Array, "batch *ones channels"]:
    """The mean of each channel, types below float32 summed in it; with `keep_dims`, the spatial axes stay.

    Raises:
        ValueError: as `global_max_pool`.

    Reference: Lin, Chen and Yan (2014), "Network in network", section 3.2.
    """
    return _global(images, lambda flat: _mean(flat, 1), keep_dims)


def adaptive_max_pool(
    images: Float[Array, "batch *spatial channels"], output_size: int | Sequence[int]
) -> Float[Array, "batch *positions channels"]:
    """The largest value in each of `output_size` bins along each axis, for all axes or one number for each.

    Bin i of n over `size` pixels runs from floor(i size / n) to ceil((i + 1) size / n), so that bins overlap where n
    does not divide the size. The gradient goes to the first of equal maxima.

    Raises:
        ValueError: `output_size` is not one positive integer or one for each spatial axis, or as `global_max_pool`.

    >>> adaptive_max_pool(jnp.arange(5.0).reshape(1, 5, 1), 2)[0, :, 0].tolist()
    [2.0, 4.0]
    """
    return _adaptive(images, output_size, max_pool, lambda part, axis: extremum_along(part, axis, largest=True))


def adaptive_avg_pool(
    images: Float[Array, "batch *spatial channels"], output_size: int | Sequence[int]
) -> Float[Array, "batch *positions channels"]:
    """The mean of each of `output_size` bins along each axis, placed as `adaptive_max_pool` places them.

    Raises:
        ValueError: as `adaptive_max_pool`.

    >>> adaptive_avg_pool(jnp.arange(5.0).reshape(1, 5, 1), 2)[0, :, 0].tolist()
    [1.0, 3.0]
    """
    return _adaptive(images, output_size, avg_pool, _mean)


def _require_images(images: jax.Array) -> None:
    if not 3 <= images.ndim <= 5 or 0 in images.shape[1:-1]:
        raise ValueError(
            f"images have shape {images.shape}; expected (batch, *spatial, channels) with 1 to 3 spatial axes,"
            " none of them empty"
        )
    require_floating("images", images)


def _place(
    images: jax.Array,
    window: int | Sequence[int],
    strides: int | Sequence[int] | None,
    padding: Padding,
    dilation: int | Sequence[int],
    misfit: Misfit,
) -> Windows:
    _require_images(images)
    if isinstance(window, Sequence):
        check_axes(images.shape, len(window))
    sizes = images.shape[1:-1]
    taps = per_axis(window, len(sizes), "window")
    steps = taps if strides is None else per_axis(strides, len(sizes), "strides")
    spread = per_axis(dilation, len(sizes), "dilation")
    amounts = []
    placed = slide_all(sizes, taps, strides=steps, padding=padding, dilation=spread, misfit=misfit)
    for size, axis, tap, step, apart in zip(sizes, placed, taps, steps, spread, strict=True):
        if misfit == "pad" and (axis.output - 1) * step >= size + axis.before:
            axis = Window(axis.output - 1, axis.before, axis.after - step)
        _check_all_see(size, axis, tap, step, apart)
        # What "crop" takes away is not read in any case.
        amounts.append((axis.before, max(axis.after, 0)))
    return Windows((1, *taps, 1), (1, *steps, 1), ((0, 0), *amounts, (0, 0)), (1, *spread, 1))


def _check_all_see(size: int, placed: Window, window: int, stride: int, dilation: int) -> None:
    """Raises ValueError where a window lies wholly in the padding: it has no maximum and no mean."""
    position = _first_blind(size, placed, window, stride, dilation)
    if position is not None:
        raise ValueError(
            f"window {position} of {placed.output} lies wholly in the padding ({placed.before} before,"
            f" {placed.after} after {size}); pad less, or take misfit='floor'"
        )


def _first_blind(size: int, placed: Window, window: int, stride: int, dilation: int) -> int | None:
    """The first position whose window has no tap on a pixel, or None."""
    if placed.before > (window - 1) * dilation:
        return 0
    if dilation > size:
        # The taps may straddle the pixels: the one that comes first past the padding stands at the remainder.
        early = min(-(-placed.before // stride), placed.output)
        blind = (np.arange(early) * stride - placed.before) % dilation >= size
        if blind.any():
            return int(blind.argmax())
    # All others have their first tap on a pixel, until it is past the last.
    late = -(-(size + placed.before) // stride)
    return late if late < placed.output else None


def _sum(images: jax.Array, windows: Windows) -> jax.Array:
    return lax.reduce_window(images, 0.0, lax.add, **vars(windows))


def _taps_within(margins: Sequence[tuple[int, int]], shape: Sequence[int], windows: Windows) -> np.ndarray:
    """How many taps of each window are on the images or on so much around them."""
    counts = np.ones((1,) * len(shape))
    for axis, (size, positions, (before, after)) in enumerate(
        zip(shape, windows.positions(shape), margins, strict=True)
    ):
        if windows.window_dimensions[axis] > 1:
            starts = np.arange(positions)[:, None] * windows.window_strides[axis]
            taps = starts + np.asarray(windows.offsets(axis))
            within = ((taps >= -before) & (taps < size + after)).sum(1)
            counts = counts * within.reshape([-1 if each == axis else 1 for each in range(len(shape))])
    return counts


def _mean(array: jax.Array, axis: int) -> jax.Array:
    return jnp.mean(array, axis, dtype=at_least_float32(array.dtype)).astype(array.dtype)


def _global(images: jax.Array, reduce: Callable[[jax.Array], jax.Array], keep_dims: bool) -> jax.Array:
    _require_images(images)
    batch, *spatial, channels = images.shape
    pooled = reduce(images.reshape(batch, math.prod(spatial), channels))
    return pooled.reshape(batch, *(1,) * len(spatial), channels) if keep_dims else pooled


def _adaptive(
    images: jax.Array,
    output_size: int | Sequence[int],
    pool: Callable[..., jax.Array],
    reduce: Callable[[jax.Array, int], jax.Array],
) -> jax.Array:
    _require_images(images)
    sizes = images.shape[1:-1]
    counts = per_axis(output_size, len(sizes), "output_size")
    if not any(size % count for size, count in zip(sizes, counts, strict=True)):
        return pool(images, tuple(size // count for size, count in zip(sizes, counts, strict=True)))
    # The last axis first, for the first of equal maxima to be the first in row-major order.
    for axis, size, count in reversed(list(zip(range(1, images.ndim - 1), sizes, counts, strict=True))):
        bins = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        parts = [reduce(lax.slice_in_dim(images, start, stop, axis=axis), axis) for start, stop in bins]
        images = jnp.stack(parts, axis)
    return images
