"""Normalisation against NumPy's mean and variance."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from cnnjax.functional import batch_norm, batch_statistics, normalize

IMAGES = np.random.default_rng(0).normal(2.0, 3.0, size=(8, 5, 4, 3)).astype(np.float32)


def test_statistics_are_numpys():
    mean, variance = batch_statistics(jnp.asarray(IMAGES))
    np.testing.assert_allclose(mean, IMAGES.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, IMAGES.var((0, 1, 2)), rtol=1e-4)


def test_masked_examples_do_not_count():
    where = np.array([True, False, True, True, False, True, True, False])
    mean, variance = batch_statistics(jnp.asarray(IMAGES), where=jnp.asarray(where))
    np.testing.assert_allclose(mean, IMAGES[where].mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, IMAGES[where].var((0, 1, 2)), rtol=1e-4)
    empty = batch_statistics(jnp.asarray(IMAGES), where=jnp.zeros(8, bool))
    np.testing.assert_array_equal(np.stack(empty), np.zeros((2, 3)))


@pytest.mark.parametrize("masked", [False, True])
def test_axis_name_pools_over_devices(masked):
    where = jnp.asarray(np.arange(8) % 3 > 0) if masked else jnp.ones(8, bool)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    one = PartitionSpec("data")

    @partial(jax.shard_map, mesh=mesh, in_specs=(one, one), out_specs=PartitionSpec())
    def pooled(images, where):
        return batch_statistics(images, where=where if masked else None, axis_name="data")

    kept = IMAGES[np.asarray(where)]
    mean, variance = pooled(jnp.asarray(IMAGES), where)
    np.testing.assert_allclose(mean, kept.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, kept.var((0, 1, 2)), rtol=1e-4)


def test_batch_norm_is_the_papers_formula():
    scale, bias = np.float32([1, 2, 3]), np.float32([0, -1, 1])
    expected = (IMAGES - IMAGES.mean((0, 1, 2))) / np.sqrt(IMAGES.var((0, 1, 2)) + 1e-5) * scale + bias
    result = batch_norm(jnp.asarray(IMAGES), scale=jnp.asarray(scale), bias=jnp.asarray(bias))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_half_precision_keeps_its_type_and_float32_statistics():
    images = jnp.asarray(IMAGES, jnp.bfloat16)
    mean, variance = batch_statistics(images)
    assert (mean.dtype, variance.dtype) == (jnp.float32, jnp.float32)
    assert normalize(images, mean, variance).dtype == jnp.bfloat16


def test_bad_mask():
    # Typecheckers are on in the tests, and would speak first.
    function = inspect.unwrap(batch_statistics)
    with pytest.raises(ValueError, match=r"where has shape \(3,\); expected \(8,\)"):
        function(jnp.asarray(IMAGES), where=jnp.ones(3, bool))


def test_integer_images_are_refused():
    function = inspect.unwrap(batch_statistics)
    with pytest.raises(ValueError, match="images: uint8 came, floating point was expected"):
        function(jnp.ones((2, 4, 4, 3), jnp.uint8))


def test_float64_stays_float64():
    # The mean is so large that float32 would lose the deviation of 1e-4.
    images = 1.0 + 1e-4 * np.random.default_rng(1).normal(size=(8, 5, 4, 3))
    with jax.enable_x64(True):
        found = jnp.asarray(images)
        mean, variance = batch_statistics(found)
        normal = normalize(found, mean, variance, epsilon=0.0)
    assert (mean.dtype, variance.dtype, normal.dtype) == (np.float64, np.float64, np.float64)
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(variance, images.var((0, 1, 2)), rtol=1e-6)
    expected = (images - images.mean((0, 1, 2))) / images.std((0, 1, 2))
    np.testing.assert_allclose(normal, expected, rtol=1e-5, atol=1e-7)
