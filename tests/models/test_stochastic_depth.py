"""Branches that are skipped at random, and blocks that are computed anew."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.layers import StochasticDepth
from cnnjax.models.resnet import rising_skips
from tests.models.quick import run_unoptimised

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)
SMALL = {
    "cifar": models.CifarResNet(2),
    "preact": models.PreactResNet(2, scan=False),
    "scanned": models.PreactResNet(3, scan=True),
}


def test_a_branch_is_skipped_example_by_example_and_kept_in_the_mean():
    branch = jnp.asarray(np.random.default_rng(0).normal(size=(4000, 2, 3)), jnp.float32)
    kept = StochasticDepth().apply({}, branch, rate=0.3, train=True, rngs={"dropout": jax.random.key(0)})
    skipped = np.all(np.asarray(kept) == 0, axis=(1, 2))
    # Four standard deviations of a share of 0.3 of 4,000.
    assert abs(skipped.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)
    np.testing.assert_allclose(kept[~skipped], branch[~skipped] / 0.7, rtol=1e-6)
    for still in (
        StochasticDepth().apply({}, branch, rate=0.3, train=False),
        StochasticDepth().apply({}, branch, rate=None, train=True),
    ):
        np.testing.assert_array_equal(still, branch)


def test_probabilities_rise_to_the_last_block():
    # ResNet-18 has 2, 2, 2 and 2 blocks.
    rates = rising_skips((2, 2, 2, 2), 0.2)
    np.testing.assert_allclose(np.ravel(rates), [0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2])
    assert rising_skips((2, 2), 0.0) == [None, None]
    for wrong in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"stochastic_depth={wrong}; expected 0 <= stochastic_depth < 1"):
            rising_skips((2, 2), wrong)


@pytest.mark.parametrize("name", SMALL)
def test_variables_and_inference_are_those_of_the_plain_model(name):
    plain = SMALL[name]
    skipping = dataclasses.replace(plain, stochastic_depth=0.5)
    variables, others = (models.initialize(model, jax.random.key(0), IMAGES) for model in (plain, skipping))
    jax.tree.map(np.testing.assert_array_equal, others, variables)
    logits = [run_unoptimised(model.apply, variables, IMAGES) for model in (plain, skipping)]
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize("name", SMALL)
def test_with_all_branches_skipped_nothing_of_them_is_learned(name):
    """The last block is skipped nearly always: then its parameters have no gradient, and those before it have one."""
    model = dataclasses.replace(SMALL[name], stochastic_depth=1 - 1e-6)
    variables = models.initialize(model, jax.random.key(0), IMAGES)

    def loss(params):
        output, _ = model.apply(
            {**variables, "params": params},
            IMAGES,
            train=True,
            mutable=["batch_stats"],
            rngs={"params": jax.random.key(1)},
        )
        return jnp.sum(jnp.sin(output))

    gradients = models.unstack(run_unoptimised(jax.grad(loss), variables["params"]))
    last = gradients["stage3"][f"block{model.depth}"]["conv2"]["kernel"]
    assert np.all(np.asarray(last) == 0)
    assert np.any(np.asarray(gradients["conv1"]["kernel"]) != 0)


@pytest.mark.parametrize("name", ["cifar", "scanned"])
def test_blocks_computed_anew_give_the_same_gradients_in_less_memory(name):
    plain = SMALL[name]
    images = jnp.tile(IMAGES, (8, 1, 1, 1))
    variables = models.initialize(plain, jax.random.key(0), images)
    results, memory = [], []
    for model in (plain, dataclasses.replace(plain, remat=True)):

        def loss(params, model=model):
            output, _ = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(output))

        compiled = jax.jit(jax.grad(loss)).lower(variables["params"]).compile()
        results.append(compiled(variables["params"]))
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), *results)
    assert memory[1] < 0.8 * memory[0]
