"""Schedules against their formulas, update rules against updates written out."""

import math
from functools import partial
from typing import get_args, get_type_hints

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import layers, models
from cnnjax.models.stacking import repeat
from cnnjax.settings import Optimizer, Schedule
from cnnjax.train import make_optimizer, make_schedule
from tests.models.quick import compiled


def rates(name, steps=100, warmup=0.0):
    schedule = make_schedule(Schedule(name=name, warmup=warmup), learning_rate=2.0, steps=steps)
    return np.array([schedule(step) for step in range(steps + 1)])


def test_constant_and_warmup():
    np.testing.assert_allclose(rates("constant"), 2.0)
    warm = rates("constant", warmup=0.1)
    np.testing.assert_allclose(warm[:10], 2 * np.arange(1, 11) / 10, rtol=1e-6)
    np.testing.assert_allclose(warm[10:], 2.0)


def test_a_warm_up_of_one_step_learns_at_the_whole_rate():
    np.testing.assert_allclose(rates("constant", steps=10, warmup=0.1), 2.0)
    # The nine steps after it go down from the peak.
    np.testing.assert_allclose(rates("linear", steps=10, warmup=0.1)[:10], [2, *2 * (1 - np.arange(9) / 9)], rtol=1e-6)


def test_a_run_that_is_all_warm_up_ends_at_the_peak():
    for name in get_args(get_type_hints(Schedule)["name"]):
        found = rates(name, steps=10, warmup=0.99)
        first = 0.08 if name == "one_cycle" else 0.2
        np.testing.assert_allclose(found[:10], np.linspace(first, 2, 10), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", get_args(get_type_hints(Schedule)["name"]))
def test_every_step_of_every_run_learns(name):
    for steps in (1, 2, 3, 7):
        for warmup in (0.0, 0.3, 0.5, 0.99):
            found = rates(name, steps, warmup)[:steps]
            assert (found > 0).all(), (steps, warmup, found)
            assert found.max() == pytest.approx(2.0), (steps, warmup, found)


def test_step_is_a_tenth_at_half_and_at_three_quarters():
    found = rates("step")
    np.testing.assert_allclose(found[[0, 49, 50, 74, 75, 100]], [2, 2, 0.2, 0.2, 0.02, 0.02], rtol=1e-5)
    # Step t is past one half where t / 5 >= 1 / 2.
    np.testing.assert_allclose(rates("step", steps=5)[:5], [2, 2, 2, 0.2, 0.02], rtol=1e-5)
    # A warm-up that ends after one half rises to the peak, and the rest of the run has the tenth.
    warm = rates("step", steps=10, warmup=0.6)[:10]
    np.testing.assert_allclose(warm, [*2 * np.arange(1, 7) / 6, 0.2, 0.2, 0.02, 0.02], rtol=1e-5)


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
    np.testing.assert_allclose(trapezoid[:10], 2 * np.arange(1, 11) / 10, rtol=1e-6)
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
    """The step of a convolution's kernel, as a matrix of taps and inputs by outputs, has singular values near one.

    Of a stack, each kernel's step has, and its biases are not taken for the rows of a matrix.
    """
    generator = np.random.default_rng(0)
    block = {"kernel": jnp.asarray(generator.normal(size=(3, 3, 3, 2, 4)), jnp.float32), "bias": jnp.ones((3, 4))}
    params = {"block2-4": block, "kernel": block["kernel"][0], "bias": jnp.ones(4)}
    gradients = jax.tree.map(lambda leaf: jnp.asarray(generator.normal(size=leaf.shape), jnp.float32), params)
    rule = make_optimizer(Optimizer(name="muon", learning_rate=0.1), lambda step: 0.1)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = rule.update(gradients, rule.init(params), params)
    for kernel in (updates["kernel"], *updates["block2-4"]["kernel"]):
        values = np.linalg.svd(np.asarray(kernel).reshape(18, 4), compute_uv=False) / 0.1
        # Newton and Schulz's five steps bring them to 0.7 to 1.2; a wide matrix is scaled by the root of its shape's
        # ratio.
        assert 0.6 < values.min() <= values.max() < 1.3
    # By Adam with Nesterov's momentum (Dozat 2016): 0.9 * 0.1 / (1 - 0.9 ** 2) + 1 times the sign, at the first step.
    nadam = 0.9 * 0.1 / (1 - 0.9**2) + 1
    for biases, slopes in ((updates, gradients), (updates["block2-4"], gradients["block2-4"])):
        np.testing.assert_allclose(biases["bias"], -0.1 * nadam * np.sign(slopes["bias"]), rtol=1e-3)


def test_long_gradients_are_shortened_and_short_ones_left():
    # The gradient's length is the root of 0.5^2 + 0.25^2 + 1.
    length = np.sqrt(0.5**2 + 0.25**2 + 1)
    first, _, bias = two_updates(name="sgd", clip_norm=0.5)
    np.testing.assert_allclose(first, -0.1 * np.array([[0.5, 0.25]]) * 0.5 / length, rtol=1e-5)
    np.testing.assert_allclose(bias, [-0.1 * 0.5 / length], rtol=1e-5)
    first, _, _ = two_updates(name="sgd", clip_norm=2.0)
    np.testing.assert_allclose(first, [[-0.05, -0.025]], rtol=1e-6)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, *, train, skip):
        y = layers.Conv(2, (3, 3), use_bias=False, name="conv")(x)
        return x + nn.tanh(layers.LayerNorm(use_bias=False, name="norm")(y))


class Net(nn.Module):
    scan: bool

    @nn.compact
    def __call__(self, x):
        x = repeat(self, Block, x, first=2, last=3, scan=self.scan, train=False)
        return layers.Dense(3, use_bias=False, name="output")(x.mean((1, 2)))


@pytest.mark.usefixtures("unchecked_types")
def test_scanned_blocks_are_trained_as_single_ones():
    """Three steps by every update rule, with weight decay and clipping, in float64; and what a checkpoint holds."""
    draw = np.random.default_rng(0)
    shapes = [jax.eval_shape(Net(scan).init, jax.random.key(0), jnp.ones((2, 4, 4, 2)))["params"] for scan in (0, 1)]
    single = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape), shapes[0])
    # A block of another length: one ratio of norms for both would show.
    single["block3"] = jax.tree.map(lambda array: 5 * array, single["block3"])
    names = get_args(get_type_hints(Optimizer)["name"])
    rules = {
        name: make_optimizer(Optimizer(name, weight_decay=0.1, clip_norm=1.0), lambda step: 0.05) for name in names
    }

    def update(gradients, states, params):
        return {name: rule.update(gradients[name], states[name], params[name]) for name, rule in rules.items()}

    def trained(scan, start):
        def loss(params):
            return jnp.sum((Net(scan).apply({"params": params}, images) - wanted) ** 2)

        gradient, params = compiled(jax.grad(loss), start), dict.fromkeys(rules, start)
        states = {name: rule.init(start) for name, rule in rules.items()}
        step = compiled(update, params, states, params)
        for _ in range(3):
            updates = step({name: gradient(params[name]) for name in rules}, states, params)
            params = {name: jax.tree.map(np.add, params[name], jax.device_get(updates[name][0])) for name in rules}
            states = {name: updates[name][1] for name in rules}
        return models.unstack({name: (params[name], states[name]) for name in rules})

    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        images, wanted = jnp.asarray(draw.normal(size=(2, 4, 4, 2))), draw.normal(size=(2, 3))
        expected, found = trained(False, single), trained(True, models.stack(single, shapes[1]))
    for name in rules:
        assert jax.tree.structure(found[name]) == jax.tree.structure(expected[name]), name
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-9, err_msg=name), found[name], expected[name]
        )


def test_a_stack_has_a_ratio_of_norms_for_each_layer():
    """LARS and LAMB by hand: of each layer the norm of its kernel by that of its update, and no decay of its norm."""
    draw = np.random.default_rng(0)
    kernels = draw.normal(size=(3, 3, 3, 2, 2)) * np.array([1, 10, 100]).reshape(3, 1, 1, 1, 1)
    slopes, scales = draw.normal(size=kernels.shape), draw.normal(size=(3, 2))
    params = {"block2-4": {"conv": {"kernel": kernels}, "norm": {"scale": scales}}}
    gradients = {"block2-4": {"conv": {"kernel": slopes}, "norm": {"scale": np.ones((3, 2))}}}
    params, gradients = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (params, gradients))

    def first_update(name):
        rule = make_optimizer(Optimizer(name, weight_decay=0.1), lambda step: 0.1)
        with jax.numpy_dtype_promotion("standard"):
            return rule.update(gradients, rule.init(params), params)[0]["block2-4"]

    def trusted(coefficient, directions, arrays):
        ratios = [np.linalg.norm(array) / np.linalg.norm(one) for array, one in zip(arrays, directions, strict=True)]
        return [-0.1 * coefficient * ratio * one for ratio, one in zip(ratios, directions, strict=True)]

    lars, lamb = first_update("lars"), first_update("lamb")
    expected = trusted(1e-3, slopes + 0.1 * kernels, kernels)
    np.testing.assert_allclose(lars["conv"]["kernel"], expected, rtol=1e-5)
    np.testing.assert_allclose(lars["norm"]["scale"], np.full((3, 2), -0.1), rtol=1e-6)
    # Adam's first step is the sign of the gradient.
    expected = trusted(1, np.sign(slopes) + 0.1 * kernels, kernels)
    np.testing.assert_allclose(lamb["conv"]["kernel"], expected, rtol=1e-3)
    np.testing.assert_allclose(lamb["norm"]["scale"], trusted(1, np.ones((3, 2)), scales), rtol=1e-4)
