"""Effective fields of linear stacks, whose gradients are powers of a kernel known by heart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.analysis.effective import effective_receptive_field
from cnnjax.functional import correlate, max_pool


def stack(depth, x):
    for _ in range(depth):
        x = correlate(x, jnp.ones((3, 3, 1, 1)) / 9)
    return x


@pytest.mark.parametrize("depth", [1, 3, 8])
def test_of_a_linear_stack_the_variance_grows_with_depth(depth):
    # Each uniform 3 has the variance 2/3, and variances add up: sigma is the square root of 2/3 times the depth.
    found = effective_receptive_field(lambda x: stack(depth, x), jnp.ones((2, 33, 33, 1)))
    np.testing.assert_allclose(found.sigma, np.sqrt(depth * 2 / 3), rtol=1e-4)
    np.testing.assert_allclose(found.centre, 16, atol=1e-3)
    assert found.field.size == (2 * depth + 1,) * 2
    np.testing.assert_allclose(found.radius, 2 * np.sqrt(depth * 2 / 3), rtol=1e-4)
    if depth == 8:
        assert found.r_squared > 0.998  # a Gaussian, by the central limit theorem


def test_the_gradient_is_the_kernels_power():
    found = effective_receptive_field(lambda x: stack(2, x), jnp.ones((1, 9, 9, 1)))
    line = np.convolve(np.ones(3) / 3, np.ones(3) / 3)
    expected = np.zeros((9, 9))
    expected[2:7, 2:7] = np.outer(line, line)
    np.testing.assert_allclose(found.gradient, expected, atol=1e-6)
    # Of the 25, the four corners are 1/9 of the greatest, and count.
    assert found.size == 5
    assert found.ratio == 1


def test_size_counts_what_is_above_the_papers_bound():
    def function(x):
        return correlate(x, jnp.asarray([1.0, 0.04, 0.05, 0.0, 0.5])[:, None, None], padding="VALID")

    found = effective_receptive_field(function, jnp.ones((1, 9, 1)), position=(2,))
    assert found.size == 3  # 1, 0.05 and 0.5, of five
    assert found.ratio == pytest.approx(3 / 5)
    assert found.field.box((2,)) == ((2, 6),)


def test_examples_and_colours_add_up_in_squares():
    def function(x):
        return (x * jnp.asarray([3.0, 4.0])[None, None]).sum(-1, keepdims=True) * x[:, :, :1]

    images = jnp.asarray([[[1.0, 0.0]], [[0.0, 2.0]]])
    found = effective_receptive_field(function, images)
    # d/dx of (3a + 4b) a: (6a + 4b, 4a), at (1, 0) and (0, 2).
    expected = np.sqrt(((36 + 16) + (64 + 0)) / 2)
    np.testing.assert_allclose(found.gradient, [expected], rtol=1e-6)


def test_layers_positions_and_strides():
    def net(x):
        with jax.named_scope("low"):
            x = max_pool(jax.nn.relu(correlate(x, jnp.ones((3, 3, 1, 2)))), 2)
        with jax.named_scope("high"):
            return correlate(x, jnp.ones((3, 3, 2, 1)))

    images = jax.random.uniform(jax.random.key(0), (4, 16, 16, 1))
    found = effective_receptive_field(net, images, layer="low", position=(1, 6))
    rows, columns = np.nonzero(found.gradient)
    (top, bottom), (left, right) = found.field.box((1, 6))
    assert (rows.min(), rows.max()) == (top, bottom)
    assert (columns.min(), columns.max()) == (left, right)
    assert effective_receptive_field(net, images).layer == "high"


def test_of_a_model_with_fresh_weights_it_is_smaller_than_the_theoretical():
    model = models.create("resnet20")
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    variables = models.initialize(jax.random.key(1), model, images)
    found = effective_receptive_field(lambda x: model.apply(variables, x), images, layer="stage2")
    assert 0.2 < found.ratio < 0.9
    figure = found.draw()
    assert [axes.get_xlabel() for axes in figure.axes[:2]] == ["column / pixels", "row / pixels"]
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == [
        *("gradient", "fitted Gaussian", "theoretical field")
    ]
    assert found.rows()[0]["theoretical_size"] == found.field.size[0]


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (lambda x: x.mean((1, 2)), {}, r"has the shape \(1, 1\), without positions"),
        (lambda x: stack(1, x), {"layer": "conv9"}, "no layer matches 'conv9'"),
        (lambda x: stack(1, x), {"position": (40, 0)}, "has 9 positions along axis 0"),
        (lambda x: stack(1, x) * 0, {}, "no gradient reaches the pixels"),
        (lambda x: jnp.sqrt(stack(1, x) * 0), {}, "the gradient is not finite"),
    ],
    ids=["pooled", "layer", "position", "dead", "nan"],
)
def test_bad_input(function, options, message):
    with pytest.raises(ValueError, match=message):
        effective_receptive_field(function, jnp.ones((1, 9, 9, 1)), **options)


def test_each_of_several_arrays_that_leave_a_layer_has_a_field():
    def function(x):
        with jax.named_scope("two"):
            first = correlate(x, jnp.ones((3, 3, 1, 1)))
            second = correlate(first, jnp.ones((3, 3, 1, 1)))
        return first.mean() + second.mean()

    sizes = [
        effective_receptive_field(function, jnp.ones((1, 9, 9, 1)), layer=layer).field.size
        for layer in ("two[0]", "two[1]", "two")
    ]
    assert sizes == [(3, 3), (5, 5), (5, 5)]
