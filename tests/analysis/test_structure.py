"""Superposition, context and shared parameters against hand computation and the lecture notes' figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.analysis import context, parameter_sharing, superposition
from cnnjax.functional import correlate

A, B = jax.random.normal(jax.random.key(0), (2, 2, 6, 6, 1))


def net(x):
    with jax.named_scope("linear"):
        x = correlate(x, jnp.ones((3, 3, 1, 2)))
    with jax.named_scope("bias"):
        x = x + 1.0
    with jax.named_scope("rectified"):
        return jax.nn.relu(x)


def test_only_linear_layers_superpose():
    found = superposition(net, A, B)
    deviations = dict(zip(found.layers, found.deviations, strict=True))
    assert deviations["linear"] < 1e-6
    # A constant that is added stands twice in the sum of the answers: what deviates is the constant itself.
    both = correlate(A + B, jnp.ones((3, 3, 1, 2))) + 1.0
    assert deviations["bias"] == pytest.approx(np.sqrt(both.size) / float(jnp.linalg.norm(both.ravel())), rel=1e-4)
    # A picture is no linear signal: a rectifier keeps max(a + b, 0), not max(a, 0) + max(b, 0).
    parts = [np.maximum(np.asarray(correlate(x, jnp.ones((3, 3, 1, 2)))) + 1, 0) for x in (A + B, A, B)]
    expected = np.linalg.norm(parts[0] - parts[1] - parts[2]) / np.linalg.norm(parts[0])
    assert deviations["rectified"] == pytest.approx(expected, rel=1e-4)
    assert superposition(net, A, B, names="lin*").layers == ("linear",)
    with pytest.raises(ValueError, match=r"pictures of \(2, 6, 6, 1\) and \(1, 6, 6, 1\)"):
        superposition(net, A, B[:1])


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


def test_sharing_is_counted_as_in_the_lecture_notes():
    # CS231n: 290,400 units of 363 weights each are 105,415,200; shared, 34,848.
    found = parameter_sharing(models.create("alexnet"), (1, 227, 227, 3))
    first = found.layers[0]
    assert (first.name, first.kernel) == ("conv1", (11, 11, 3, 96))
    assert (first.shared, first.local) == (34_848, 105_415_200)
    assert first.dense == 227 * 227 * 3 * 55 * 55 * 96
    assert len(found.layers) == 5
    (axes,) = found.draw().axes  # one unit, one axis
    assert [line.get_label() for line in axes.lines] == ["weights shared", "a kernel per position", "dense"]
    assert [line.get_xdata()[0] for line in axes.lines] == [first.shared, first.local, first.dense]


def test_sharing_within_groups_and_batches():
    def grouped(x):
        return correlate(x, jnp.ones((3, 2, 6)), groups=2, padding="VALID")

    (layer,) = parameter_sharing(grouped, (5, 10, 4)).layers
    assert (layer.shared, layer.local, layer.dense) == (36, 36 * 8, 10 * 4 * 8 * 6)
    with pytest.raises(ValueError, match="no convolution"):
        parameter_sharing(jnp.tanh, (1, 4, 1))
