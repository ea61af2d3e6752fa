"""Bytes alive at once and bytes kept for the backward pass, against lifetimes worked out by hand."""

import jax
import jax.numpy as jnp
import pytest

from cnnjax import models
from cnnjax.analysis.memory import bytes_of, kept_bytes, kept_in_training, live_bytes
from cnnjax.analysis.tracing import trace
from cnnjax.functional import correlate

SHAPE = (1, 8, 3)  # 24 floats, 96 bytes
KERNELS = [jnp.ones((1, 3, 8)), jnp.ones((1, 8, 2)), jnp.ones((1, 2, 2))]


def conv(x, number):
    return correlate(x, KERNELS[number])


def test_bytes_of_a_tree():
    shapes = {"a": jnp.zeros((3, 4)), "b": [jax.ShapeDtypeStruct((5,), jnp.bfloat16)]}
    assert bytes_of(shapes) == 3 * 4 * 4 + 5 * 2


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # 8 x 8 floats are 256 bytes, 8 x 2 are 64.
        (lambda x: conv(x, 0), 256),
        (lambda x: conv(conv(x, 0), 1), 256 + 64),
        (lambda x: conv(conv(conv(x, 0), 1), 2), 256 + 64),
        # The tangent overwrites what it reads.
        (lambda x: conv(jnp.tanh(conv(x, 0)), 1), 256 + 64),
        # What is added later stays: 256 held, 64 made of it, 64 of that.
        (lambda x: (y := conv(x, 0)).sum(-1) + conv(conv(y, 1), 2).sum(-1), 256 + 64 + 32),
        # Views cost nothing, and keep what they look at.
        (lambda x: conv(jnp.broadcast_to(conv(x, 0)[:, :, None], (1, 8, 9, 8)).reshape(1, 8, 72)[:, :, :8], 1), 320),
        # An output is alive at the end.
        (lambda x: (conv(x, 0), conv(x, 0)), 512),
        (lambda x: x, 0),
    ],
    ids="one chain longer overwritten residual views outputs nothing".split(),
)
def test_peak(function, expected):
    assert max(live_bytes(trace(function, SHAPE)), default=0) == expected


def test_what_a_backward_pass_keeps():
    # d tanh(y) needs its result; the product with w needs tanh's result for w, and w, which is a parameter.
    def function(w, x):
        return jnp.tanh(x @ w) @ w[:3].T

    w, x = jnp.ones((3, 5)), jnp.ones((7, 3))
    # x (21), and tanh's result (35) with what its derivative is made of (35, or none where it is recomputed).
    kept = sum(kept_bytes(function, w, x).values())
    assert kept in (4 * (21 + 35), 4 * (21 + 35 + 35), 4 * (21 + 35 + 15), 4 * (21 + 35 + 35 + 15))
    # A linear map needs only its input, for the gradient of its weights.
    assert kept_bytes(lambda w, x: x @ w, w, x) == {"(input)": 4 * 21}
    assert kept_bytes(lambda w, x: x + w.sum(), w, x) == {}


def test_what_is_kept_is_told_by_layer():
    def function(params, x):
        with jax.named_scope("first"):
            x = jnp.tanh(x @ params)
        with jax.named_scope("second"):
            return x @ params

    # 7 x 3 in, squares of weights: the picture for the first product, the tangents' result for itself and the second.
    found = kept_bytes(function, jnp.ones((3, 3)), jnp.ones((1, 7, 3)))
    assert set(found) == {"(input)", "first"}
    assert found["(input)"] == 4 * 21
    assert found["first"] in (4 * 21, 2 * 4 * 21)  # with what the derivative is made of, or without


def test_larger_batches_keep_more():
    model = models.create("lenet5")
    small, large = (kept_in_training(model, (batch, 32, 32, 1), jnp.float32) for batch in (1, 3))
    # Kept of a picture: at least the outputs of its layers with tanh and pooling's inputs, c1 to f6.
    assert sum(small.values()) >= 4 * (28 * 28 * 6 + 10 * 10 * 16 + 120 + 84)
    assert large == {name: 3 * size for name, size in small.items()}


def test_models_with_dropout_and_statistics_train_too():
    found = kept_in_training(models.create("resnet20"), (2, 32, 32, 3), jnp.float32)
    # Every convolution's input is kept for its kernel's gradient: that of stage1 has 32 x 32 x 16 values.
    assert found["stage1/block1/bn1"] + found["stage1/block1"] >= 2 * 4 * 32 * 32 * 16
    assert sum(kept_in_training(models.create("alexnet", num_classes=2), (1, 227, 227, 3), jnp.float32).values()) > 0


def test_scanned_blocks_keep_what_each_of_them_makes():
    shape = (1, 32, 32, 3)
    scanned, written = (
        kept_in_training(models.PreactResNet(2, scan=scan), shape, jnp.float32) for scan in (True, False)
    )
    assert sum(scanned.values()) == pytest.approx(sum(written.values()), rel=0.1)
    assert {name.split("/")[0] for name in scanned} == {name.split("/")[0] for name in written}
