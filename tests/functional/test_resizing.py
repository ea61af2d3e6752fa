"""Bilinear resizing against a loop over pixels and scipy.ndimage."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from cnnjax.functional.resizing import resize_bilinear

IMAGES = np.random.default_rng(0).standard_normal((2, 5, 4, 3), np.float32)


def one_by_one(images, height, width):
    """Every pixel from its four neighbours, in double precision."""
    _, rows, columns, _ = images.shape
    images = images.astype(np.float64)
    result = np.empty((images.shape[0], height, width, images.shape[-1]))
    for i, j in np.ndindex(height, width):
        y = min(max((i + 0.5) * rows / height - 0.5, 0), rows - 1)
        x = min(max((j + 0.5) * columns / width - 0.5, 0), columns - 1)
        top, left = math.floor(y), math.floor(x)
        bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
        down, across = y - top, x - left
        upper = (1 - across) * images[:, top, left] + across * images[:, top, right]
        lower = (1 - across) * images[:, bottom, left] + across * images[:, bottom, right]
        result[:, i, j] = (1 - down) * upper + down * lower
    return result


@pytest.mark.parametrize("size", [(40, 32), (5, 4), (13, 7), (3, 2), (1, 9)])
def test_pixels_lie_between_their_neighbours(size):
    resized = jax.jit(resize_bilinear, static_argnums=1)(IMAGES, size)
    assert resized.dtype == jnp.float32
    np.testing.assert_allclose(resized, one_by_one(IMAGES, *size), rtol=0, atol=1e-6)


def test_whole_factors_are_scipys():
    expected = scipy.ndimage.zoom(IMAGES, (1, 4, 4, 1), order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(resize_bilinear(jnp.asarray(IMAGES), (20, 16)), expected, rtol=0, atol=1e-6)


def test_types_stay():
    assert resize_bilinear(jnp.asarray(IMAGES, jnp.bfloat16), (7, 7)).dtype == jnp.bfloat16


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("images", "size", "message"),
    [
        (np.zeros((1, 2, 2, 1), np.uint8), (4, 4), "images: uint8 came, floating point was expected"),
        (np.zeros((2, 2, 1), np.float32), (4, 4), r"shape \(2, 2, 1\); expected \(batch, height, width, channels\)"),
        (np.zeros((1, 0, 2, 1), np.float32), (4, 4), r"shape \(1, 0, 2, 1\)"),
        (np.zeros((1, 2, 2, 1), np.float32), (4, 0), r"size=\(4, 0\) is too small"),
        (np.zeros((1, 2, 2, 1), np.float32), (4, 4, 4), r"size=\(4, 4, 4\)"),
    ],
)
def test_what_cannot_be_resized(images, size, message):
    with pytest.raises(ValueError, match=message):
        resize_bilinear(jnp.asarray(images), size)
