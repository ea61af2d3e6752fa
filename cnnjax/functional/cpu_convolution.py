"""How a CPU computes the three products of a correlation: by shape, from measurements.

XLA takes its fast path only for convolutions from NHWC and HWIO to NHWC, and rewrites others into that form in the
entry computation alone: plain gradients inside `scan`, `while` and `cond` are two orders of magnitude slow, and so are
gradients of grouped convolutions everywhere. Here every product is such a convolution, in pieces that fit a cache
where it is the kernel's gradient, or matrix products for each tap, or shifted multiply-adds.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.functional.correlation import Correlation, Factor, lax_correlation, result_shape
from cnnjax.functional.geometry import dilated_size
from cnnjax.functional.precision import at_least_float32
from cnnjax.functional.primitives import vary_alike

# Three quarters of a core's own cache on the machines measured; a third less or more costs up to a fifth.
_CACHE_BYTES = 3 << 19
# XLA convolves to so few channels by another routine, which pieces of few examples slow down three times and more.
_FEW_OUTPUTS, _FEW_EXAMPLES = 16, 8
# Windows of more taps stay convolutions, for each tap costs compile time; so do kernels from one channel to many that
# hold more numbers than this.
_MOST_TAPS = 64
_MOST_PRODUCTS = 512
# More groups than this stay one grouped convolution, for each costs compile time.
_MOST_GROUPS_APART = 32
# And so do, except for the kernel's gradient, groups of fewer channels, which are not worth a call each.
_LEAST_CHANNELS_APART = 8


def cpu_product(
    first: jax.Array, second: jax.Array, *, result: Factor, form: Correlation, partitioned: bool = False
) -> jax.Array:
    """The factor `result` from the two others; see `trilinear.product`. Half precision is computed in float32.

    Where XLA divides the batch over devices (`partitioned`), nothing is cut out of it, for that would gather it first;
    so does XLA itself, before it convolves in groups, where there are too many of them to convolve apart.
    """
    if not (first.size and second.size):
        return jnp.zeros(result_shape(result, first, second, form), first.dtype)
    precise = at_least_float32(first.dtype)
    if first.dtype != precise:
        operands = first.astype(precise), second.astype(precise)
        return cpu_product(*operands, result=result, form=form, partitioned=partitioned).astype(first.dtype)
    channels, outputs = (first if result != "images" else second).shape[-1], second.shape[-1]
    if result == "images":
        channels = first.shape[-2] * form.groups
    taps = math.prod(form.window)
    if form.groups == 1 and _is_one_product(form):
        return _as_one_product(first, second, result, form)
    if max(form.input_dilation) == 1 and taps <= _MOST_TAPS:
        one_to_few = channels == 1 and result == "output" and outputs * taps <= _MOST_PRODUCTS
        if form.groups == channels > 1 or one_to_few:
            return _by_multiplying(first, second, result, form)
        if form.groups == 1 and _matrix_products_are_better(result, form, channels, outputs):
            return _by_taps(first, second, result, form)
    if max(form.input_dilation) == form.groups == 1 and result == "images" and _is_worth_planes(form, channels):
        return _to_few_channels(first, second, form)
    wide = min(channels, outputs) >= _LEAST_CHANNELS_APART * form.groups
    if 1 < form.groups <= _MOST_GROUPS_APART and (wide or partitioned or result == "kernel"):
        return _apart(first, second, result, form, partitioned)
    match result:
        case "output":
            return _convolution(first, second, form)
        case "images":
            return _convolution(second, _flipped(first, form.groups), _to_images(form))
        case "kernel":
            return (_kernel_by_convolution if partitioned else _kernel_in_pieces)(first, second, form)


def _is_one_product(form: Correlation) -> bool:
    """Whether the window is the whole image: a dense layer."""
    plain = max(form.input_dilation) == max(form.dilation) == 1 and not any(map(any, form.padding))
    return plain and tuple(form.window) == tuple(form.sizes)


def _as_one_product(first: jax.Array, second: jax.Array, result: Factor, form: Correlation) -> jax.Array:
    """The product of a dense layer, images and kernel being matrices over all taps and channels."""
    kernel = first if result == "images" else second
    if result == "kernel":
        product = _outer(first.reshape(1, first.shape[0], -1), second.reshape(1, second.shape[0], -1), form)
        return product.reshape(*form.window, first.shape[-1], second.shape[-1])
    matrix = kernel.reshape(-1, kernel.shape[-1])
    if result == "output":
        product = _dot(first.reshape(first.shape[0], -1), matrix, (-1, 0), form)
        return product.reshape(first.shape[0], *form.positions, kernel.shape[-1])
    product = _dot(second.reshape(second.shape[0], -1), matrix, (-1, -1), form)
    return product.reshape(second.shape[0], *form.sizes, kernel.shape[-2])


def _matrix_products_are_better(result: Factor, form: Correlation, channels: int, outputs: int) -> bool:
    """Whether matrix products are better: for small maps of many channels, and all gradients of a 1x1 window."""
    if math.prod(form.window) == 1:
        return result != "output"
    few = 64 if result == "output" else 256
    return math.prod(form.positions) <= few and min(channels, outputs) >= 128


def _is_worth_planes(form: Correlation, channels: int) -> bool:
    """Whether images' planes are better than a convolution: few channels, and few numbers for each pixel of a plane."""
    taps = math.prod(form.window)
    return channels <= 8 and taps <= 256 and channels * taps <= 150 * math.prod(form.strides)


def _by_multiplying(first: jax.Array, second: jax.Array, result: Factor, form: Correlation) -> jax.Array:
    """One input channel in each group: products of the shifted images with one number for each channel."""
    groups = form.groups
    if result == "kernel":
        cotangent = _split(second, groups)
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
            _put(jnp.sum(_split(second, groups) * _per_channel(first[tap], groups, second.ndim), -1), tap, form)
            for tap in _taps(form)
        )
    # Else all of it is computed once more for every tap of a window, such as a pool's, that it is read through.
    return lax.optimization_barrier(reduce(jnp.add, terms))


def _by_taps(first: jax.Array, second: jax.Array, result: Factor, form: Correlation) -> jax.Array:
    """A matrix product for each tap."""
    match result:
        case "output":
            return reduce(jnp.add, (_dot(taken, second[tap], (-1, 0), form) for tap, taken in _taken(first, form)))
        case "images":
            return reduce(jnp.add, (_put(_dot(second, first[tap], (-1, -1), form), tap, form) for tap in _taps(form)))
        case "kernel":
            kernel = [_outer(taken, second, form) for _, taken in _taken(first, form)]
            return jnp.stack(kernel).reshape(*form.window, first.shape[-1], second.shape[-1])


def _to_few_channels(kernel: jax.Array, cotangent: jax.Array, form: Correlation) -> jax.Array:
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
    return _pad(woven, margins)


def _kernel_in_pieces(images: jax.Array, cotangent: jax.Array, form: Correlation) -> jax.Array:
    """The kernel's cotangent, summed over pieces of the batch, or bands of an image, that fit a core's cache."""
    examples, positions = cotangent.shape[:2]
    room = images.dtype.itemsize * (images[:1].size + cotangent[:1].size) / _CACHE_BYTES
    few = cotangent.shape[-1] <= _FEW_OUTPUTS and room * _FEW_EXAMPLES > 1
    if few or examples * room <= 1 or examples == positions == 1:
        return _kernel_by_convolution(images, cotangent, form)
    if room > 1 and positions > 1:
        return _kernel_in_bands(images, cotangent, form, -(-positions // math.ceil(room)))
    together = max(1, int(1 / room))

    def part(start: int | jax.Array, count: int) -> jax.Array:
        seen, given = (lax.dynamic_slice_in_dim(array, start, count) for array in (images, cotangent))
        return _kernel_by_convolution(seen, given, form)

    whole, rest = divmod(examples, together)
    total = _looped(lambda index: part(index * together, together), whole, images)
    return total + part(whole * together, rest) if rest else total


def _kernel_in_bands(images: jax.Array, cotangent: jax.Array, form: Correlation, rows: int) -> jax.Array:
    """The same over bands of `rows` positions along the first axis; what is left of each example comes last."""
    step, overlap = form.strides[0], dilated_size(form.window[0], form.dilation[0]) - 1
    # Padded by hand along the first axis, for every band to be like the others.
    extent = dilated_size(form.positions[0], step) + overlap
    before, size = form.padding[0][0], dilated_size(form.sizes[0], form.input_dilation[0])
    margins = [(before, extent - size - before, form.input_dilation[0] - 1), *[(0, 0, 0)] * (len(form.sizes) - 1)]
    images = _pad(images, margins)

    def of_rows(count: int) -> Correlation:
        return replace(
            form,
            sizes=(dilated_size(count, step) + overlap, *form.sizes[1:]),
            padding=((0, 0), *form.padding[1:]),
            input_dilation=(1, *form.input_dilation[1:]),
        )

    examples, positions = cotangent.shape[:2]
    whole, rest = divmod(positions, rows)

    def part(index: int | jax.Array) -> jax.Array:
        example, band = index // whole, index % whole * rows
        sizes = of_rows(rows).sizes[0], rows
        seen, given = (
            lax.dynamic_slice_in_dim(lax.dynamic_slice_in_dim(array, example, 1), start, size, axis=1)
            for array, start, size in zip((images, cotangent), (band * step, band), sizes, strict=True)
        )
        return _kernel_by_convolution(seen, given, of_rows(rows))

    total = _looped(part, examples * whole, images)
    if not rest:
        return total
    done = whole * rows
    return total + _kernel_in_pieces(images[:, done * step :], cotangent[:, done:], of_rows(rest))


def _looped(part: Callable[[int | jax.Array], jax.Array], count: int, images: jax.Array) -> jax.Array:
    """The sum of `part(0)` to `part(count - 1)`."""
    if count == 1:
        return part(0)
    kind = jax.eval_shape(part, 0)
    zeros, _ = vary_alike(jnp.zeros(kind.shape, kind.dtype), images)
    return lax.fori_loop(0, count, lambda index, total: total + part(index), zeros)


def _apart(first: jax.Array, second: jax.Array, result: Factor, form: Correlation, partitioned: bool) -> jax.Array:
    """Each group for itself."""
    # The kernel's input channels are those of one group already.
    pairs = zip(*(jnp.split(array, form.groups, axis=-1) for array in (first, second)), strict=True)
    alone = replace(form, groups=1)
    parts = [cpu_product(*pair, result=result, form=alone, partitioned=partitioned) for pair in pairs]
    return jnp.concatenate(parts, axis=-1)


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
    padded = _pad(images, margins)
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
    return _pad(values, margins)


def _pad(images: jax.Array, margins: Sequence[tuple[int, int, int]]) -> jax.Array:
    return lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0), *margins, (0, 0, 0)])


def _split(array: jax.Array, groups: int) -> jax.Array:
    return array.reshape(*array.shape[:-1], groups, -1)


def _per_channel(numbers: jax.Array, groups: int, rank: int) -> jax.Array:
    """The kernel's numbers at one tap, with the axes of images whose channels are split into groups."""
    return numbers.reshape(*(1,) * (rank - 1), groups, -1)


def _dot(images: jax.Array, matrix: jax.Array, axes: tuple[int, int], form: Correlation) -> jax.Array:
    """The matrix product over one axis of each; XLA is at its best with the positions merged into one axis."""
    rows = images.reshape(-1, images.shape[-1])
    contracted = ((axes[0] % 2,), (axes[1] % 2,))
    product = lax.dot_general(rows, matrix, (contracted, ((), ())), precision=form.precision)
    return product.reshape(*images.shape[:-1], product.shape[-1])


def _outer(images: jax.Array, cotangent: jax.Array, form: Correlation) -> jax.Array:
    """The sum over examples and positions of the outer products of channels."""
    rows, columns = images.reshape(-1, images.shape[-1]), cotangent.reshape(-1, cotangent.shape[-1])
    over_rows = (((0,), (0,)), ((), ()))
    if rows.shape[-1] <= columns.shape[-1]:
        return lax.dot_general(rows, columns, over_rows, precision=form.precision)
    # The wider factor on the right is up to twice as fast.
    return lax.dot_general(columns, rows, over_rows, precision=form.precision).T


def _convolution(images: jax.Array, kernel: jax.Array, form: Correlation) -> jax.Array:
    """`lax`'s convolution, with negative padding done first: XLA's simplifier can stop the process over it."""
    negative = [min(amounts) < 0 for amounts in form.padding]
    if any(negative):
        # Both sides at once, for there may be less to crop than is cropped.
        margins = [
            (*amounts, step - 1) if crops else (0, 0, 0)
            for crops, amounts, step in zip(negative, form.padding, form.input_dilation, strict=True)
        ]
        images = _pad(images, margins)
        form = replace(
            form,
            sizes=images.shape[1:-1],
            padding=tuple((0, 0) if crops else amounts for crops, amounts in zip(negative, form.padding, strict=True)),
            input_dilation=tuple(
                1 if crops else step for crops, step in zip(negative, form.input_dilation, strict=True)
            ),
        )
    return lax_correlation(images, kernel, form)


def _flipped(kernel: jax.Array, groups: int) -> jax.Array:
    """Reversed in space, with input and output channels changed over within each group."""
    *window, inputs, _ = kernel.shape
    changed = jnp.moveaxis(_split(jnp.flip(kernel, range(len(window))), groups), -3, -1)
    return changed.swapaxes(-3, -2).reshape(*window, -1, groups * inputs)


def _to_images(form: Correlation) -> Correlation:
    """The correlation of the output's cotangent with the reversed kernel that gives the images' cotangent."""
    padding = []
    for axis, (before, _) in enumerate(form.padding):
        lead = dilated_size(form.window[axis], form.dilation[axis]) - 1 - before
        pixels = dilated_size(form.sizes[axis], form.input_dilation[axis])
        padding.append((lead, pixels + before - dilated_size(form.positions[axis], form.strides[axis])))
    return replace(
        form,
        sizes=form.positions,
        strides=form.input_dilation,
        input_dilation=form.strides,
        padding=tuple(padding),
    )


def _kernel_by_convolution(images: jax.Array, cotangent: jax.Array, form: Correlation) -> jax.Array:
    """A correlation of the images with the cotangent: channels in the place of examples, examples of channels."""
    groups, padding = form.groups, []
    for axis, (before, _) in enumerate(form.padding):
        extent = dilated_size(form.positions[axis], form.strides[axis])
        reach = extent + dilated_size(form.window[axis], form.dilation[axis]) - 1
        padding.append((before, reach - dilated_size(form.sizes[axis], form.input_dilation[axis]) - before))
    # (examples, *sizes, groups, channels) to (channels, *sizes, groups, examples).
    exchanged = jnp.swapaxes(_split(images, groups), 0, -1)
    kernel = _convolution(
        exchanged.reshape(*exchanged.shape[:-2], -1),
        jnp.moveaxis(cotangent, 0, -2),
        replace(form, window=form.positions, strides=form.dilation, dilation=form.strides, padding=tuple(padding)),
    )
    return jnp.moveaxis(kernel, 0, -2)
