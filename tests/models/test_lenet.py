"""LeNet-5, both forms, against the paper's figures and forward passes written out with scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from cnnjax import models
from cnnjax.models import initialize
from cnnjax.models.lenet import C3_CONNECTIONS, digit_codes, squash

MODEL = models.create("lenet5")
PRINTED = models.create("lenet5_1998")


def test_parameters_are_the_papers():
    variables = initialize(jax.random.key(0), MODEL, jnp.zeros((1, 32, 32, 1)))
    counts = {name: sum(leaf.size for leaf in layer.values()) for name, layer in variables["params"].items()}
    # C3 dense: 16 * (6 * 25 + 1); output: 84 * 10 + 10.
    assert counts == {"c1": 156, "c3": 2416, "c5": 48120, "f6": 10164, "output": 850}
    assert sum(counts.values()) == 61706


def test_forward_pass_written_out():
    generator = np.random.default_rng(0)
    image = generator.uniform(size=(32, 32)).astype(np.float32)
    params = jax.tree.map(
        lambda leaf: generator.normal(0, 0.2, leaf.shape).astype(np.float32),
        initialize(jax.random.key(0), MODEL, jnp.zeros((1, 32, 32, 1)))["params"],
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
    variables = initialize(jax.random.key(0), features, images)
    result = features.apply(variables, images)
    assert (result.shape, result.dtype) == ((2, 84), jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def test_printed_parameters_are_the_papers():
    variables = initialize(jax.random.key(0), PRINTED, jnp.zeros((1, 32, 32, 1)))
    counts = {name: sum(leaf.size for leaf in layer.values()) for name, layer in variables["params"].items()}
    assert counts == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164}


def test_connections_are_those_of_table_one():
    """Marks of the table, a column a map of C3: 3 contiguous, 4 contiguous, 4 of which two by two, all."""
    rows = """
        X...XXX..XXXX.XX
        XX...XXX..XXXX.X
        XXX...XXX..X.XXX
        .XXX..XXXX..X.XX
        ..XXX..XXXX.XX.X
        ...XXX..XXXX.XXX
    """.split()
    printed = tuple(tuple(row for row in range(6) if rows[row][column] == "X") for column in range(16))
    assert tuple(map(tuple, map(sorted, C3_CONNECTIONS))) == printed
    assert sum(map(len, C3_CONNECTIONS)) == 60


def test_printed_forward_pass_written_out():
    generator = np.random.default_rng(0)
    image = generator.uniform(-0.1, 1.175, (32, 32)).astype(np.float32)
    params = jax.tree.map(
        lambda leaf: generator.normal(0, 0.2, leaf.shape).astype(np.float32),
        initialize(jax.random.key(0), PRINTED, jnp.zeros((1, 32, 32, 1)))["params"],
    )

    def squashed(x):
        return 1.7159 * np.tanh(2 / 3 * x)

    def correlated(x, kernel):
        return scipy.signal.correlate2d(x, kernel, "valid")

    def sub_sampled(maps, layer):
        total = maps[:, ::2, ::2] + maps[:, 1::2, ::2] + maps[:, ::2, 1::2] + maps[:, 1::2, 1::2]
        scale, bias = (params[layer][name][:, None, None] for name in ("scale", "bias"))
        return squashed(scale * total + bias)

    c1 = np.stack([correlated(image, params["c1"]["kernel"][:, :, 0, k]) + params["c1"]["bias"][k] for k in range(6)])
    s2 = sub_sampled(squashed(c1), "s2")
    windows, c3 = iter(np.moveaxis(params["c3"]["kernel"], -1, 0)), []
    for k, seen in enumerate(C3_CONNECTIONS):
        c3.append(sum(correlated(s2[c], next(windows)) for c in seen) + params["c3"]["bias"][k])
    s4 = sub_sampled(squashed(np.stack(c3)), "s4")
    c5 = np.einsum("chw,hwck->k", s4, params["c5"]["kernel"]) + params["c5"]["bias"]
    f6 = squashed(squashed(c5) @ params["f6"]["kernel"] + params["f6"]["bias"])
    expected = -((f6 - digit_codes()) ** 2).sum(-1)
    result = PRINTED.apply({"params": params}, jnp.asarray(image).reshape(1, 32, 32, 1))
    np.testing.assert_allclose(result[0], expected, rtol=1e-4)


def test_codes_are_ten_different_drawings():
    codes = digit_codes()
    assert codes.shape == (10, 84)
    assert set(np.unique(codes)) == {-1.0, 1.0}
    differing = (codes[:, None] != codes[None]).sum(-1)
    assert differing[~np.eye(10, dtype=bool)].min() >= 8
    # The seven's upper bar and its empty lower right corner.
    seven = codes[7].reshape(12, 7)
    assert (seven[1] == 1).all()
    assert (seven[-3:, 4:] == -1).all()


def test_the_scaled_tanh_is_one_at_one():
    np.testing.assert_allclose(squash(jnp.array([-1.0, 0.0, 1.0])), [-1, 0, 1], atol=1e-4)


def test_more_classes_than_digits_are_refused():
    with pytest.raises(ValueError, match=r"num_classes=11; expected 1 to 10"):
        initialize(jax.random.key(0), models.create("lenet5_1998", num_classes=11), jnp.zeros((1, 32, 32, 1)))
