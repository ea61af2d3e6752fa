"""LeNet-5 against the paper's figure 2 and a forward pass written out with scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal

from cnnjax import models
from cnnjax.models import initialize

MODEL = models.create("lenet5")


def test_parameters_are_the_papers():
    variables = initialize(MODEL, jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
    counts = {name: sum(leaf.size for leaf in layer.values()) for name, layer in variables["params"].items()}
    # C3 dense: 16 * (6 * 25 + 1); output: 84 * 10 + 10.
    assert counts == {"c1": 156, "c3": 2416, "c5": 48120, "f6": 10164, "output": 850}
    assert sum(counts.values()) == 61706


def test_forward_pass_written_out():
    generator = np.random.default_rng(0)
    image = generator.uniform(size=(32, 32)).astype(np.float32)
    params = jax.tree.map(
        lambda leaf: generator.normal(0, 0.2, leaf.shape).astype(np.float32),
        initialize(MODEL, jax.random.key(0), jnp.zeros((1, 32, 32, 1)))["params"],
    )

    def conv(maps, layer):
        kernel, bias = params[layer]["kernel"], params[layer]["bias"]
        return np.stack(
            [
                sum(scipy.signal.correlate2d(maps[..., c], kernel[..., c, k], "valid") for c in range(kernel.shape[2]))
                + bias[k]
                for k in range(kernel.shape[3])
            ],
            -1,
        )

    def pool(maps):
        return (maps[::2, ::2] + maps[1::2, ::2] + maps[::2, 1::2] + maps[1::2, 1::2]) / 4

    x = pool(np.tanh(conv(image[..., None], "c1")))
    x = pool(np.tanh(conv(x, "c3")))
    x = np.tanh(conv(x, "c5")).ravel()
    x = np.tanh(x @ params["f6"]["kernel"] + params["f6"]["bias"])
    expected = x @ params["output"]["kernel"] + params["output"]["bias"]
    result = MODEL.apply({"params": params}, jnp.asarray(image).reshape(1, 32, 32, 1))
    np.testing.assert_allclose(result[0], expected, rtol=1e-4, atol=1e-4)


def test_options():
    features = models.create("lenet5", num_classes=None, dtype=jnp.bfloat16)
    images = jnp.zeros((2, 32, 32, 3))
    variables = initialize(features, jax.random.key(0), images)
    result = features.apply(variables, images)
    assert (result.shape, result.dtype) == ((2, 84), jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
