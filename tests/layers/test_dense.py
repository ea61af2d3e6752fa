"""The dense layer is Flax's, but for what it says of inputs that its variables are not for."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.layers import Dense


def test_it_is_flaxs():
    x = jax.random.normal(jax.random.key(0), (2, 5))
    ours, theirs = Dense(3), nn.Dense(3)
    variables = ours.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, theirs.init(jax.random.key(1), x))
    np.testing.assert_array_equal(ours.apply(variables, x), theirs.apply(variables, x))
    np.testing.assert_array_equal(ours.init(jax.random.key(1), x)["params"]["kernel"], variables["params"]["kernel"])


def test_pictures_of_another_size_are_named_with_the_layer():
    model = models.create("lenet5")
    variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
    with pytest.raises(ValueError, match="layer f6: inputs of 1080 features came, the variables are for 120"):
        model.apply(variables, jnp.zeros((1, 40, 40, 1)))


def test_a_layer_of_no_width_is_refused():
    with pytest.raises(ValueError, match="layer Dense: features=0 is too small; expected at least 1"):
        Dense(0).init(jax.random.key(0), jnp.zeros((2, 5)))
