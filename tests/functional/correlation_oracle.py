"""Correlation and its two adjoints in float64 NumPy, one tap after another: what the tests of convolution compare with.

Every option has one entry per spatial axis; padding is (before, after), where a negative `after` crops.
"""

import numpy as np
from jax import lax


def arrays(seed, *shapes):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape).astype(np.float32) for shape in shapes]


def pads(name, sizes, window, strides=None, input_dilation=None, dilation=None):
    """Padding by name, as `lax` has it for SAME, SAME_LOWER and VALID."""
    ones = (1,) * len(sizes)
    extents = [extent(*axis) for axis in zip(window, dilation or ones, strict=True)]
    if name == "FULL":
        return [(size - 1, size - 1) for size in extents]
    spread = [extent(*axis) for axis in zip(sizes, input_dilation or ones, strict=True)]
    return lax.padtype_to_pads(spread, extents, strides or ones, name)


def correlate(
    images, kernel, *, padding, strides=None, input_dilation=None, dilation=None, groups=1, mode="constant", **modes
):
    images, kernel = np.float64(images), np.float64(kernel)
    window = kernel.shape[:-2]
    ones = (1,) * len(window)
    frame = _frame(images, padding, input_dilation or ones, mode, **modes)
    runs = kernel.reshape(*window, kernel.shape[-2], groups, -1)
    result = 0
    for tap, seen in _taps(frame.shape[1:-1], window, strides or ones, dilation or ones):
        pixels = _runs(frame[:, *seen], groups)
        result = result + np.einsum("n...gc,cgk->n...gk", pixels, runs[tap])
    return result.reshape(*result.shape[:-2], kernel.shape[-1])


def input_adjoint(kernel, cotangent, sizes, *, padding, strides=None, input_dilation=None, dilation=None, groups=1):
    kernel, cotangent = np.float64(kernel), np.float64(cotangent)
    window = kernel.shape[:-2]
    ones = (1,) * len(window)
    input_dilation = input_dilation or ones
    images = np.zeros((cotangent.shape[0], *sizes, kernel.shape[-2] * groups))
    frame = np.zeros_like(_frame(images, padding, input_dilation, "constant"))
    runs = kernel.reshape(*window, kernel.shape[-2], groups, -1)
    for tap, seen in _taps(frame.shape[1:-1], window, strides or ones, dilation or ones):
        pixels = np.einsum("n...gk,cgk->n...gc", _runs(cotangent, groups), runs[tap])
        frame[:, *seen] += pixels.reshape(*pixels.shape[:-2], -1)
    # What was cropped was never seen.
    frame = np.pad(frame, [(0, 0), *((0, max(-after, 0)) for _, after in padding), (0, 0)])
    pixels = [
        slice(before, before + extent(size, step), step)
        for (before, _), size, step in zip(padding, sizes, input_dilation, strict=True)
    ]
    return frame[:, *pixels]


def kernel_adjoint(images, cotangent, window, *, padding, strides=None, input_dilation=None, dilation=None, groups=1):
    images, cotangent = np.float64(images), np.float64(cotangent)
    ones = (1,) * len(window)
    frame = _frame(images, padding, input_dilation or ones, "constant")
    kernel = np.zeros((*window, images.shape[-1] // groups, cotangent.shape[-1]))
    for tap, seen in _taps(frame.shape[1:-1], window, strides or ones, dilation or ones):
        pixels = _runs(frame[:, *seen], groups)
        pairs = (array.reshape(-1, *array.shape[-2:]) for array in (pixels, _runs(cotangent, groups)))
        kernel[tap] = np.einsum("pgc,pgk->cgk", *pairs).reshape(kernel.shape[-2:])
    return kernel


def extent(size, dilation):
    return (size - 1) * dilation + 1


def _frame(images, padding, input_dilation, mode, **modes):
    """The images with zeros between their pixels, padded and cropped."""
    batch, *sizes, channels = images.shape
    spread = np.zeros((batch, *map(extent, sizes, input_dilation), channels))
    spread[:, *(slice(None, None, step) for step in input_dilation)] = images
    grown = np.pad(
        spread, [(0, 0), *((before, max(after, 0)) for before, after in padding), (0, 0)], mode=mode, **modes
    )
    cropped = (slice(size + min(after, 0)) for size, (_, after) in zip(grown.shape[1:-1], padding, strict=True))
    return grown[:, *cropped]


def _taps(sizes, window, strides, dilation):
    """Every tap of the kernel, with the pixels of the frame that it meets."""
    axes = list(zip(sizes, window, strides, dilation, strict=True))
    for tap in np.ndindex(*window):
        yield (
            tap,
            tuple(
                slice(t * step, t * step + size - extent(taps, step) + 1, stride)
                for t, (size, taps, stride, step) in zip(tap, axes, strict=True)
            ),
        )


def _runs(array, groups):
    return array.reshape(*array.shape[:-1], groups, -1)
