"""Pictures that units answer to most, where the best one is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.analysis.maximization import activation_maximization
from tests.analysis.goldens_net import IMAGES, net


def halves(x):
    """Left half minus right half, and the other way round."""
    left, right = x[:, :, :4].mean((1, 2, 3)), x[:, :, 4:].mean((1, 2, 3))
    with jax.named_scope("answers"):
        return jnp.stack([left - right, right - left], -1)


def test_it_finds_the_picture_that_is_known_to_be_best():
    pictures, answers = activation_maximization(
        jax.random.key(0), halves, (2, 8, 8, 1), channels=(0, 1), steps=200, jitter=0, decay=0.0, total_variation=0.0
    )
    assert pictures.shape == (2, 8, 8, 1)
    assert float(answers.min()) > 0.95  # 1 is white on black
    assert float(pictures[0, :, :4].min()) > 0.9
    assert float(pictures[1, :, :4].max()) < 0.1


def test_regularisers_hold_back():
    options = {"steps": 100, "jitter": 0, "decay": 0.0, "total_variation": 0.0}
    plain, _ = activation_maximization(jax.random.key(1), net, IMAGES.shape, channels=(2,), **options)
    smooth, _ = activation_maximization(
        jax.random.key(1), net, IMAGES.shape, channels=(2,), **{**options, "total_variation": 0.05}
    )
    held, _ = activation_maximization(jax.random.key(1), net, IMAGES.shape, channels=(2,), **{**options, "decay": 0.05})

    def rough(pictures):
        return float(np.abs(np.diff(pictures, axis=1)).sum() + np.abs(np.diff(pictures, axis=2)).sum())

    assert rough(smooth) < 0.5 * rough(plain)
    assert float(np.abs(held - 0.5).max()) < float(np.abs(plain - 0.5).max())


def test_a_layers_channel_and_its_answer():
    pictures, answers = activation_maximization(
        jax.random.key(0), net, IMAGES.shape, channels=(1, 0), layer="second", steps=60
    )
    start = activation_maximization(jax.random.key(0), net, IMAGES.shape, channels=(1, 0), layer="second", steps=1)[1]
    assert answers[0] > start[0]
    assert answers[1] >= start[1]
    assert pictures.min() >= 0
    assert pictures.max() <= 1


@pytest.mark.parametrize(
    ("shape", "channels", "options", "message"),
    [
        ((12, 12, 3), (0,), {}, r"shape=\(12, 12, 3\), .*; expected \(batch, height, width, colours\)"),
        (IMAGES.shape, (5,), {}, r"channels=\[5\]; the output has 5"),
        (IMAGES.shape, (), {}, r"channels=\[\]"),
        (IMAGES.shape, (0,), {"steps": 0}, "steps=0"),
        (IMAGES.shape, (0,), {"layer": "third"}, "no layer matches 'third'"),
    ],
    ids=["shape", "channel", "none", "steps", "layer"],
)
def test_bad_input(shape, channels, options, message):
    with pytest.raises(ValueError, match=message):
        activation_maximization(jax.random.key(0), net, shape, channels=channels, **options)
