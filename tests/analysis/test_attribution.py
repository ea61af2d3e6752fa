"""Attributions by gradients against Captum's on the same weights, and against what their papers promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.analysis import attribution
from tests.analysis.goldens_net import CHOSEN, GOLDENS, IMAGES, net


def test_the_net_is_the_goldens():
    np.testing.assert_allclose(net(IMAGES), GOLDENS["scores"], rtol=1e-5, atol=1e-6)


def test_saliency_is_captums_and_over_the_colours_the_greatest():
    found = jax.jit(lambda images: attribution.saliency(net, images, CHOSEN, by_colour=True))(IMAGES)
    np.testing.assert_allclose(found, GOLDENS["saliency"], rtol=1e-4, atol=1e-6)
    # Simonyan et al., section 3.1: the greatest magnitude over the colours.
    np.testing.assert_allclose(
        attribution.saliency(net, IMAGES, CHOSEN), GOLDENS["saliency"].max(-1), rtol=1e-4, atol=1e-6
    )


def test_a_baseline_of_bytes_is_one_of_floats_from_0_to_1():
    grey = np.full(IMAGES.shape[1:], 51, np.uint8)
    found = attribution.integrated_gradients(net, IMAGES, CHOSEN, baseline=grey, steps=8)
    expected = attribution.integrated_gradients(net, IMAGES, CHOSEN, baseline=0.2, steps=8)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["gradient_times_input", "guided_backpropagation", "deconvolution"])
def test_equals_captum(name):
    found = jax.jit(lambda images: getattr(attribution, name)(net, images, CHOSEN))(IMAGES)
    np.testing.assert_allclose(found, GOLDENS[name], rtol=1e-4, atol=1e-6)


def test_integrated_gradients_equal_captum_and_are_complete():
    found = attribution.integrated_gradients(net, IMAGES, CHOSEN, baseline=0.25, steps=50)
    # Captum's own 50 places and weights; the gradients are steps, so that single pixels tell rounding apart.
    np.testing.assert_allclose(found, GOLDENS["integrated_gradients"], atol=2e-4)
    gained = attribution.score_of(net(IMAGES) - net(jnp.full_like(IMAGES, 0.25)), CHOSEN)
    np.testing.assert_allclose(found.sum((1, 2, 3)), gained, atol=1e-3)
    refined = attribution.integrated_gradients(net, IMAGES, CHOSEN, baseline=0.25, tolerance=1e-4)
    np.testing.assert_allclose(refined.sum((1, 2, 3)), gained, rtol=2e-4)


def test_integrated_gradients_refine_until_they_are_complete():
    # Ten rectifiers that open one after the other along the line: the gradient is a staircase.
    def stairs(x):
        opens = jnp.linspace(0.05, 0.6, 10)[None, None, None]
        return jax.nn.relu(x.mean((1, 2, 3), keepdims=True) - opens).sum((1, 2)) @ jnp.ones((10, 2))

    images = jnp.ones((1, 2, 2, 1))
    coarse, fine = (
        attribution.integrated_gradients(stairs, images, jnp.array([0]), **options)
        for options in ({"steps": 4}, {"tolerance": 1e-3})
    )
    # By hand: the sum of 1 - opens.
    assert float(fine.sum()) == pytest.approx(6.75, rel=1.1e-3)
    assert abs(float(coarse.sum()) - 6.75) > 1e-2


def test_integrated_gradients_that_miss_a_leap_are_told():
    def leap(x):
        mean = x.mean((1, 2, 3))
        return jnp.stack([jax.nn.sigmoid(2e5 * (mean - 0.37)), mean], -1)

    images, target = jnp.full((1, 4, 4, 1), 0.9), jnp.array([0])
    with pytest.warns(RuntimeWarning, match="100.0% of what the score gained is missing, 0.1% may be"):
        found = attribution.integrated_gradients(leap, images, target)
    missing = attribution.completeness_error(leap, images, found, target)
    np.testing.assert_allclose(missing, [1.0], atol=1e-4)
    # The score of the other class is the mean itself.
    mean = attribution.integrated_gradients(leap, images, jnp.array([1]))
    np.testing.assert_allclose(attribution.completeness_error(leap, images, mean, jnp.array([1])), [0], atol=1e-5)
    np.testing.assert_allclose(attribution.completeness_error(leap, images, 2 * mean, jnp.array([1])), [1], atol=1e-5)
    # Of no gain at all nothing can be missing.
    np.testing.assert_array_equal(attribution.completeness_error(leap, images, 0 * mean, target, baseline=0.9), [0])
    with pytest.raises(ValueError, match=r"attributions have the shape \(1, 4, 4\)"):
        attribution.completeness_error(leap, images, found[..., 0], target)


def test_smooth_grad_is_the_mean_of_noisy_gradients():
    key = jax.random.key(3)
    found = attribution.smooth_grad(key, net, IMAGES, CHOSEN, samples=5, deviation=0.1)
    spread = 0.1 * np.ptp(np.asarray(IMAGES), axis=(1, 2, 3), keepdims=True)
    by_hand = [
        attribution.gradient(net, IMAGES + spread * jax.random.normal(each, IMAGES.shape), CHOSEN)
        for each in jax.random.split(key, 5)
    ]
    np.testing.assert_allclose(found, np.mean(by_hand, axis=0), rtol=1e-4, atol=1e-6)
    without = attribution.smooth_grad(key, net, IMAGES, CHOSEN, samples=2, deviation=0.0)
    np.testing.assert_allclose(without, attribution.gradient(net, IMAGES, CHOSEN), rtol=1e-5, atol=1e-7)


def test_the_highest_class_is_explained_by_default():
    highest = jnp.argmax(net(IMAGES), -1)
    np.testing.assert_array_equal(attribution.saliency(net, IMAGES), attribution.saliency(net, IMAGES, highest))


def test_of_a_linear_function_gradient_times_input_is_exact():
    weights = jax.random.normal(jax.random.key(0), (12 * 12 * 3, 4))

    def linear(x):
        return x.reshape(len(x), -1) @ weights

    for method in (attribution.gradient_times_input, attribution.integrated_gradients):
        totals = method(linear, IMAGES, CHOSEN).sum((1, 2, 3))
        np.testing.assert_allclose(totals, attribution.score_of(linear(IMAGES), CHOSEN), rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attribution.saliency(net, IMAGES[0]), r"images have the shape \(12, 12, 3\)"),
        (lambda: attribution.saliency(net, IMAGES, jnp.zeros(3, jnp.int32)), r"targets \(3,\)"),
        (lambda: attribution.saliency(lambda x: x, IMAGES), r"scores \(2, 12, 12, 3\)"),
        (
            lambda: attribution.saliency(net, IMAGES, jnp.array([0, 5])),
            "targets are int32 from 0 to 5; expected integers from 0 to 4",
        ),
        (lambda: attribution.saliency(net, IMAGES, np.array([0.7, 1.2])), "targets are float64"),
        (lambda: attribution.saliency(lambda x: x if x.sum() > 0 else -x, IMAGES), "asks for the values of its input"),
        (lambda: attribution.integrated_gradients(net, IMAGES, baseline=jnp.ones(7)), r"baseline has the shape \(7,\)"),
        (lambda: attribution.saliency(net, IMAGES * jnp.nan), "scores: 10 of 10 numbers are NaN"),
        (lambda: attribution.smooth_grad(jax.random.key(0), net, IMAGES, samples=0), "samples=0"),
        (lambda: attribution.integrated_gradients(net, IMAGES, steps=0), "steps=0"),
        (lambda: attribution.deconvolution(lambda x: jnp.tanh(x).mean((1, 2)), IMAGES), "no rectifier"),
    ],
    ids=[
        "one picture",
        "targets",
        "scores",
        "class",
        "float",
        "values",
        "baseline",
        "nan",
        "samples",
        "steps",
        "no rectifier",
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
