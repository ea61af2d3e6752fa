"""The three products by oneDNN's forward convolution, which is all that jaxlib holds of it."""

import itertools
import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.functional.correlation import Correlation, Factor
from cnnjax.functional.cpu import onednn_call
from cnnjax.functional.cpu.convolutions import flipped, form_of_images, without_cropping
from cnnjax.functional.cpu.pieces import in_pieces
from cnnjax.functional.geometry import dilated_size


def is_possible(result: Factor, form: Correlation, channels: int, outputs: int) -> bool:
    """Whether a product has a form for oneDNN: pixels side by side, for what needs it taps too; of groups, whether one.

    The kernel's gradient is possible without groups, and where every channel is a group with one output.
    """
    if max(form.input_dilation) > 1:
        return False
    if result == "images":
        return max(form.strides) == 1 or max(form.dilation) == 1
    if result == "output":
        return True
    return form.groups == channels == outputs or (form.groups == 1 and form.dilation[-1] == 1)


def by_convolution(
    first: jax.Array, second: jax.Array, result: Factor, form: Correlation, *, cache_bytes: int
) -> jax.Array:
    """A product by one convolution, one for each phase of the stride, or one for each piece of the batch.

    Pieces hold `cache_bytes` of images and cotangents.
    """
    match result:
        case "output":
            return _convolution(first, second, form)
        case "images" if max(form.strides) == 1:
            return _convolution(second, flipped(first, form.groups), form_of_images(form))
        case "images":
            return _images_by_phases(first, second, form)
        case "kernel" if form.groups > 1:
            return in_pieces(partial(_depthwise_kernel, form=form), first, second, size=1)
        case "kernel":
            return _kernel_in_pieces(first, second, form, cache_bytes)


def _convolution(images: jax.Array, kernel: jax.Array, form: Correlation) -> jax.Array:
    images, form = without_cropping(images, form)
    return onednn_call.convolution(images, kernel, form)


def _images_by_phases(kernel: jax.Array, cotangent: jax.Array, form: Correlation) -> jax.Array:
    """The images' cotangent: pixels whose places agree modulo the stride see the same taps, in one convolution.

    Along an axis with padding P, pixel u s + r receives tap t from position p where u s + r + P = p s + t: the taps are
    t = t0 + s j with t0 = (r + P) mod s, their positions p = u + q - j with q = (r + P - t0) / s.
    """
    counts = [-(-size // stride) for size, stride in zip(form.sizes, form.strides, strict=True)]
    channels, rank = kernel.shape[-2] * form.groups, len(form.sizes)
    phases = []
    for phase in itertools.product(*map(range, form.strides)):
        first_taps, padding = [], []
        for axis, (place, stride) in enumerate(zip(phase, form.strides, strict=True)):
            shift, first_tap = divmod(place + form.padding[axis][0], stride)
            taps = len(range(first_tap, form.window[axis], stride))
            first_taps.append(first_tap)
            padding.append((taps - 1 - shift, counts[axis] + shift - form.positions[axis]))
        chosen = kernel[tuple(slice(tap, None, stride) for tap, stride in zip(first_taps, form.strides, strict=True))]
        if not math.prod(chosen.shape[:rank]):
            phases.append(jnp.zeros((cotangent.shape[0], *counts, channels), kernel.dtype))
            continue
        ones = (1,) * rank
        of_phase = Correlation(form.positions, chosen.shape[:rank], ones, tuple(padding), ones, ones, form.groups)
        phases.append(_convolution(cotangent, flipped(chosen, form.groups), of_phase))
    # (*strides, examples, *counts, channels) to (examples, counts and strides in turn, channels).
    split = jnp.stack(phases).reshape(*form.strides, *phases[0].shape)
    order = [axis for pair in zip(range(rank + 1, 2 * rank + 1), range(rank), strict=True) for axis in pair]
    woven = split.transpose(rank, *order, 2 * rank + 1)
    pixels = [count * stride for count, stride in zip(counts, form.strides, strict=True)]
    whole = woven.reshape(cotangent.shape[0], *pixels, channels)
    return lax.slice(whole, (0,) * (rank + 2), (cotangent.shape[0], *form.sizes, channels))


def _kernel_in_pieces(images: jax.Array, cotangent: jax.Array, form: Correlation, cache_bytes: int) -> jax.Array:
    # Else a rectifier before the images is computed twice: once for them, and once as they are read here.
    images = lax.optimization_barrier(images)
    bytes_each = images.dtype.itemsize * (images[:1].size + cotangent[:1].size)
    # Few examples are few channels for the convolution.
    least = 2 if math.prod(form.positions) >= 2000 else 8
    size = max(least, cache_bytes // bytes_each)
    return in_pieces(partial(_kernel, form=form), images, cotangent, size)


def _depthwise_kernel(images: jax.Array, cotangent: jax.Array, form: Correlation) -> jax.Array:
    """The kernel's cotangent of one example, whose channels are groups: its correlation with the cotangent."""
    exchanged = {"window": form.positions, "strides": form.dilation, "dilation": form.strides}
    as_window = replace(form, **exchanged, padding=tuple(_padding_of_kernel(form)))
    return jnp.expand_dims(_convolution(images, jnp.expand_dims(cotangent[0], -2), as_window)[0], -2)


def _kernel(images: jax.Array, cotangent: jax.Array, form: Correlation) -> jax.Array:
    """The kernel's cotangent as one picture, whose columns are (column, channel) and whose channels are examples.

    The window is the cotangent, its taps as far apart as the positions of the window were. All that is computed is
    wanted, in rows as long as the window is wide times the channels.
    """
    channels, rank = images.shape[-1], len(form.sizes)
    widths = (1,) * (rank - 1) + (channels,)
    padding = [
        (before * width, after * width) for (before, after), width in zip(_padding_of_kernel(form), widths, strict=True)
    ]
    columns = tuple(size * width for size, width in zip(form.sizes, widths, strict=True))
    picture = images.reshape(images.shape[0], -1).T.reshape(1, *columns, images.shape[0])
    fused = Correlation(
        sizes=columns,
        window=form.positions,
        strides=form.dilation,
        padding=tuple(padding),
        input_dilation=(1,) * rank,
        dilation=tuple(stride * width for stride, width in zip(form.strides, widths, strict=True)),
        groups=1,
    )
    kernel = _convolution(picture, jnp.moveaxis(cotangent, 0, -2), fused)
    return kernel.reshape(*form.window, channels, cotangent.shape[-1])


def _padding_of_kernel(form: Correlation) -> list[tuple[int, int]]:
    """Pixels before and after the images so that the cotangent as a window stands where the kernel has taps."""
    extents = (
        dilated_size(count, stride) + dilated_size(window, dilation) - 1
        for count, stride, window, dilation in zip(
            form.positions, form.strides, form.window, form.dilation, strict=True
        )
    )
    return [
        (before, extent - size - before)
        for extent, size, (before, _) in zip(extents, form.sizes, form.padding, strict=True)
    ]
