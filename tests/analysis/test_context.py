"""Context against hand computation and the paper's findings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.analysis import context
from cnnjax.functional import correlate


def test_context_grows_until_the_picture_is_seen():
    def deep(x):
        for number in range(4):
            with jax.named_scope(f"conv{number}"):
                x = correlate(x, jnp.ones((3, 3, 1, 1)))
        with jax.named_scope("mix"):
            x = correlate(x, jnp.ones((1, 1, 1, 1)))
        with jax.named_scope("pool"):
            return x.mean((1, 2))

    found = context(deep, (1, 7, 7, 1))
    shares = [layer.share for layer in found.layers]
    np.testing.assert_allclose(shares, [9 / 49, 25 / 49, 1, 1, 1, 1])
    # The third window already sees all seven pixels from the centre: the fourth adds nothing, nor does a 1x1.
    assert [layer.gains for layer in found.layers] == [True, True, True, False, False, False]
    assert found.notes() == ["A unit first sees the whole picture of 7x7 in conv2."]
    assert [layer.positions for layer in found.layers][-2:] == [(7, 7), ()]
    assert "share of picture" in str(found)


def test_scopes_entered_again_are_innermost_by_what_they_hold():
    def block(x):
        with jax.named_scope("block"):
            with jax.named_scope("conv"):
                x = correlate(x, jnp.ones((3, 3, 1, 1)))
            with jax.named_scope("act"):
                return jnp.tanh(x)

    found = context(lambda x: block(2 * block(x)), (1, 9, 9, 1))
    assert [layer.name for layer in found.layers] == ["block/conv", "block/conv (2)"]


def test_without_windows_there_is_no_context():
    with pytest.raises(ValueError, match="no convolution, pool or product"):
        context(jnp.tanh, (1, 7, 7, 1))


def test_of_resnet18_at_32_pixels_half_the_convolutions_gain_nothing():
    # Richter et al. (2021): on 32 pixels the later stages of ResNet-18 see more than the picture.
    found = context(models.create("resnet18"), (1, 32, 32, 3))
    gains = {layer.name: layer.gains for layer in found.layers}
    assert gains["stage1/block1/conv1"]
    assert not any(gains[f"stage4/block{block}/conv{conv}"] for block in (1, 2) for conv in (1, 2))
    sizes = {layer.name: layer.size for layer in found.layers}
    assert sizes["stage4/block2/conv2"] == (435, 435)
