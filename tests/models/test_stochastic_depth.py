"""Branches that are skipped at random, and blocks that are computed anew."""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.layers import BatchNorm, Conv, SqueezeExcitation, StochasticDepth
from cnnjax.models.parts.residual import rising_skips
from cnnjax.models.preact_resnet import PreactBlock
from cnnjax.models.resnet import BasicBlock, BottleneckBlock, CifarBlock
from cnnjax.models.senet import SENetBlock
from cnnjax.models.stacking import repeat
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
    variables, others = (models.initialize(jax.random.key(0), model, IMAGES) for model in (plain, skipping))
    jax.tree.map(np.testing.assert_array_equal, others, variables)
    logits = [run_unoptimised(model.apply, variables, IMAGES) for model in (plain, skipping)]
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize("name", SMALL)
def test_with_all_branches_skipped_nothing_of_them_is_learned(name):
    """The last block is skipped nearly always: then its parameters have no gradient, and those before it have one."""
    model = dataclasses.replace(SMALL[name], stochastic_depth=1 - 1e-6)
    variables = models.initialize(jax.random.key(0), model, IMAGES)

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
    variables = models.initialize(jax.random.key(0), plain, images)
    results, memory = [], []
    for model in (plain, dataclasses.replace(plain, remat=True)):

        def loss(params, model=model):
            output, _ = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(output))

        compiled = jax.jit(jax.grad(loss)).lower(variables["params"]).compile()
        results.append(compiled(variables["params"]))
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), *results)
    # The compiler of jax 0.9 puts together again what is computed twice, unless it is in a loop.
    if name == "scanned" or jax.__version_info__ >= (0, 11):
        assert memory[1] < 0.8 * memory[0]


class Tens(nn.Module):
    """Ten times the input, and the probability, or nine where there is none."""

    @nn.compact
    def __call__(self, x, *, train, skip=None):
        return 10 * x + (9 if skip is None else skip)


class Run(nn.Module):
    """Blocks 2 to 4, which are no more than their probabilities."""

    scan: bool
    skips: tuple[float, ...] | None

    @nn.compact
    def __call__(self, x):
        return repeat(self, Tens, x, first=2, last=4, scan=self.scan, train=True, skips=self.skips)


@pytest.mark.parametrize("scan", [True, False])
def test_each_block_of_a_run_has_its_own_probability(scan):
    assert Run(scan, (1.0, 2.0, 3.0)).apply({}, jnp.float32(0)) == 123
    assert Run(scan, None).apply({}, jnp.float32(0)) == 999


def test_blocks_of_a_net_meet_their_probabilities():
    """ResNet-18 has eight blocks, two in each stage: an eighth of the last one's for each."""
    found = {}

    def record(call, arguments, options, context):
        if isinstance(context.module, StochasticDepth) and context.method_name == "__call__":
            found["/".join(context.module.path)] = options["rate"]
        return call(*arguments, **options)

    model = models.create("resnet18", stochastic_depth=0.4)
    with nn.intercept_methods(record):
        jax.eval_shape(partial(model.init, train=True), jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), "f4"))
    assert list(found) == [f"stage{stage}/block{block}/skip" for stage in (1, 2, 3, 4) for block in (1, 2)]
    np.testing.assert_allclose(list(found.values()), [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4], rtol=1e-12)


CONV, NORM = partial(Conv, use_bias=False), BatchNorm
BLOCKS = {
    "basic": BasicBlock(4, 1, CONV, NORM),
    "gated": BasicBlock(4, 1, CONV, NORM, SqueezeExcitation),
    "bottleneck": BottleneckBlock(1, 1, CONV, NORM),
    "cifar": CifarBlock(4, 1, CONV, NORM),
    "senet": SENetBlock(64, 1, 1, CONV, NORM, SqueezeExcitation),
    "preact": PreactBlock(1, 1, CONV, NORM),
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_without_its_branch_a_block_is_its_shortcut(kind):
    """Of a few examples, those that are skipped are their shortcuts, and others have twice the branch."""
    block, rectify = BLOCKS[kind], (lambda x: x) if kind == "preact" else jax.nn.relu
    x = jax.random.normal(jax.random.key(2), (8, 4, 4, 256 if kind == "senet" else 4))
    variables = block.init(jax.random.key(0), x, train=False)

    @jax.jit
    def run(skip):
        rngs = {"dropout": jax.random.key(1)}
        return block.apply(variables, x, train=True, skip=skip, mutable=["batch_stats"], rngs=rngs)[0]

    whole, half, none = (np.asarray(run(jnp.float32(skip))) for skip in (0, 0.5, 1 - 1e-7))
    np.testing.assert_array_equal(none, rectify(x))
    skipped = (half == none).all((1, 2, 3))
    assert 0 < skipped.sum() < 8
    # Where the rectifier cuts the sum off, it does not tell what the branch was.
    seen = (whole > 0) | (kind == "preact")
    twice = np.asarray(rectify(x + 2 * (whole - x)))
    kept = seen & ~skipped[:, None, None, None]
    assert kept.any()
    np.testing.assert_allclose(half[kept], twice[kept], rtol=1e-4, atol=1e-4)
