"""The net of `captum_goldens` as a function of its pictures, with a name for the layer of the maps."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.functional import correlate, max_pool
from tests.analysis.captum_goldens import FILE, TARGETS, draw

PICTURES, WEIGHTS = draw()
IMAGES = jnp.asarray(PICTURES, jnp.float32)
CHOSEN = jnp.asarray(TARGETS)
GOLDENS = dict(np.load(FILE))


def conv(x, name):
    kernel = jnp.asarray(WEIGHTS[name].transpose(2, 3, 1, 0), jnp.float32)
    bias = jnp.asarray(WEIGHTS[f"{name}_bias"], jnp.float32)
    return correlate(x, kernel, padding="SAME") + bias[None, None, None]


def net(x):
    with jax.named_scope("first"):
        x = max_pool(jax.nn.relu(conv(x, "first")), 2)
    with jax.named_scope("second"):
        x = jax.nn.relu(conv(x, "second"))
    with jax.named_scope("output"):
        weights, bias = (jnp.asarray(WEIGHTS[name], jnp.float32) for name in ("output", "output_bias"))
        return x.mean((1, 2)) @ weights.T + bias[None]
