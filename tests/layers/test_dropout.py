"""`Dropout` against Flax's, value by value; it and `StochasticDepth` against what they say of shares and means."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from flax.errors import InvalidRngError

from cnnjax.layers import Dropout, StochasticDepth

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 9, 6)).astype(np.float32))
KEY = jax.random.key(0)
RNGS = {"dropout": jax.random.key(1)}


@pytest.mark.parametrize("dims", [(), (1, 2), (-1,), (0,)], ids=str)
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.9])
def test_equals_flax(rate, dims):
    ours, theirs = Dropout(rate, broadcast_dims=dims), nn.Dropout(rate, broadcast_dims=dims)
    result = jax.jit(lambda x: ours.apply({}, x, train=True, rngs=RNGS))(IMAGES)
    # Compiled as well, for the compiler may turn a division by a constant into a product.
    expected = jax.jit(lambda x: theirs.apply({}, x, deterministic=False, rngs=RNGS))(IMAGES)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(ours.apply({}, IMAGES, train=False), IMAGES)


class Twice(nn.Module):
    """Two dropouts in a model, ours or Flax's, under the same names."""

    flax: bool

    @nn.compact
    def __call__(self, images):
        for name in ("drop1", "drop2"):
            if self.flax:
                images = nn.Dropout(0.3, name=name)(images, deterministic=False)
            else:
                images = Dropout(0.3, name=name)(images, train=True)
        return images


def test_equals_flax_within_a_model():
    ours, theirs = (Twice(flax).apply({}, IMAGES, rngs=RNGS) for flax in (False, True))
    np.testing.assert_array_equal(ours, theirs)
    once = Dropout(0.3, name="drop1").apply({}, IMAGES, train=True, rngs=RNGS)
    assert (np.asarray(ours) == 0).sum() > (np.asarray(once) == 0).sum()


def test_what_is_kept_is_scaled():
    inputs = jnp.ones((400, 400))
    result = np.asarray(Dropout(0.2).apply({}, inputs, train=True, rngs=RNGS))
    assert set(np.unique(result)) == {np.float32(0), np.float32(1 / 0.8)}
    # Five standard deviations of the share kept, sqrt(0.8 * 0.2) / 400.
    np.testing.assert_allclose((result > 0).mean(), 0.8, atol=5e-3)


def test_spatial_dropout_drops_channels():
    kept = np.asarray(Dropout(0.5, broadcast_dims=(1, 2)).apply({}, IMAGES, train=True, rngs=RNGS)) != 0
    assert (kept == kept[:, :1, :1]).all()
    assert 0 < kept[:, 0, 0].mean() < 1


def test_gradient_is_the_mask():
    def total(x):
        return jnp.sum(Dropout(0.5).apply({}, x, train=True, rngs=RNGS))

    output = Dropout(0.5).apply({}, IMAGES, train=True, rngs=RNGS)
    np.testing.assert_array_equal(jax.grad(total)(IMAGES), np.where(np.asarray(output) != 0, 2.0, 0.0))


def test_the_key_decides():
    first, again, other = (
        Dropout(0.5).apply({}, IMAGES, train=True, rngs={"dropout": jax.random.key(seed)}) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).any()


def test_no_variables_no_key_while_not_training():
    assert Dropout(0.5).init(KEY, IMAGES, train=False) == {}
    assert Dropout(0.5).init(KEY, IMAGES, train=True) == {}
    with pytest.raises(InvalidRngError, match="dropout"):
        Dropout(0.5).apply({}, IMAGES, train=True)


def test_half_precision_keeps_its_type():
    assert Dropout(0.5).apply({}, IMAGES.astype(jnp.bfloat16), train=True, rngs=RNGS).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("rate", "dims", "message"),
    [
        (1.0, (), "rate=1.0; expected 0 <= rate < 1"),
        (-0.1, (), "rate=-0.1; expected 0 <= rate < 1"),
        (float("nan"), (), "rate=nan; expected 0 <= rate < 1"),
        (0.5, (4,), r"broadcast_dims=\(4,\) of inputs of shape \(4, 8, 9, 6\); expected axes from 0 to 3"),
        (0.5, (1, -5), r"broadcast_dims=\(1, -5\) of inputs"),
    ],
)
@pytest.mark.parametrize("train", [True, False])
def test_errors_name_the_layer(rate, dims, message, train):
    with pytest.raises(ValueError, match=f"layer Dropout: {message}"):
        Dropout(rate, broadcast_dims=dims).apply({}, IMAGES, train=train, rngs=RNGS)


def test_integers_are_refused(monkeypatch):
    # Typecheckers are on in the tests, and would speak first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="layer Dropout: inputs: int32 came, floating point was expected"):
        Dropout(0.5).apply({}, jnp.ones((2, 3), jnp.int32), train=True, rngs=RNGS)


def test_it_is_told_whether_it_trains():
    with pytest.raises(TypeError, match="train"):
        Dropout(0.5).apply({}, IMAGES, rngs=RNGS)


def test_stochastic_depth_drops_whole_examples_each_for_itself():
    ones = jnp.ones((8000, 2, 3, 1))
    drawn = np.asarray(StochasticDepth().apply({}, ones, rate=0.3, train=True, rngs=RNGS))
    assert (drawn == drawn[:, :1, :1]).all()
    kept = drawn[:, 0, 0, 0] > 0
    np.testing.assert_array_equal(drawn[kept], np.float32(1) / np.float32(0.7))
    # Five standard deviations each: that many are kept, and neighbours do not know of each other.
    assert abs(kept.mean() - 0.7) < 0.026
    assert abs((kept[::2] & kept[1::2]).mean() - 0.49) < 0.04


def test_stochastic_depth_drops_what_is_not_finite():
    broken = jnp.full((4, 3, 3, 2), jnp.nan)
    gone = StochasticDepth().apply({}, broken, rate=1 - 1e-7, train=True, rngs=RNGS)
    np.testing.assert_array_equal(gone, np.zeros(broken.shape, np.float32))


def test_stochastic_depth_takes_its_rate_from_a_program():
    images = IMAGES.astype(jnp.bfloat16)

    def draw(rate):
        return StochasticDepth().apply({}, images, rate=rate, train=True, rngs=RNGS)

    found = jax.jit(draw)(jnp.float32(0.5))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, draw(0.5))


@pytest.mark.parametrize("rate", [1, 1.0, -0.1, float("nan")])
@pytest.mark.parametrize("train", [True, False])
def test_stochastic_depth_refuses_other_rates(rate, train):
    with pytest.raises(ValueError, match=f"layer StochasticDepth: rate={rate}; expected 0 <= rate < 1"):
        StochasticDepth().apply({}, IMAGES, rate=rate, train=train, rngs=RNGS)
