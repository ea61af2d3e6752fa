"""Pooling layers against Flax's, and against windows written out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import layers

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 9, 4)).astype(np.float32))


def test_max_pool_equals_flax():
    pool = layers.MaxPool(3, strides=2, padding="SAME")
    np.testing.assert_array_equal(pool.apply({}, IMAGES), nn.max_pool(IMAGES, (3, 3), (2, 2), "SAME"))


@pytest.mark.parametrize("count_padding", [True, False])
def test_avg_pool_equals_flax(count_padding):
    pool = layers.AvgPool(3, strides=2, padding="SAME", count_padding=count_padding)
    with jax.numpy_dtype_promotion("standard"):  # Flax divides floats by an integer count
        expected = nn.avg_pool(IMAGES, (3, 3), (2, 2), "SAME", count_include_pad=count_padding)
    np.testing.assert_allclose(pool.apply({}, IMAGES), expected, rtol=1e-5, atol=1e-6)


def test_misfit_pad_is_ceil_mode():
    # Rows: ceil((8 - 3) / 2) + 1 = 4, the last of them over two pixels; columns: (9 - 3) / 2 + 1 = 4. Floor has 3 rows.
    images = np.asarray(IMAGES)
    expected = np.empty((4, 4, 4, 4), np.float32)
    for row, column in np.ndindex(4, 4):
        expected[:, row, column] = images[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3].max((1, 2))
    np.testing.assert_array_equal(layers.MaxPool(3, strides=2, misfit="pad").apply({}, IMAGES), expected)
    np.testing.assert_array_equal(layers.MaxPool(3, strides=2).apply({}, IMAGES), expected[:, :3])


def test_misfit_pad_adds_no_window_that_sees_nothing():
    # ceil((9 - 2) / 3) + 1 = 4 columns, and the last would begin past the last pixel: 3 columns at 0, 3, 6.
    pooled = layers.MaxPool(2, strides=3, misfit="pad").apply({}, IMAGES)
    np.testing.assert_array_equal(pooled, nn.max_pool(IMAGES, (2, 2), (3, 3)))
    with pytest.raises(ValueError, match=r"layer MaxPool: .*wholly in the padding"):
        layers.MaxPool(2, strides=3, padding=2).apply({}, IMAGES)


def test_the_other_pools_equal_flax():
    size = IMAGES.shape[1:3]
    options = {"strides": 2, "padding": "SAME"}
    windows = ((3, 3), (2, 2), "SAME")
    np.testing.assert_array_equal(layers.MinPool(3, **options).apply({}, IMAGES), -nn.max_pool(-IMAGES, *windows))
    energy = nn.pool(jnp.square(IMAGES), 0.0, jax.lax.add, *windows)
    np.testing.assert_allclose(layers.L2Pool(3, **options).apply({}, IMAGES), np.sqrt(energy), rtol=1e-5)
    for layer, flax_pool in ((layers.GlobalMaxPool, nn.max_pool), (layers.GlobalAvgPool, nn.avg_pool)):
        with jax.numpy_dtype_promotion("standard"):
            expected = flax_pool(IMAGES, size)
        np.testing.assert_allclose(layer().apply({}, IMAGES), expected[:, 0, 0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(layer(keep_dims=True).apply({}, IMAGES), expected, rtol=1e-5, atol=1e-6)
    for layer, flax_pool in ((layers.AdaptiveMaxPool, nn.max_pool), (layers.AdaptiveAvgPool, nn.avg_pool)):
        with jax.numpy_dtype_promotion("standard"):
            expected = flax_pool(IMAGES, (2, 3), (2, 3))
        np.testing.assert_allclose(layer((4, 3)).apply({}, IMAGES), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "pool",
    [
        layers.GlobalMaxPool(),
        layers.GlobalMinPool(),
        layers.GlobalAvgPool(),
        layers.AdaptiveMaxPool(2),
        layers.AdaptiveAvgPool(2),
    ],
    ids=lambda pool: type(pool).__name__,
)
def test_errors_name_the_layer(pool):
    with pytest.raises(ValueError, match=rf"layer {type(pool).__name__}: images have shape \(2, 3\)"):
        pool.apply({}, jnp.ones((2, 3)))


@pytest.mark.parametrize("pool", [layers.MaxPool, layers.MinPool, layers.AvgPool, layers.L2Pool])
def test_pools_have_no_variables(pool):
    assert pool(2).init(jax.random.key(0), IMAGES) == {}
