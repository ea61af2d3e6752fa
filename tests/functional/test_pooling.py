"""Pooling against windows written out in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from cnnjax.functional import avg_pool, max_pool

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
    with pytest.raises(ValueError, match=r"window=.* has 3 entries"):
        avg_pool(jnp.ones((1, 4, 4, 1)), (2, 2, 2))
    with pytest.raises(ValueError, match="expected"):
        max_pool(jnp.ones((4, 4)), 2)


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_a_window_wholly_in_the_padding_is_refused(pool):
    # Window 2 at stride 2 over 3 + 4 + 3: positions 0 (-3, -2) sees nothing.
    with pytest.raises(ValueError, match="window 0 of 5 lies wholly in the padding"):
        pool(jnp.ones((1, 4, 4, 1)), 2, padding=3)
