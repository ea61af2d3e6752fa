"""Pooling against windows written out in NumPy."""

import inspect
import math
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from cnnjax.functional import avg_pool, max_pool
from cnnjax.functional.geometry import Window, slide
from cnnjax.functional.pooling import (
    _check_all_see,
    adaptive_avg_pool,
    adaptive_max_pool,
    global_avg_pool,
    global_max_pool,
    global_min_pool,
    l2_pool,
    min_pool,
)

IMAGES = np.random.default_rng(0).normal(size=(2, 7, 8, 3)).astype(np.float32)


def windows(images, size, stride, fill=None, pads=((0, 0), (0, 0))):
    """All windows, as two last axes."""
    if fill is not None:
        images = np.pad(images, ((0, 0), *pads, (0, 0)), constant_values=fill)
    return sliding_window_view(images, (size, size), axis=(1, 2))[:, ::stride, ::stride]


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (3, 1)])
def test_valid_windows(size, stride):
    seen = windows(IMAGES, size, stride)
    np.testing.assert_array_equal(max_pool(jnp.asarray(IMAGES), size, strides=stride), seen.max((-1, -2)))
    np.testing.assert_allclose(avg_pool(jnp.asarray(IMAGES), size, strides=stride), seen.mean((-1, -2)), rtol=1e-5)


def test_padding_never_wins_and_counts_only_when_asked():
    images = -np.abs(IMAGES)
    pads = ((1, 1), (1, 1))
    seen = windows(images, 3, 1, np.nan, pads)
    pool = {"strides": 1, "padding": 1}
    np.testing.assert_array_equal(max_pool(jnp.asarray(images), 3, **pool), np.nanmax(seen, (-1, -2)))
    np.testing.assert_allclose(avg_pool(jnp.asarray(images), 3, **pool), np.nanmean(seen, (-1, -2)), rtol=1e-5)
    counted = windows(images, 3, 1, 0.0, pads).mean((-1, -2))
    np.testing.assert_allclose(avg_pool(jnp.asarray(images), 3, count_padding=True, **pool), counted, rtol=1e-5)


def test_the_lectures_four_by_four_image():
    image = jnp.asarray([[2, 4, 7, 4], [6, 6, 9, 8], [3, 4, 8, 3], [7, 5, 3, 6]], jnp.float32).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(max_pool(image, 2)[0, ..., 0], [[6, 9], [7, 8]])
    np.testing.assert_array_equal(avg_pool(image, 2)[0, ..., 0], [[4.5, 7], [4.75, 5]])


def test_misfit_pad_is_ceil_mode():
    seen = np.full((2, 4, 4, 3), np.nan)
    for row, column in np.ndindex(4, 4):
        seen[:, row, column] = IMAGES[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].max((1, 2))
    np.testing.assert_array_equal(max_pool(jnp.asarray(IMAGES), 2, misfit="pad"), seen)


def test_ranks_and_dilation():
    signal = jnp.arange(10.0).reshape(1, 10, 1)
    np.testing.assert_array_equal(max_pool(signal, 2, strides=1, dilation=3)[0, :, 0], np.arange(3, 10))
    volume = jnp.arange(64.0).reshape(1, 4, 4, 4, 1)
    assert max_pool(volume, (2, 4, 4))[0, :, 0, 0, 0].tolist() == [31, 63]


def test_bad_input():
    with pytest.raises(ValueError, match="does not fit an input of 2"):
        max_pool(jnp.ones((1, 2, 2, 1)), 3)
    with pytest.raises(ValueError, match=r"expected .* 3 spatial axes, as the window has; the batch axis is missing"):
        avg_pool(jnp.ones((1, 4, 4, 1)), (2, 2, 2))
    with pytest.raises(ValueError, match="expected"):
        max_pool(jnp.ones((4, 4)), 2)


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_a_window_wholly_in_the_padding_is_refused(pool):
    # Window 2 at stride 2 over 3 + 4 + 3: positions 0 (-3, -2) sees nothing.
    with pytest.raises(ValueError, match="window 0 of 5 lies wholly in the padding"):
        pool(jnp.ones((1, 4, 4, 1)), 2, padding=3)


@given(
    size=st.integers(1, 6),
    window=st.integers(1, 4),
    stride=st.integers(1, 7),
    before=st.integers(0, 20),
    after=st.integers(0, 20),
    dilation=st.integers(1, 8),
    misfit=st.sampled_from(["floor", "crop", "pad"]),
)
# Taps at -2 and 2 stand on both sides of two pixels.
@example(size=2, window=2, stride=4, before=2, after=1, dilation=4, misfit="floor")
def test_windows_in_the_padding_are_those_that_counting_finds(size, window, stride, before, after, dilation, misfit):
    placed = Window(1, before, after)
    if dilation * (window - 1) + 1 <= size + before + after:
        placed = slide(size, window, stride=stride, padding=(before, after), dilation=dilation, misfit=misfit)
    starts = [position * stride - before for position in range(placed.output)]
    blind = [
        position
        for position, start in enumerate(starts)
        if not set(range(start, start + window * dilation, dilation)) & set(range(size))
    ]
    refused = pytest.raises(ValueError, match=f"window {min(blind, default=None)} of {placed.output} lies wholly")
    with refused if blind else nullcontext():
        _check_all_see(size, placed, window, stride, dilation)


def test_a_window_that_straddles_a_short_input_is_refused():
    with pytest.raises(ValueError, match=r"window 0 of 1 lies wholly in the padding \(2 before, 1 after 2\)"):
        max_pool(jnp.ones((1, 2, 1)), 2, padding=[(2, 1)], dilation=4)


def test_windows_that_cannot_fail_are_not_looked_at():
    # A walk over all would not end.
    trillion = 10**12
    _check_all_see(trillion, Window(trillion, 1, 1), 3, 1, 1)
    with pytest.raises(ValueError, match=f"window {trillion} of {trillion + 1} lies wholly in the padding"):
        _check_all_see(trillion, Window(trillion + 1, 0, 2), 3, 1, 1)
    with pytest.raises(ValueError, match="window 0 of"):
        _check_all_see(4, Window(2 * trillion, trillion, trillion), 2, 1, 1)


def ceil_mode(images, window, stride, pad, reduce, counted):
    """Pooling in ceil mode, the last window dropped if it begins past the pixels and the padding before."""
    sizes = images.shape[1:-1]
    outputs = [math.ceil((size + 2 * pad - window) / stride) + 1 for size in sizes]
    outputs = [n - 1 if (n - 1) * stride >= size + pad else n for n, size in zip(outputs, sizes, strict=True)]
    pooled = np.empty((images.shape[0], *outputs, images.shape[-1]), images.dtype)
    for position in np.ndindex(*outputs):
        starts = [p * stride - pad for p in position]
        inside = [slice(max(start, 0), start + window) for start in starts]
        declared = math.prod(min(start + window, n + pad) - start for start, n in zip(starts, sizes, strict=True))
        pixels = images[(slice(None), *inside)].reshape(images.shape[0], -1, images.shape[-1])
        pooled[(slice(None), *position)] = reduce(pixels) if not counted else pixels.sum(1) / declared
    return pooled


@pytest.mark.parametrize(
    ("window", "stride", "pad"),
    [(2, 3, 0), (2, 2, 1), (3, 2, 1), (2, 3, 1), (4, 3, 2), (1, 4, 0), (8, 3, 0), (11, 4, 1)],
)
def test_ceil_mode(window, stride, pad):
    options = {"strides": stride, "padding": pad, "misfit": "pad"}
    images = jnp.asarray(IMAGES)
    for pool, reduce in (
        (max_pool, lambda pixels: pixels.max(1)),
        (min_pool, lambda pixels: pixels.min(1)),
        (avg_pool, lambda pixels: pixels.mean(1)),
        (l2_pool, lambda pixels: np.linalg.norm(pixels, axis=1)),
    ):
        expected = ceil_mode(IMAGES, window, stride, pad, reduce, False)
        np.testing.assert_allclose(pool(images, window, **options), expected, rtol=1e-5, atol=1e-6)
    expected = ceil_mode(IMAGES, window, stride, pad, None, True)
    np.testing.assert_allclose(avg_pool(images, window, count_padding=True, **options), expected, rtol=1e-5, atol=1e-6)


def test_ceil_mode_of_a_window_larger_than_the_picture():
    # PyTorch's numbers. Taps beyond the padding never count; those on it do, where they are asked to.
    pair = jnp.asarray([1.0, 3.0]).reshape(1, 2, 1)
    for pool, expected in ((max_pool, 3), (min_pool, 1), (avg_pool, 2), (l2_pool, 10**0.5)):
        np.testing.assert_allclose(pool(pair, 3, misfit="pad"), [[[expected]]], rtol=1e-6)
        np.testing.assert_array_equal(
            jax.grad(lambda x, pool=pool: pool(x, 3, misfit="pad").sum())(pair).shape, (1, 2, 1)
        )
    padded = {"strides": 3, "padding": 1, "misfit": "pad", "count_padding": True}
    np.testing.assert_allclose(avg_pool(pair, 5, **padded), [[[1.0]]])
    # Less than a stride may be missing: PyTorch has no output here either.
    for window, strides in ((3, 1), (5, 3)):
        with pytest.raises(ValueError, match=rf"window of {window} does not fit an input of 2; .* at least 3"):
            max_pool(pair, window, strides=strides, misfit="pad")


@pytest.mark.parametrize("pool", [max_pool, min_pool, avg_pool, l2_pool])
def test_crop_is_floor(pool):
    images = jnp.asarray(IMAGES)
    np.testing.assert_array_equal(pool(images, 2, misfit="crop"), pool(images[:, :6], 2))


def test_l2_by_hand_and_at_zero():
    images = jnp.asarray([3.0, 4, 0, 0, -5, 12]).reshape(1, 6, 1)
    np.testing.assert_array_equal(l2_pool(1e-24 * images, 2), np.zeros((1, 3, 1)))
    np.testing.assert_allclose(l2_pool(images, 2)[0, :, 0], [5, 0, 13], rtol=1e-6)
    gradient = jax.grad(lambda x: l2_pool(x, 2).sum())(images)[0, :, 0]
    np.testing.assert_allclose(gradient, [3 / 5, 4 / 5, 0, 0, -5 / 13, 12 / 13], rtol=1e-6)
    assert jnp.isnan(l2_pool(images.at[0, 2, 0].set(jnp.nan), 2)[0, 1, 0])


def test_half_precision_is_summed_in_float32():
    # 300 ones: in bfloat16 a running sum stops at 256. 40,000 squared is beyond float16.
    images = jnp.ones((1, 300, 1), jnp.bfloat16)
    for pooled in (avg_pool(images, 300), global_avg_pool(images), adaptive_avg_pool(images, 1)):
        assert pooled.dtype == jnp.bfloat16
        assert pooled.item() == 1
    assert l2_pool(jnp.full((1, 2, 1), 40000, jnp.float16), 2).item() == np.float16(40000 * math.sqrt(2))


@pytest.mark.parametrize("sizes", [(9,), (4, 5), (2, 3, 4)], ids=["1-D", "2-D", "3-D"])
@pytest.mark.parametrize(
    ("pool", "reduce"),
    [(global_max_pool, np.max), (global_min_pool, np.min), (global_avg_pool, np.mean)],
    ids=["max", "min", "mean"],
)
def test_global(pool, reduce, sizes):
    images = np.random.default_rng(1).normal(size=(2, *sizes, 3)).astype(np.float32)
    axes = tuple(range(1, 1 + len(sizes)))
    np.testing.assert_allclose(pool(jnp.asarray(images)), reduce(images, axes), rtol=1e-5, atol=1e-6)
    kept = reduce(images, axes, keepdims=True)
    np.testing.assert_allclose(pool(jnp.asarray(images), keep_dims=True), kept, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("output_size", [1, 3, 8, (7, 5), (2, 4), (10, 3)], ids=str)
def test_adaptive(output_size):
    counts = np.broadcast_to(output_size, 2)
    expected = np.empty((2, 2, *counts, 3), np.float32)
    for row, column in np.ndindex(*counts):
        part = IMAGES[
            :,
            math.floor(row * 7 / counts[0]) : math.ceil((row + 1) * 7 / counts[0]),
            math.floor(column * 8 / counts[1]) : math.ceil((column + 1) * 8 / counts[1]),
        ]
        expected[:, :, row, column] = part.max((1, 2)), part.mean((1, 2))
    np.testing.assert_array_equal(adaptive_max_pool(jnp.asarray(IMAGES), output_size), expected[0])
    pooled = adaptive_avg_pool(jnp.asarray(IMAGES), output_size)
    np.testing.assert_allclose(pooled, expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "pool", [global_max_pool, lambda x: adaptive_max_pool(x, (1, 2)), lambda x: max_pool(x, 3)], ids=["g", "a", "w"]
)
def test_the_first_of_equal_maxima_in_row_major_order_gets_the_gradient(pool):
    image = jnp.asarray([[0, 1, 1], [1, 1, 0], [1, 0, 1]], jnp.float32).reshape(1, 3, 3, 1)
    gradient = jax.grad(lambda x: pool(x).sum())(image)[0, ..., 0]
    both = pool(image).size == 2
    np.testing.assert_array_equal(gradient, [[0, 1 + both, 0], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("pool", [max_pool, min_pool, avg_pool, l2_pool])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window=0 is too small"),
        ({"window": 2, "strides": -1}, "strides=-1 is too small"),
        ({"window": 2, "dilation": 0}, "dilation=0 is too small"),
        ({"window": 2, "padding": "HALF"}, "padding='HALF' is unknown"),
        ({"window": 3, "dilation": 4}, "does not fit an input of 7"),
    ],
    ids=["window", "strides", "dilation", "padding", "extent"],
)
def test_bad_windows(pool, options, message):
    with pytest.raises(ValueError, match=message):
        pool(jnp.asarray(IMAGES), **options)


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: inspect.unwrap(max_pool)(x, 2),
        lambda x: inspect.unwrap(min_pool)(x, 2),
        lambda x: inspect.unwrap(avg_pool)(x, 2),
        lambda x: inspect.unwrap(l2_pool)(x, 2),
        inspect.unwrap(global_max_pool),
        inspect.unwrap(global_min_pool),
        inspect.unwrap(global_avg_pool),
        lambda x: inspect.unwrap(adaptive_max_pool)(x, 2),
        lambda x: inspect.unwrap(adaptive_avg_pool)(x, 2),
    ],
    ids="max min avg l2 global_max global_min global_avg adaptive_max adaptive_avg".split(),
)
def test_bad_images(pool):
    for shape in ((4, 4), (1, 2, 2, 2, 2, 1), (1, 0, 2, 1)):
        with pytest.raises(ValueError, match="1 to 3 spatial axes, none of them empty"):
            pool(jnp.ones(shape))
    with pytest.raises(ValueError, match="images: int32 came, floating point was expected"):
        pool(jnp.ones((1, 4, 4, 1), jnp.int32))


@pytest.mark.parametrize("pool", [adaptive_max_pool, adaptive_avg_pool])
def test_bad_output_sizes(pool):
    with pytest.raises(ValueError, match="output_size=0 is too small"):
        pool(jnp.asarray(IMAGES), 0)
    with pytest.raises(ValueError, match=r"output_size=\(1, 2, 3\) has 3 entries"):
        pool(jnp.asarray(IMAGES), (1, 2, 3))
