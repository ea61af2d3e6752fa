"""Errors say in which layer they happened; the room's names."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from cnnjax import layers
from cnnjax.layers.naming import layer_errors

IMAGES = jnp.ones((4, 8, 9, 4))
KEY = jax.random.key(0)


def test_errors_name_the_layer():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layers.MaxPool(9, name="pool")(layers.Conv(2, (3, 3), name="conv")(x))

    with pytest.raises(ValueError, match=r"^layer pool: spatial axis 0 of \(8, 9\): a window of 9"):
        Net().init(KEY, IMAGES)
    with pytest.raises(ValueError, match=r"^layer Conv: groups=3 must divide the 4 input channels"):
        layers.Conv(6, (3, 3), groups=3).init(KEY, IMAGES)


def test_errors_name_the_whole_path():
    class Stage(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layers.AvgPool(9, name="pool")(x)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Stage(name="stage1")(x)

    with pytest.raises(ValueError, match=r"^layer stage1/pool: spatial axis 0"):
        Net().init(KEY, IMAGES)


def test_other_errors_pass_unchanged():
    with pytest.raises(TypeError, match=r"^plain$"), layer_errors(nn.Dense(3)):
        raise TypeError("plain")
