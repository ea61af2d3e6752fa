"""Layers against Flax's own: the same parameters, by name and shape, give the same outputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import layers

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 9, 4)).astype(np.float32))
KEY = jax.random.key(0)


def shapes(variables):
    return jax.tree.map(jnp.shape, variables)


@pytest.mark.parametrize(
    ("ours", "flax"),
    [
        ({}, {}),
        ({"strides": 2}, {"strides": (2, 2)}),
        ({"dilation": 2, "padding": "VALID"}, {"kernel_dilation": (2, 2), "padding": "VALID"}),
        ({"groups": 2, "use_bias": False}, {"feature_group_count": 2, "use_bias": False}),
        ({"padding": [(1, 2), (0, 3)]}, {"padding": [(1, 2), (0, 3)]}),
    ],
    ids=str,
)
def test_conv_equals_flax(ours, flax):
    conv, reference = layers.Conv(6, (3, 3), **ours), nn.Conv(6, (3, 3), **flax)
    variables = conv.init(KEY, IMAGES)
    # The same names, shapes and initial values.
    jax.tree.map(np.testing.assert_array_equal, variables, reference.init(KEY, IMAGES))
    biased = jax.tree.map(lambda leaf: leaf + 0.5, variables)
    np.testing.assert_allclose(conv.apply(biased, IMAGES), reference.apply(biased, IMAGES), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 3])
def test_conv_of_other_ranks(rank):
    images = jnp.ones((2, *(6,) * rank, 2))
    conv, reference = layers.Conv(3, (3,) * rank), nn.Conv(3, (3,) * rank)
    variables = reference.init(KEY, images)
    np.testing.assert_allclose(conv.apply(variables, images), reference.apply(variables, images), rtol=1e-5, atol=1e-5)


def test_conv_types():
    conv = layers.Conv(3, (3, 3), dtype=jnp.bfloat16)
    variables = conv.init(KEY, IMAGES)
    assert variables["params"]["kernel"].dtype == jnp.float32
    assert conv.apply(variables, IMAGES).dtype == jnp.bfloat16


def test_batch_norm_equals_flax():
    norm, reference = layers.BatchNorm(momentum=0.8), nn.BatchNorm(momentum=0.8)
    variables = norm.init(KEY, IMAGES, train=True)
    assert shapes(variables) == shapes(reference.init(KEY, IMAGES, use_running_average=False))
    scaled = variables | {"params": {"scale": jnp.float32([1, 2, 3, 4]), "bias": jnp.float32([0, 1, 0, -1])}}
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


def test_initialisation_leaves_the_running_statistics_alone():
    stats = layers.BatchNorm().init(KEY, IMAGES + 5, train=True)["batch_stats"]
    np.testing.assert_array_equal(stats["mean"], np.zeros(4))
    np.testing.assert_array_equal(stats["var"], np.ones(4))


def test_pooling_layers_equal_flax():
    np.testing.assert_array_equal(
        layers.MaxPool(3, strides=2, padding="SAME").apply({}, IMAGES), nn.max_pool(IMAGES, (3, 3), (2, 2), "SAME")
    )
    with jax.numpy_dtype_promotion("standard"):  # Flax divides floats by an integer count
        counted = nn.avg_pool(IMAGES, (3, 3), (2, 2), "SAME")
        inside = nn.avg_pool(IMAGES, (3, 3), (2, 2), "SAME", count_include_pad=False)
    pool = layers.AvgPool(3, strides=2, padding="SAME", count_padding=True)
    np.testing.assert_allclose(pool.apply({}, IMAGES), counted, rtol=1e-5, atol=1e-6)
    pool = layers.AvgPool(3, strides=2, padding="SAME")
    np.testing.assert_allclose(pool.apply({}, IMAGES), inside, rtol=1e-5, atol=1e-6)


def test_dense_is_flaxs():
    assert layers.Dense is nn.Dense


def test_errors_name_the_layer():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layers.MaxPool(9, name="pool")(layers.Conv(2, (3, 3), name="conv")(x))

    with pytest.raises(ValueError, match=r"layer pool: spatial axis 0 of \(8, 9\): a window of 9"):
        Net().init(KEY, IMAGES)
    with pytest.raises(ValueError, match="layer Conv: groups=3 must divide the 4 input channels"):
        layers.Conv(6, (3, 3), groups=3).init(KEY, IMAGES)
