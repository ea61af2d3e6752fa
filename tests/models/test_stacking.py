"""Scanned runs of blocks against the same blocks one after the other."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax import analysis, models
from cnnjax.models.resnet import BasicBlock, BottleneckBlock, CifarResNet, ResNet
from cnnjax.models.stacking import map_layers, stack_axes
from tests.models.quick import drawn, run_unoptimised

SHALLOW = {
    "basic": (ResNet, {"block": BasicBlock, "depths": (3, 2)}, 32),
    "bottleneck": (ResNet, {"block": BottleneckBlock, "depths": (3, 2)}, 32),
    "cifar": (CifarResNet, {"depth": 2}, 8),
    "preact": (models.PreactResNet, {"depth": 3}, 8),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("kind", SHALLOW)
def test_scanned_equals_unrolled(kind):
    """Outputs, running statistics and gradients, with weights carried over by name."""
    build, options, side = SHALLOW[kind]
    unrolled, scanned = build(**options, num_classes=5, scan=False), build(**options, num_classes=5, scan=True)
    images = jax.random.normal(jax.random.key(0), (3, side, side, 3))
    variables = drawn(unrolled, images)
    like = jax.eval_shape(scanned.init, jax.random.key(1), images)
    stacked = models.stack(variables, like)
    assert jax.tree.structure(stacked) == jax.tree.structure(like)
    assert len(jax.tree.leaves(stacked)) < len(jax.tree.leaves(variables))

    def run(model, variables):
        def loss(params):
            output, updates = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return jnp.sum(output**2), (output, updates)

        gradients, (output, updates) = jax.grad(loss, has_aux=True)(variables["params"])
        return models.unstack(gradients), output, models.unstack(updates), model.apply(variables, images)

    expected = run_unoptimised(partial(run, unrolled), variables)
    found = run_unoptimised(partial(run, scanned), stacked)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected[0]))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5 * scale)


def test_blocks_start_differently():
    model = models.PreactResNet(4, scan=True)
    variables = run_unoptimised(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    kernels = variables["params"]["stage1"]["block2-4"]["conv2"]["kernel"]
    assert kernels.shape == (3, 3, 3, 16, 16)
    assert not np.array_equal(kernels[0], kernels[1])


def test_round_trip_in_an_optimizer_state():
    """Dictionaries inside Optax's tuples, and what is no dictionary."""
    params = {"stage": {"block1": {"w": jnp.ones(2)}, "block2-3": {"w": jnp.arange(4.0).reshape(2, 2)}}}
    state = optax.adam(1e-3).init(params)
    apart = models.unstack(state)
    assert list(apart[0].mu["stage"]) == ["block1", "block2", "block3"]
    together = models.stack(apart, state)
    assert jax.tree.structure(together) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, together, state)
    np.testing.assert_array_equal(models.unstack(params)["stage"]["block3"]["w"], [2.0, 3.0])
    assert models.unstack(3.0) == 3.0
    # A dictionary around the tuples changes nothing.
    whole = models.stack(models.unstack({"state": state, "step": 3}), {"state": state, "step": 0})
    assert jax.tree.structure(whole["state"]) == jax.tree.structure(state)


def test_shapes_are_unstacked_too():
    tree = {"block1-2": {"w": jax.ShapeDtypeStruct((2, 5), jnp.float32)}}
    assert models.unstack(tree)["block2"]["w"].shape == (5,)
    assert models.stack(models.unstack(tree), tree) == tree


def test_modules_that_only_have_the_name_of_a_run_stay_as_they_are():
    tree = {
        "block2-4": {"kernel": np.ones((3, 3, 8, 16)), "bias": np.ones(16)},  # three rows, not three blocks
        "fc6-7": {"kernel": np.ones((2, 5))},
    }
    assert models.unstack(tree) == tree
    assert models.stack(tree, tree) == tree
    assert stack_axes(tree) == {"block2-4": {"kernel": 0, "bias": 0}, "fc6-7": {"kernel": 0}}


def test_a_function_of_one_layer_is_mapped_over_stacks():
    tree = {"stage": {"block1": {"w": jnp.arange(6.0).reshape(2, 3)}, "block2-3": {"w": jnp.ones((2, 2, 3))}}}
    sums = map_layers(lambda one, other: jnp.sum(one * other), tree, tree)
    assert float(sums["stage"]["block1"]["w"]) == 55  # 0 + 1 + 4 + 9 + 16 + 25
    np.testing.assert_array_equal(sums["stage"]["block2-3"]["w"], [6.0, 6.0])


def test_missing_blocks_are_named():
    with pytest.raises(ValueError, match="stage/block1-2 cannot be stacked: stage/block2 is missing"):
        models.stack({"stage": {"block1": {"w": np.ones(1)}}}, {"stage": {"block1-2": {"w": np.ones((2, 1))}}})


def test_unstacked_variables_in_a_scanned_model_are_refused():
    images = jnp.zeros((1, 8, 8, 3))
    variables = jax.tree.map(jnp.asarray, drawn(models.CifarResNet(2), images))
    with pytest.raises(ValueError, match=r"layer stage1: blocks 1 to 2 come one by one.*scan=False"):
        models.CifarResNet(2, scan=True).apply(variables, images)


def test_analyses_see_the_blocks_one_by_one():
    shape = (1, 16, 16, 3)
    rows = [analysis.summary(models.PreactResNet(3, scan=scan), shape).rows() for scan in (True, False)]
    assert rows[0] == rows[1]
