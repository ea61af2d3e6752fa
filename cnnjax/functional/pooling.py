"""Pooling of any rank, channels last: one window reduction and its named forms."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnjax.functional.geometry import Misfit, Padding, Window, per_axis, slide_all
from cnnjax.functional.precision import require_floating


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

    `strides` is the window unless given.

    Raises:
        ValueError: as `geometry.slide`, a window lies wholly in the padding, or the data is not floating point.
    """
    pooled, _, _ = _pool(images, window, -math.inf, lax.max, strides, padding, dilation, misfit)
    return pooled


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
    """The mean of each window, channel by channel, over the pixels in it or, with `count_padding`, over all taps.

    `strides` is the window unless given.

    Raises:
        ValueError: as `geometry.slide`, a window lies wholly in the padding, or the data is not floating point.
    """
    total, taps, placed = _pool(images, window, 0.0, lax.add, strides, padding, dilation, misfit)
    if count_padding or all(axis.before <= 0 and axis.after <= 0 for axis in placed):
        return total / math.prod(taps)
    inside = jnp.ones((1, *images.shape[1:-1], 1), images.dtype)
    count, _, _ = _pool(inside, window, 0.0, lax.add, strides, padding, dilation, misfit)
    return total / count


def _pool(
    images: jax.Array,
    window: int | Sequence[int],
    neutral: float,
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    strides: int | Sequence[int] | None,
    padding: Padding,
    dilation: int | Sequence[int],
    misfit: Misfit,
) -> tuple[jax.Array, tuple[int, ...], tuple[Window, ...]]:
    rank = images.ndim - 2
    if rank < 1:
        raise ValueError(f"images have shape {images.shape}; expected (batch, *spatial, channels)")
    require_floating("images", images)
    taps = per_axis(window, rank, "window")
    steps = taps if strides is None else per_axis(strides, rank, "strides")
    placed = slide_all(images.shape[1:-1], taps, strides=steps, padding=padding, dilation=dilation, misfit=misfit)
    spread = per_axis(dilation, rank, "dilation")
    for axis, size in enumerate(images.shape[1:-1]):
        _check_all_see(size, placed[axis], taps[axis], steps[axis], spread[axis])
    pooled = lax.reduce_window(
        images,
        neutral,
        combine,
        window_dimensions=(1, *taps, 1),
        window_strides=(1, *steps, 1),
        padding=((0, 0), *((axis.before, axis.after) for axis in placed), (0, 0)),
        window_dilation=(1, *spread, 1),
    )
    return pooled, taps, placed


def _check_all_see(size: int, placed: Window, window: int, stride: int, dilation: int) -> None:
    """Raises ValueError where a window lies wholly in the padding: it has no maximum and no mean."""
    for position in range(placed.output):
        first = position * stride - placed.before
        if not any(0 <= first + tap * dilation < size for tap in range(window)):
            raise ValueError(
                f"window {position} of {placed.output} lies wholly in the padding ({placed.before} before,"
                f" {placed.after} after {size}); pad less, or take misfit='floor'"
            )
