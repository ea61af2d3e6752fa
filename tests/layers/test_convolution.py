"""`Conv` against Flax's: the same parameters, by name and shape, give the same outputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from cnnjax import layers

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 9, 4)).astype(np.float32))
KEY = jax.random.key(0)


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


def test_an_integer_kernel_size_is_refused(monkeypatch):
    # Typecheckers are on in the tests, and would speak first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"layer Conv: kernel_size=3; expected one integer per spatial axis"):
        layers.Conv(2, 3).init(KEY, IMAGES)
