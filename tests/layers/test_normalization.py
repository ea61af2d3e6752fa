"""`BatchNorm` against Flax's: the same variables, by name and shape, give the same outputs and statistics."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import layers

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 9, 4)).astype(np.float32))
KEY = jax.random.key(0)
PARAMS = {"scale": jnp.float32([1, 2, 3, 4]), "bias": jnp.float32([0, 1, 0, -1])}


def shapes(variables):
    return jax.tree.map(jnp.shape, variables)


def test_batch_norm_equals_flax():
    norm, reference = layers.BatchNorm(momentum=0.8), nn.BatchNorm(momentum=0.8)
    variables = norm.init(KEY, IMAGES, train=True)
    assert shapes(variables) == shapes(reference.init(KEY, IMAGES, use_running_average=False))
    scaled = variables | {"params": PARAMS}
    ours, new = norm.apply(scaled, IMAGES, train=True, mutable=["batch_stats"])
    theirs, expected = reference.apply(scaled, IMAGES, use_running_average=False, mutable=["batch_stats"])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), new, expected)
    moved = scaled | new
    np.testing.assert_allclose(
        norm.apply(moved, IMAGES, train=False),
        reference.apply(moved, IMAGES, use_running_average=True),
        rtol=1e-4,
        atol=1e-4,
    )


def test_float32_of_half_precision_equals_flax():
    # Of bfloat16 pictures in float32: nothing is rounded to bfloat16 on the way out.
    images = IMAGES.astype(jnp.bfloat16)
    norm, reference = layers.BatchNorm(dtype=jnp.float32), nn.BatchNorm(dtype=jnp.float32)
    stats = {"mean": jnp.float32([0, 0.1, -0.2, 0.3]), "var": jnp.float32([1, 0.5, 2, 0.9])}
    variables = {"params": PARAMS, "batch_stats": stats}
    with jax.numpy_dtype_promotion("standard"):  # Flax subtracts float32 statistics from bfloat16
        theirs, _ = reference.apply(variables, images, use_running_average=False, mutable=["batch_stats"])
        expected = reference.apply(variables, images, use_running_average=True)
    ours, _ = norm.apply(variables, images, train=True, mutable=["batch_stats"])
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(norm.apply(variables, images, train=False), expected, rtol=1e-5, atol=1e-5)


def test_initialisation_leaves_the_running_statistics_alone():
    stats = layers.BatchNorm().init(KEY, IMAGES + 5, train=True)["batch_stats"]
    np.testing.assert_array_equal(stats["mean"], np.zeros(4))
    np.testing.assert_array_equal(stats["var"], np.ones(4))
