"""Squeeze and excitation against its equations in NumPy, and against the same gate from Flax's own layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from cnnjax.layers import SqueezeExcitation

KEY = jax.random.key(0)


def pictures(shape, seed=0):
    return np.random.default_rng(seed).normal(1.0, 2.0, size=shape).astype(np.float32)


def parameters(channels, hidden, dtype=np.float32):
    generator = np.random.default_rng(1)
    shapes = {"reduce": (channels, hidden), "increase": (hidden, channels)}
    return {
        "params": {
            name: {
                "kernel": jnp.asarray(generator.normal(size=shape), dtype),
                "bias": jnp.asarray(generator.normal(size=shape[1]), dtype),
            }
            for name, shape in shapes.items()
        }
    }


def equations(variables, images):
    """Equations 2 to 4 of the paper, with biases, in float64."""
    images = np.asarray(images, np.float64)
    (w1, b1), (w2, b2) = (
        (np.float64(variables["params"][name]["kernel"]), np.float64(variables["params"][name]["bias"]))
        for name in ("reduce", "increase")
    )
    result = np.empty_like(images)
    for n, image in enumerate(images):
        z = image.reshape(-1, image.shape[-1]).mean(0)
        s = 1 / (1 + np.exp(-(np.maximum(z @ w1 + b1, 0) @ w2 + b2)))
        result[n] = image * s
    return result


@pytest.mark.parametrize("sizes", [(7,), (4, 5), (3, 2, 4)], ids=["1-D", "2-D", "3-D"])
def test_equals_the_equations(sizes):
    images, variables = pictures((3, *sizes, 8)), parameters(8, 2)
    result = jax.jit(SqueezeExcitation(reduction=4).apply)(variables, images)
    np.testing.assert_allclose(result, equations(variables, images), rtol=1e-5, atol=1e-5)


class FromFlax(nn.Module):
    """The same gate with Flax's pooling and Dense."""

    @nn.compact
    def __call__(self, images):
        with jax.numpy_dtype_promotion("standard"):  # Flax divides floats by an integer count
            means = nn.avg_pool(images, images.shape[1:3]).reshape(images.shape[0], -1)
        gate = nn.sigmoid(nn.Dense(8, name="increase")(nn.relu(nn.Dense(2, name="reduce")(means))))
        return images * gate[:, None, None]


def test_variables_and_gradients_equal_flax():
    images = jnp.asarray(pictures((3, 4, 5, 8)))
    ours, theirs = SqueezeExcitation(reduction=4), FromFlax()
    variables = ours.init(KEY, images)
    jax.tree.map(np.testing.assert_array_equal, variables, theirs.init(KEY, images))
    weights = pictures(images.shape, seed=2)
    found, expected = (
        jax.grad(lambda v, x, module=module: jnp.sum(weights * module.apply(v, x)), argnums=(0, 1))(variables, images)
        for module in (ours, theirs)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)


@pytest.mark.parametrize(
    ("channels", "reduction", "hidden"), [(64, 16, 4), (24, 16, 1), (50, 16, 3), (8, 16, 1), (8, 1, 8)]
)
def test_width_of_the_bottleneck(channels, reduction, hidden):
    variables = SqueezeExcitation(reduction=reduction).init(KEY, jnp.ones((1, 2, channels)))
    assert jax.tree.map(jnp.shape, variables["params"]) == {
        "reduce": {"kernel": (channels, hidden), "bias": (hidden,)},
        "increase": {"kernel": (hidden, channels), "bias": (channels,)},
    }
    assert SqueezeExcitation().reduction == 16


@pytest.mark.parametrize(
    ("given", "dtype", "expected"),
    [
        (jnp.bfloat16, None, jnp.bfloat16),
        (jnp.float32, jnp.bfloat16, jnp.bfloat16),
        (jnp.bfloat16, jnp.float32, jnp.float32),
        (jnp.float64, None, jnp.float64),
    ],
    ids=str,
)
def test_types(given, dtype, expected):
    with jax.enable_x64(True):
        images = jnp.asarray(pictures((2, 3, 3, 4)), given)
        variables = parameters(4, 2, expected)
        result = SqueezeExcitation(reduction=2, dtype=dtype).apply(variables, images)
    assert result.dtype == expected
    tolerance = 4 * float(jnp.finfo(expected).eps)
    np.testing.assert_allclose(np.float64(result), equations(variables, images), rtol=4 * tolerance, atol=4 * tolerance)


def test_parameters_and_precision_are_passed_down():
    module = SqueezeExcitation(
        reduction=2,
        param_dtype=jnp.bfloat16,
        precision=jax.lax.Precision.HIGHEST,
        kernel_init=nn.initializers.constant(3),
        bias_init=nn.initializers.constant(2),
    )
    images = jnp.ones((1, 2, 4))
    params = module.init(KEY, images)["params"]
    for name in ("reduce", "increase"):
        assert {leaf.dtype for leaf in params[name].values()} == {jnp.dtype(jnp.bfloat16)}
        assert (params[name]["kernel"] == 3).all()
        assert (params[name]["bias"] == 2).all()
    assert str(jax.make_jaxpr(module.apply)({"params": params}, images)).count("precision=(Precision.HIGHEST") == 2


def test_the_mean_of_half_precision_is_float32s():
    # 4096 ones in a row add up to no more than 256 in bfloat16, and the mean of 1 would be lost.
    images, variables = jnp.ones((1, 4096, 2), jnp.bfloat16), parameters(2, 1, jnp.bfloat16)
    result = SqueezeExcitation(reduction=2).apply(variables, images)
    np.testing.assert_allclose(np.float64(result), equations(variables, images), rtol=0.03)


@pytest.mark.parametrize(
    ("images", "reduction", "message"),
    [
        (jnp.ones((2, 3, 4)), 0, "reduction=0 is too small; expected at least 1"),
        (jnp.ones((2, 3, 4)), 2.5, "reduction=2.5 is not whole; expected an integer of at least 1"),
        (jnp.ones((2, 4)), 16, r"images have shape \(2, 4\); expected .* with 1 to 3 spatial axes"),
        (jnp.ones((2, 1, 1, 1, 1, 4)), 16, ".* with 1 to 3 spatial axes"),
        (jnp.ones((2, 3, 4), jnp.uint8), 16, "images: uint8 came, floating point was expected"),
    ],
    ids=["reduction", "fraction", "no_position", "rank", "integers"],
)
def test_errors_name_the_layer(images, reduction, message, monkeypatch):
    # Typecheckers are on in the tests, and would speak first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=f"layer SqueezeExcitation: {message}"):
        SqueezeExcitation(reduction=reduction).init(KEY, images)
