"""Schedules against their formulas, update rules against updates written out."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.train import Optimizer, Schedule, make_optimizer, make_schedule


def rates(name, steps=100, warmup=0.0):
    schedule = make_schedule(Schedule(name=name, warmup=warmup), learning_rate=2.0, steps=steps)
    return np.array([schedule(step) for step in range(steps + 1)])


def test_constant_and_warmup():
    np.testing.assert_allclose(rates("constant"), 2.0)
    warm = rates("constant", warmup=0.1)
    np.testing.assert_allclose(warm[:11], np.linspace(0, 2, 11), rtol=1e-6)
    np.testing.assert_allclose(warm[10:], 2.0)


def test_step_is_a_tenth_at_half_and_at_three_quarters():
    found = rates("step")
    np.testing.assert_allclose(found[[0, 49, 51, 74, 76, 100]], [2, 2, 0.2, 0.2, 0.02, 0.02], rtol=1e-5)


def test_cosine():
    expected = [1 + math.cos(math.pi * step / 100) for step in range(101)]
    np.testing.assert_allclose(rates("cosine"), expected, atol=1e-5)


def test_one_cycle_peaks_once_and_ends_near_zero():
    found = rates("one_cycle", warmup=0.4)
    assert found.argmax() == 40
    assert found.max() == pytest.approx(2.0)
    assert (np.diff(found[:41]) > 0).all()
    assert (np.diff(found[40:]) < 0).all()
    np.testing.assert_allclose(found[[0, 20, -1]], [0.08, 1.04, 8e-6], rtol=1e-4)


PARAMS = {"kernel": jnp.asarray([[1.0, -2.0]]), "bias": jnp.asarray([3.0])}
GRADIENTS = {"kernel": jnp.asarray([[0.5, 0.25]]), "bias": jnp.asarray([1.0])}


def two_updates(**settings):
    rule = make_optimizer(Optimizer(learning_rate=0.1, **settings), lambda step: 0.1)
    state = rule.init(PARAMS)
    with jax.numpy_dtype_promotion("standard"):
        first, state = rule.update(GRADIENTS, state, PARAMS)
        second, _ = rule.update(GRADIENTS, state, PARAMS)
    return np.asarray(first["kernel"]), np.asarray(second["kernel"]), np.asarray(first["bias"])


def test_update_rules_written_out():
    gradient = np.array([[0.5, 0.25]])
    expected = {
        "sgd": (-0.1 * gradient, -0.1 * gradient),
        "momentum": (-0.1 * gradient, -0.1 * 1.9 * gradient),
        "nesterov": (-0.1 * 1.9 * gradient, -0.1 * (1 + 0.9 * 1.9) * gradient),
        # The first step of Adam is the sign of the gradient; a constant gradient keeps it so.
        "adam": (-0.1 * np.sign(gradient), -0.1 * np.sign(gradient)),
        "adamw": (-0.1 * np.sign(gradient), -0.1 * np.sign(gradient)),
    }
    for name, updates in expected.items():
        np.testing.assert_allclose(two_updates(name=name)[:2], updates, rtol=1e-4, err_msg=name)
    # RMSProp divides by the running root mean square: 0.1 of the square at the first step.
    first, _, _ = two_updates(name="rmsprop")
    np.testing.assert_allclose(first, -0.1 * np.sign(gradient) / np.sqrt(0.1), rtol=1e-3)


def test_weight_decay_spares_biases():
    kernel = np.array([[1.0, -2.0]])
    first, _, bias = two_updates(name="sgd", weight_decay=0.5)
    np.testing.assert_allclose(first, -0.1 * (np.array([[0.5, 0.25]]) + 0.5 * kernel), rtol=1e-5)
    np.testing.assert_allclose(bias, [-0.1], rtol=1e-5)
    first, _, bias = two_updates(name="adamw", weight_decay=0.5)
    np.testing.assert_allclose(first, -0.1 * (1 + 0.5 * kernel), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(bias, [-0.1], rtol=1e-4)


def test_straight_exponential_and_trapezoid_schedules():
    np.testing.assert_allclose(rates("linear"), 2 * (1 - np.arange(101) / 100), atol=1e-6)
    np.testing.assert_allclose(rates("exponential"), 2 * 0.01 ** (np.arange(101) / 100), rtol=1e-5)
    trapezoid = rates("trapezoid", warmup=0.1)
    np.testing.assert_allclose(trapezoid[:11], np.linspace(0, 2, 11), rtol=1e-6)
    np.testing.assert_allclose(trapezoid[10:83], 2.0)
    # The last fifth of the 90 steps after the warmup, 18, go down to zero.
    np.testing.assert_allclose(trapezoid[82:], 2 * (1 - np.arange(19) / 18), atol=1e-6)


def test_lars_scales_the_step_of_a_kernel_to_its_length():
    kernel, gradient = np.array([[1.0, -2.0]]), np.array([[0.5, 0.25]])
    decayed = gradient + 0.1 * kernel
    trusted = 0.001 * np.linalg.norm(kernel) / np.linalg.norm(decayed)
    first, second, bias = two_updates(name="lars", weight_decay=0.1)
    np.testing.assert_allclose(first, -0.1 * trusted * decayed, rtol=1e-5)
    np.testing.assert_allclose(second, -0.1 * 1.9 * trusted * decayed, rtol=1e-5)
    np.testing.assert_allclose(bias, [-0.1], rtol=1e-6)


def test_lamb_scales_adams_step_to_the_length_of_the_kernel():
    kernel, gradient = np.array([[1.0, -2.0]]), np.array([[0.5, 0.25]])
    # Adam's first step is the sign of the gradient; the decay is added before the length is taken.
    direction = np.sign(gradient) + 0.1 * kernel
    expected = -0.1 * np.linalg.norm(kernel) / np.linalg.norm(direction) * direction
    first, _, bias = two_updates(name="lamb", weight_decay=0.1)
    np.testing.assert_allclose(first, expected, rtol=1e-4)
    np.testing.assert_allclose(bias, [-0.1 * 3.0], rtol=1e-4)


def test_muon_makes_the_step_of_a_kernel_orthogonal():
    """The step of a convolution's kernel, as a matrix of taps and inputs by outputs, has singular values near one."""
    generator = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(generator.normal(size=(3, 3, 2, 4)), jnp.float32), "bias": jnp.ones(4)}
    gradients = jax.tree.map(lambda leaf: jnp.asarray(generator.normal(size=leaf.shape), jnp.float32), params)
    rule = make_optimizer(Optimizer(name="muon", learning_rate=0.1), lambda step: 0.1)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = rule.update(gradients, rule.init(params), params)
    values = np.linalg.svd(np.asarray(updates["kernel"]).reshape(18, 4), compute_uv=False) / 0.1
    # Newton and Schulz's five steps bring them to 0.7 to 1.2; a wide matrix is scaled by the root of its shape's ratio.
    assert 0.6 < values.min() <= values.max() < 1.3
    # By Adam with Nesterov's momentum (Dozat 2016): 0.9 * 0.1 / (1 - 0.9 ** 2) + 1 times the sign, at the first step.
    nadam = 0.9 * 0.1 / (1 - 0.9**2) + 1
    np.testing.assert_allclose(updates["bias"], -0.1 * nadam * np.sign(gradients["bias"]), rtol=1e-3)


def test_long_gradients_are_shortened_and_short_ones_left():
    # The gradient's length is the root of 0.5^2 + 0.25^2 + 1.
    length = np.sqrt(0.5**2 + 0.25**2 + 1)
    first, _, bias = two_updates(name="sgd", clip_norm=0.5)
    np.testing.assert_allclose(first, -0.1 * np.array([[0.5, 0.25]]) * 0.5 / length, rtol=1e-5)
    np.testing.assert_allclose(bias, [-0.1 * 0.5 / length], rtol=1e-5)
    first, _, _ = two_updates(name="sgd", clip_norm=2.0)
    np.testing.assert_allclose(first, [[-0.05, -0.025]], rtol=1e-6)
