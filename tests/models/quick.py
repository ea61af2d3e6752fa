"""What tests of models need quickly: variables without a compiled draw, and programs compiled without optimising."""

import math

import jax
import numpy as np


def drawn(model, images):
    """Variables for images like these: He's kernels, and the rest as it starts."""
    numbers = np.random.default_rng(0).standard_normal(1 << 20, np.float32)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        if path[-1].key in ("bias", "mean") or not leaf.shape:
            return np.zeros(leaf.shape, np.float32)
        fan_in = math.prod(leaf.shape[-4:-1]) if len(leaf.shape) > 2 else leaf.shape[0]
        return np.resize(numbers, leaf.shape) * np.float32(math.sqrt(2 / fan_in))

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(model.init, jax.random.key(0), images))


def compiled(function, *arguments):
    """A function compiled for arguments like these at XLA's lowest level: sooner compiled, slower to run."""
    return jax.jit(function).lower(*arguments).compile({"xla_backend_optimization_level": 0})


def run_unoptimised(function, *arguments):
    """What a function returns, as NumPy arrays, compiled at XLA's lowest level."""
    return jax.device_get(compiled(function, *arguments)(*arguments))
