"""By the taps of the window: products of shifted images with the kernel's numbers, channels or matrices."""

import itertools
from collections.abc import Iterator, Sequence
from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.functional.correlation import Correlation, Factor
from cnnjax.functional.cpu.arrays import pad, split_groups
from cnnjax.functional.cpu.matrices import Multiply, by_lax, dot, outer
from cnnjax.functional.cpu.pieces import in_bands
from cnnjax.functional.geometry import dilated_size


def by_multiplying(first: jax.Array, second: jax.Array, result: Factor, form: Correlation) -> jax.Array:
    """One input channel in each group: products of the shifted images with one number for each channel."""
    groups = form.groups
    if result == "kernel":
        cotangent = split_groups(second, groups)
        axes = tuple(range(second.ndim - 1))
        kernel = [jnp.sum(taken[..., None] * cotangent, axes) for _, taken in _taken(first, form)]
        return jnp.stack(kernel).reshape(*form.window, 1, second.shape[-1])
    if result == "output":
        terms = (
            (taken[..., None] * _per_channel(second[tap], groups, taken.ndim)).reshape(*taken.shape[:-1], -1)
            for tap, taken in _taken(first, form)
        )
    else:
        terms = (
            _put(jnp.sum(split_groups(second, groups) * _per_channel(first[tap], groups, second.ndim), -1), tap, form)
            for tap in _taps(form)
        )
    # Else all of it is computed once more for every tap of a window, such as a pool's, that it is read through.
    return lax.optimization_barrier(reduce(jnp.add, terms))


def kernel_by_rows(images: jax.Array, cotangent: jax.Array, form: Correlation) -> jax.Array:
    """The kernel's cotangent of one input channel in each group: summed over rows of positions, one after the other.

    A sum over all positions at once is a loop over single numbers for XLA; rows are long, and stay in a core's cache.
    """

    def of_row(seen: jax.Array, given: jax.Array, row: Correlation) -> jax.Array:
        given = split_groups(given, form.groups)
        return jnp.stack([taken[..., None] * given for _, taken in _taken(seen, row)])

    total = in_bands(of_row, images, cotangent, form, rows=1)
    summed = jnp.sum(total, tuple(range(1, images.ndim)))
    return summed.reshape(*form.window, 1, cotangent.shape[-1])


def by_taps(
    first: jax.Array, second: jax.Array, result: Factor, form: Correlation, multiply: Multiply = by_lax
) -> jax.Array:
    """A matrix product for each tap."""
    match result:
        case "output":
            return reduce(jnp.add, (dot(taken, second[tap], 0, form, multiply) for tap, taken in _taken(first, form)))
        case "images":
            return reduce(jnp.add, (_put(dot(second, first[tap], 1, form, multiply), tap, form) for tap in _taps(form)))
        case "kernel":
            kernel = [outer(taken, second, form, multiply) for _, taken in _taken(first, form)]
            return jnp.stack(kernel).reshape(*form.window, first.shape[-1], second.shape[-1])


def by_planes(kernel: jax.Array, cotangent: jax.Array, form: Correlation) -> jax.Array:
    """The images' cotangent where images have few channels: their planes first, long rows of pixels last.

    One matrix product gives what every tap of every position contributes. Pixels whose places agree modulo the stride
    form a plane of their own, to which each tap belongs or not: the planes are sums of shifted contributions.
    """
    channels, outputs = kernel.shape[-2:]
    examples, rank = cotangent.shape[0], len(form.sizes)
    given = lax.dot_general(
        kernel.reshape(-1, outputs),
        cotangent.reshape(-1, outputs),
        (((1,), (1,)), ((), ())),
        precision=form.precision,
    )
    # The barriers keep XLA from making one slow loop of all this.
    given = lax.optimization_barrier(given).reshape(*form.window, channels, examples, *form.positions)
    counts = [
        count + (window - 1) * dilation // stride
        for count, window, dilation, stride in zip(
            form.positions, form.window, form.dilation, form.strides, strict=True
        )
    ]
    planes = {
        phase: jnp.zeros((channels, examples, *counts), kernel.dtype)
        for phase in itertools.product(*map(range, form.strides))
    }
    for tap in _taps(form):
        places = [index * dilation for index, dilation in zip(tap, form.dilation, strict=True)]
        shifts, phase = zip(*map(divmod, places, form.strides), strict=True)
        margins = [
            (shift, count - positions - shift, 0)
            for shift, count, positions in zip(shifts, counts, form.positions, strict=True)
        ]
        planes[phase] += lax.pad(given[tap], jnp.zeros((), kernel.dtype), [(0, 0, 0), (0, 0, 0), *margins])
    stacked = jnp.stack([lax.optimization_barrier(plane) for plane in planes.values()])
    split = stacked.reshape(*form.strides, channels, examples, *counts)
    # (*strides, channels, examples, *counts) to (examples, counts and strides in turn, channels).
    order = [axis for pair in zip(range(rank + 2, 2 * rank + 2), range(rank), strict=True) for axis in pair]
    pixels = [count * stride for count, stride in zip(counts, form.strides, strict=True)]
    woven = split.transpose(rank + 1, *order, rank).reshape(examples, *pixels, channels)
    margins = [
        (-before, size + before - count, 0)
        for size, (before, _), count in zip(form.sizes, form.padding, pixels, strict=True)
    ]
    return pad(woven, margins)


def _taps(form: Correlation) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, form.window))


def _taken(images: jax.Array, form: Correlation) -> Iterator[tuple[tuple[int, ...], jax.Array]]:
    """What each tap sees: the pixel at that place in the window, for every position."""
    extents = [dilated_size(count, stride) for count, stride in zip(form.positions, form.strides, strict=True)]
    margins = [
        (before, extent + dilated_size(window, dilation) - 1 - size - before, 0)
        for extent, window, dilation, size, (before, _) in zip(
            extents, form.window, form.dilation, form.sizes, form.padding, strict=True
        )
    ]
    padded = pad(images, margins)
    for tap in _taps(form):
        start = [place * dilation for place, dilation in zip(tap, form.dilation, strict=True)]
        stop = [low + extent for low, extent in zip(start, extents, strict=True)]
        yield (
            tap,
            lax.slice(padded, (0, *start, 0), (images.shape[0], *stop, images.shape[-1]), (1, *form.strides, 1)),
        )


def _put(values: jax.Array, tap: Sequence[int], form: Correlation) -> jax.Array:
    """The adjoint of what a tap sees: one value for each position, put at the pixel it came from."""
    margins = []
    for place, dilation, size, stride, (before, _), count in zip(
        tap, form.dilation, form.sizes, form.strides, form.padding, form.positions, strict=True
    ):
        low = place * dilation - before
        margins.append((low, size - low - dilated_size(count, stride), stride - 1))
    return pad(values, margins)


def _per_channel(numbers: jax.Array, groups: int, rank: int) -> jax.Array:
    """The kernel's numbers at one tap, with the axes of images whose channels are split into groups."""
    return numbers.reshape(*(1,) * (rank - 1), groups, -1)
