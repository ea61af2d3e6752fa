"""A model joined to its variables: the same function as `model.apply`, and told where the two do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.models import Bound, Network, bind
from tests.models.quick import drawn

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 3)), jnp.float32)
MODEL = models.create("resnet20", num_classes=4)


@pytest.fixture(scope="module")
def variables():
    return jax.tree.map(jnp.asarray, drawn(MODEL, IMAGES))


def test_it_is_the_model_applied_to_its_variables(variables):
    net = bind(MODEL, variables)
    assert isinstance(net, Network)
    assert isinstance(net, Bound)
    np.testing.assert_array_equal(net(IMAGES), MODEL.apply(variables, IMAGES, train=False))
    maps = net(IMAGES, stages=("stage1",))
    assert {name: array.shape for name, array in maps.items()} == {"stage1": (2, 32, 32, 16)}
    # Inference, unless training is asked for.
    logits, state = net(IMAGES, train=True, mutable=["batch_stats"])
    assert (logits.shape, [*state]) == ((2, 4), ["batch_stats"])
    assert float(jnp.abs(logits - net(IMAGES)).max()) > 1e-3


def test_it_runs_compiled_and_says_what_it_is(variables):
    net = bind(MODEL, variables)
    np.testing.assert_allclose(jax.jit(net)(IMAGES), net(IMAGES), rtol=1e-4, atol=1e-4)
    # 9 * 3 * 16 in front, three stages of 6 convolutions, norms, and the classifier: 269,722 with 10 classes.
    assert repr(net) == f"Network(resnet20, {269_722 - 6 * 65:,} parameters, batch_stats)"


def without(tree, *path):
    if len(path) == 1:
        return {name: value for name, value in tree.items() if name != path[0]}
    return {**tree, path[0]: without(tree[path[0]], *path[1:])}


def test_variables_of_another_model_are_told_by_name(variables):
    cases = {
        # 19 norms, each with a mean and a variance.
        r"those of resnet20: batch_stats/bn1/mean \(16,\) is missing; .*; and 33 more": without(
            variables, "batch_stats"
        ),
        r"resnet20: params/conv1/kernel \(3, 3, 3, 16\) is missing$": without(variables, "params", "conv1", "kernel"),
        r"params/output/kernel is \(64, 4\), expected \(64, 10\)": variables,
    }
    for message, wrong in cases.items():
        model = models.create("resnet20") if wrong is variables else MODEL
        with pytest.raises(ValueError, match=message):
            bind(model, wrong)(IMAGES)


@pytest.mark.usefixtures("unchecked_types")
def test_what_cannot_be_bound(variables):
    with pytest.raises(ValueError, match=r"have the collections .*conv1.*; expected params among them"):
        bind(MODEL, variables["params"])
    with pytest.raises(ValueError, match="model is of type str; expected a Flax model"):
        bind("resnet20", variables)
    assert repr(bind(models.LeNet5(), {})) == "Network(lenet5, 0 parameters)"
