"""The three products by `lax`'s convolution, the kernel's cotangent in pieces that fit a core's cache."""

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from cnnjax.functional.correlation import Correlation, Factor, lax_correlation
from cnnjax.functional.cpu.arrays import pad, split_groups
from cnnjax.functional.cpu.pieces import in_bands, in_pieces
from cnnjax.functional.geometry import dilated_size

# XLA convolves to so few channels by another routine, which pieces of few examples slow down three times and more.
_FEW_OUTPUTS, _FEW_EXAMPLES = 16, 8


def by_convolution(first: jax.Array, second: jax.Array, result: Factor, form: Correlation) -> jax.Array:
    """A product by one convolution of the whole arrays."""
    match result:
        case "output":
            return _convolution(first, second, form)
        case "images":
            return _convolution(second, flipped(first, form.groups), form_of_images(form))
        case "kernel":
            return _kernel(first, second, form)


def kernel_in_pieces(images: jax.Array, cotangent: jax.Array, form: Correlation, *, cache_bytes: int) -> jax.Array:
    """The kernel's cotangent, summed over pieces of the batch, or bands of an image, that fit a core's cache."""
    examples, positions = cotangent.shape[:2]
    room = images.dtype.itemsize * (images[:1].size + cotangent[:1].size) / cache_bytes
    few = cotangent.shape[-1] <= _FEW_OUTPUTS and room * _FEW_EXAMPLES > 1
    if few or examples * room <= 1 or examples == positions == 1:
        return _kernel(images, cotangent, form)
    if room > 1 and positions > 1:
        rows = -(-positions // math.ceil(room))
        rest = partial(kernel_in_pieces, cache_bytes=cache_bytes)
        return in_bands(_kernel, images, cotangent, form, rows=rows, rest=rest)
    return in_pieces(partial(_kernel, form=form), images, cotangent, max(1, int(1 / room)))


def _kernel(images: jax.Array, cotangent: jax.Array, form: Correlation) -> jax.Array:
    """A correlation of the images with the cotangent: channels in the place of examples, examples of channels."""
    groups, padding = form.groups, []
    for axis, (before, _) in enumerate(form.padding):
        extent = dilated_size(form.positions[axis], form.strides[axis])
        reach = extent + dilated_size(form.window[axis], form.dilation[axis]) - 1
        padding.append((before, reach - dilated_size(form.sizes[axis], form.input_dilation[axis]) - before))
    # (examples, *sizes, groups, channels) to (channels, *sizes, groups, examples).
    exchanged = jnp.swapaxes(split_groups(images, groups), 0, -1)
    kernel = _convolution(
        exchanged.reshape(*exchanged.shape[:-2], -1),
        jnp.moveaxis(cotangent, 0, -2),
        replace(form, window=form.positions, strides=form.dilation, dilation=form.strides, padding=tuple(padding)),
    )
    return jnp.moveaxis(kernel, 0, -2)


def flipped(kernel: jax.Array, groups: int) -> jax.Array:
    """Reversed in space, with input and output channels changed over within each group."""
    *window, inputs, _ = kernel.shape
    changed = jnp.moveaxis(split_groups(jnp.flip(kernel, range(len(window))), groups), -3, -1)
    return changed.swapaxes(-3, -2).reshape(*window, -1, groups * inputs)


def form_of_images(form: Correlation) -> Correlation:
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


def without_cropping(images: jax.Array, form: Correlation) -> tuple[jax.Array, Correlation]:
    """The same correlation of images that are cropped already, where padding is negative."""
    negative = [min(amounts) < 0 for amounts in form.padding]
    if not any(negative):
        return images, form
    # Both sides at once, for there may be less to crop than is cropped.
    margins = [
        (*amounts, step - 1) if crops else (0, 0, 0)
        for crops, amounts, step in zip(negative, form.padding, form.input_dilation, strict=True)
    ]
    images = pad(images, margins)
    padding = (((0, 0) if crops else amounts) for crops, amounts in zip(negative, form.padding, strict=True))
    spread = (1 if crops else step for crops, step in zip(negative, form.input_dilation, strict=True))
    return images, replace(form, sizes=images.shape[1:-1], padding=tuple(padding), input_dilation=tuple(spread))


def _convolution(images: jax.Array, kernel: jax.Array, form: Correlation) -> jax.Array:
    """`lax`'s convolution, with negative padding done first: XLA's simplifier can stop the process over it."""
    images, form = without_cropping(images, form)
    return lax_correlation(images, kernel, form)
