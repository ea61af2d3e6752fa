"""The state before the first step: drawn, or from given variables; all collections of the model are in it."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax import layers, models
from cnnjax.models.stacking import repeat
from cnnjax.train import create_state
from tests.train.toy_collections import Counting
from tests.train.toy_run import Net

INPUTS = jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)


def start(model=None, optimizer=None, **options):
    return create_state(model or Net(), optimizer or optax.sgd(0.1), INPUTS, **({"seed": 0} | options))


def test_the_seed_decides_parameters_and_draws():
    first, again, other = (start(seed=seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first.params, again.params)
    np.testing.assert_array_equal(jax.random.key_data(first.key), jax.random.key_data(again.key))
    assert np.abs(np.asarray(first.params["dense"]["kernel"] - other.params["dense"]["kernel"])).max() > 0
    assert (jax.random.key_data(first.key) != jax.random.key_data(other.key)).any()


def test_all_collections_are_carried():
    state = start(Counting())
    assert state.model_state.keys() == {"batch_stats", "seen"}
    assert state.model_state["seen"]["batches"].dtype == jnp.int32
    assert state.variables.keys() == {"params", "batch_stats", "seen"}
    averaged = start(Counting(), averaged=True)
    jax.tree.map(np.testing.assert_array_equal, averaged.averages, state.variables)
    assert averaged.variables.keys() == state.variables.keys()


def test_what_a_module_notes_for_its_watcher_is_no_state():
    class Sown(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            self.sow("intermediates", "mean", images.mean())
            return layers.Dense(2, name="dense")(images.mean((1, 2)))

    assert start(Sown()).model_state == {}


def test_given_variables_are_taken_in_the_types_of_the_model():
    drawn = models.initialize(jax.random.key(7), Net(), np.zeros((1, 8, 8, 1), np.float32))
    plain = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) + 0.25, drawn)
    state = start(optimizer=optax.adam(1e-3), variables=plain)
    jax.tree.map(np.testing.assert_array_equal, dict(state.variables), jax.tree.map(np.float32, plain))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.variables)} == {jnp.dtype("float32")}
    # The draws of the run are those of its seed.
    np.testing.assert_array_equal(jax.random.key_data(state.key), jax.random.key_data(start().key))


def without(tree, name):
    return {key: value for key, value in tree.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: without(v, "batch_stats"), "batch_stats/norm/mean: None there, 4 here; batch_stats/norm/var: None"),
        (lambda v: v | {"params": without(v["params"], "dense")}, "params/dense/bias: None there, 2 here; params/den"),
        (lambda v: v | {"cache": {"old": np.zeros((2, 3))}}, "cache/old: 2x3 there, None here"),
        (lambda v: v | {"params": v["params"] | {"dense": {"bias": np.zeros(3)}}}, "params/dense/bias: 3 there, 2 he"),
        (
            lambda v: v | {"params": {str(n): np.zeros(()) for n in range(9)}},
            "one number there, None here; .*; and 8 m",
        ),
        (lambda v: v["params"], "start from all variables of this model, such as models.initialize gives"),
    ],
)
def test_variables_of_another_model_are_refused_with_what_differs(change, message):
    variables = models.initialize(jax.random.key(0), Net(), np.zeros((1, 8, 8, 1), np.float32))
    with pytest.raises(ValueError, match=f"variables are not those of Net .*{message}"):
        start(variables=change(variables))


def test_empty_collections_do_not_matter():
    variables = models.initialize(jax.random.key(0), Net(), np.zeros((1, 8, 8, 1), np.float32))
    jax.tree.map(np.testing.assert_array_equal, start(variables=variables | {"cache": {}}).params, variables["params"])


class Blocks(nn.Module):
    scan: bool

    @nn.compact
    def __call__(self, images, *, train=False):
        return repeat(self, Block, images, first=2, last=4, scan=self.scan, train=train).mean((1, 2))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, *, train, skip):
        return layers.BatchNorm(name="norm")(layers.Conv(1, (3, 3), name="conv")(x), train=train)


def test_a_model_that_scans_starts_from_single_blocks_and_the_other_way_round():
    single, stacked = (
        models.initialize(jax.random.key(3), Blocks(scan), np.zeros((1, 8, 8, 1), np.float32)) for scan in (False, True)
    )
    found = start(Blocks(True), variables=single)
    assert found.params.keys() == {"block2-4"}
    jax.tree.map(np.testing.assert_array_equal, models.unstack(dict(found.variables)), single)
    back = start(Blocks(False), variables=stacked)
    jax.tree.map(np.testing.assert_array_equal, dict(back.variables), models.unstack(stacked))


def test_loss_scales_are_those_of_the_precision():
    assert float(start().guard.loss_scale) == 1
    assert float(start(loss_scaling=True).guard.loss_scale) == 2**16


def test_inputs_that_do_not_fit_are_told_first():
    class Pooled(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            return layers.MaxPool(9, name="pool")(images)

    with pytest.raises(ValueError, match=re.escape("the smallest size that works is 9x9")):
        start(Pooled(), variables={"params": {}})
