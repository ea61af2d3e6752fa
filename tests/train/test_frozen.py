"""Parameters that stay, and rates of their own: by hand, in every update rule, in scanned models and in a run."""

from functools import partial
from typing import get_args, get_type_hints

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax import layers, models
from cnnjax.data.augment import unchanged
from cnnjax.models.stacking import repeat
from cnnjax.settings import Optimizer
from cnnjax.train import Recipe, by_path, make_optimizer
from cnnjax.train.gradient import forward
from cnnjax.train.optimizer import fits, frozen_parameters
from tests.train.toy_run import TASK, Net, run, settings

pytestmark = pytest.mark.usefixtures("unchecked_types")

PARAMS = {
    "stem": {"kernel": jnp.asarray([[1.0, -2.0]])},
    "head": {"kernel": jnp.asarray([[3.0], [4.0]]), "bias": jnp.asarray([5.0])},
}
GRADIENTS = {
    "stem": {"kernel": jnp.asarray([[100.0, 200.0]])},
    "head": {"kernel": jnp.asarray([[0.3], [0.4]]), "bias": jnp.asarray([0.0])},
}


def updated(rule, params=PARAMS, gradients=GRADIENTS, steps=1):
    """The sums of the updates, and the state of the rule."""
    state, sums = rule.init(params), jax.tree.map(np.zeros_like, params)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(steps):
            updates, state = rule.update(gradients, state, params)
            sums = jax.tree.map(np.add, sums, updates)
    return sums, state


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("stem", ["stem/kernel"]),
        ("head/bias", ["head/bias"]),
        ("*/kernel", ["stem/kernel", "head/kernel"]),
        ("he*", ["head/kernel", "head/bias"]),
        ("?tem", ["stem/kernel"]),
        ("*", ["stem/kernel", "head/kernel", "head/bias"]),
        ("kernel", []),
        ("Stem", []),
    ],
)
def test_patterns_fit_a_path_or_what_is_above_it(pattern, paths):
    assert [path for path in ("stem/kernel", "head/kernel", "head/bias") if fits(path, pattern)] == paths


def test_frozen_parameters_stay_and_the_rule_knows_nothing_of_them():
    sums, state = updated(by_path(optax.sgd(0.1, momentum=0.9), frozen=("stem",)), steps=2)
    np.testing.assert_array_equal(sums["stem"]["kernel"], [[0, 0]])
    # The momentum of the second step is 1.9 times the gradient.
    np.testing.assert_allclose(sums["head"]["kernel"], -0.1 * 2.9 * np.array([[0.3], [0.4]]), rtol=1e-6)
    kept = [leaf.shape for leaf in jax.tree.leaves(state)]
    assert (1, 2) not in kept
    assert {(2, 1), (1,)} <= {*kept}


def test_clipping_and_decay_leave_frozen_parameters_out():
    """The gradient of the head has length one half; with that of the stem it would be 224 times as long."""
    rule = make_optimizer(Optimizer("sgd", 0.1, clip_norm=0.25, weight_decay=0.5), lambda step: 0.1)
    sums, _ = updated(by_path(rule, frozen=("stem",)))
    np.testing.assert_array_equal(sums["stem"]["kernel"], [[0, 0]])
    expected = -0.1 * (np.array([[0.15], [0.2]]) + 0.5 * np.array([[3], [4]]))
    np.testing.assert_allclose(sums["head"]["kernel"], expected, rtol=1e-6)


def test_rates_are_factors_and_the_first_that_fits_counts():
    rule = by_path(optax.sgd(0.1), rates={"head/kernel": 0.5, "head": 0.0, "s*": 10.0, "*/kernel": 7.0})
    sums, _ = updated(rule)
    np.testing.assert_allclose(sums["head"]["kernel"], -0.1 * 0.5 * np.array([[0.3], [0.4]]), rtol=1e-6)
    np.testing.assert_array_equal(sums["head"]["bias"], [0])
    np.testing.assert_allclose(sums["stem"]["kernel"], [[-100, -200]], rtol=1e-6)
    # What no pattern fits has the rate of the rule, also beside frozen parameters.
    sums, _ = updated(by_path(optax.sgd(0.1), frozen=("stem",), rates={"head/bias": 2.0}))
    np.testing.assert_allclose(sums["head"]["kernel"], -0.1 * np.array([[0.3], [0.4]]), rtol=1e-6)


@pytest.mark.parametrize("options", [{"frozen": ("stm",)}, {"rates": {"stm": 0.1}}], ids=["frozen", "rates"])
def test_a_pattern_that_fits_nothing_is_an_error(options):
    with pytest.raises(ValueError, match="no parameter has a path that fits 'stm'; there are stem, "):
        by_path(optax.sgd(0.1), **options).init(PARAMS)
    with pytest.raises(ValueError, match="no parameter has a path that fits 'conv'; there are head, stem, "):
        by_path(optax.sgd(0.1), frozen=("stem", "conv")).init(PARAMS)


STACKED = {"block2-4": {"kernel": jnp.ones((3, 2, 2))}, "head": {"kernel": jnp.ones((2, 2))}}


def test_scanned_blocks_are_chosen_by_their_own_names_all_or_none():
    assert frozen_parameters(STACKED, ("block*",)) == {"block2-4": {"kernel": True}, "head": {"kernel": False}}
    assert frozen_parameters(STACKED, ("block2", "block[34]"))["block2-4"] == {"kernel": True}
    sums, _ = updated(by_path(optax.sgd(0.1), rates={"block?/kernel": 0.5}), STACKED, STACKED)
    np.testing.assert_allclose(sums["block2-4"]["kernel"], np.full((3, 2, 2), -0.05), rtol=1e-6)
    for rule in (by_path(optax.sgd(0.1), frozen=("block3",)), by_path(optax.sgd(0.1), rates={"block3": 0.5})):
        with pytest.raises(
            ValueError, match="tell apart blocks of block2-4/kernel, which are scanned; create the model with scan=Fa"
        ):
            updated(rule, STACKED, STACKED)
    with pytest.raises(ValueError, match="no parameter has a path that fits 'block2-4'"):
        by_path(optax.sgd(0.1), frozen=("block2-4",)).init(STACKED)


@pytest.mark.parametrize("name", get_args(get_type_hints(Optimizer)["name"]))
def test_every_rule_goes_with_frozen_parameters_and_rates(name):
    """What is trained moves as it would alone, and half as far where its rate is half."""
    rule = make_optimizer(Optimizer(name, 0.1, weight_decay=0.1), lambda step: 0.1)
    of_head = [tree["head"] for tree in (PARAMS, GRADIENTS)]
    alone, _ = updated(rule, *({"head": tree} for tree in of_head), steps=2)
    sums, _ = updated(by_path(rule, frozen=("stem",), rates={"*/kernel": 0.5}), steps=2)
    np.testing.assert_array_equal(sums["stem"]["kernel"], [[0, 0]])
    np.testing.assert_allclose(sums["head"]["kernel"], 0.5 * alone["head"]["kernel"], rtol=1e-6)
    np.testing.assert_allclose(sums["head"]["bias"], alone["head"]["bias"], rtol=1e-6)
    sums, _ = updated(by_path(rule, frozen=("block*",)), STACKED, STACKED)
    np.testing.assert_array_equal(sums["block2-4"]["kernel"], np.zeros((3, 2, 2)))
    assert np.abs(sums["head"]["kernel"]).min() > 0


class Normed(nn.Module):
    """The package's batch normalisation, and Flax's in its three spellings."""

    @nn.compact
    def __call__(self, images, *, train=False):
        x = layers.BatchNorm(name="norm1")(images, train=train)
        x = nn.BatchNorm(name="norm2")(x, use_running_average=not train)
        x = nn.BatchNorm(not train, name="norm3")(x)
        x = nn.BatchNorm(name="norm4")(x, not train)
        return x.mean((1, 2))


class Scanned(nn.Module):
    scan: bool = True

    @nn.compact
    def __call__(self, images, *, train=False):
        return repeat(self, Block, images, first=2, last=3, scan=self.scan, train=train).mean((1, 2))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, *, train, skip):
        return layers.BatchNorm(name="norm")(layers.Conv(2, (1, 1), name="conv")(x), train=train)


IMAGES = np.random.default_rng(0).normal(3, 2, (8, 4, 4, 2)).astype(np.float32)
BATCH = {"image": IMAGES, "valid": np.ones(8, bool)}


def forward_of(model, frozen):
    """Variables with statistics of their own; output and new statistics of a training batch."""
    variables = dict(models.initialize(jax.random.key(0), model, IMAGES))
    variables["batch_stats"] = jax.tree.map(lambda leaf: leaf + 0.5, variables["batch_stats"])
    recipe = Recipe(model, TASK, optax.sgd(0.1), unchanged, lambda batch: batch, frozen=frozen)
    state = {"batch_stats": variables["batch_stats"]}
    output, new_state = jax.jit(partial(forward, recipe=recipe))(jax.random.key(1), variables["params"], state, BATCH)
    return variables, output, new_state


def test_frozen_batch_normalisation_keeps_its_statistics_and_normalises_by_them():
    variables, output, new_state = forward_of(Normed(), ("norm*",))
    jax.tree.map(np.testing.assert_array_equal, new_state, {"batch_stats": variables["batch_stats"]})
    # Four times (x - 0.5) / sqrt(1.5 + epsilon).
    expected = IMAGES.astype(np.float64)
    for _ in range(4):
        expected = (expected - 0.5) / np.sqrt(1.5 + 1e-5)
    np.testing.assert_allclose(output, expected.mean((1, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("frozen", [("norm1",), ("norm2",), ("norm3", "norm4")])
def test_the_others_go_on(frozen):
    variables, _, new_state = forward_of(Normed(), frozen)
    for name, old in variables["batch_stats"].items():
        moved = np.abs(np.asarray(new_state["batch_stats"][name]["var"] - old["var"])).max()
        assert (moved == 0) == (name in frozen), name


@pytest.mark.parametrize("frozen", [(), ("norm1/scale",), ("*/scale", "*/bias")])
def test_statistics_move_unless_the_whole_module_is_frozen(frozen):
    _, _, new_state = forward_of(Normed(), frozen)
    # A tenth of the way from 0.5 to the mean of the pictures.
    expected = 0.9 * 0.5 + 0.1 * IMAGES.mean((0, 1, 2))
    np.testing.assert_allclose(new_state["batch_stats"]["norm1"]["mean"], expected, rtol=1e-5)


@pytest.mark.parametrize("frozen", [("block*",), ("block2", "block3"), ("block2/norm", "block[3]/norm")])
def test_statistics_of_scanned_blocks_stay_too(frozen):
    variables, output, new_state = forward_of(Scanned(), frozen)
    jax.tree.map(np.testing.assert_array_equal, new_state, {"batch_stats": variables["batch_stats"]})
    single = models.unstack(variables)
    np.testing.assert_allclose(output, Scanned(scan=False).apply(single, IMAGES), rtol=1e-5, atol=1e-5)


def test_a_run_with_a_frozen_stem_and_rates_of_its_own(tmp_path):
    start = models.initialize(jax.random.key(5), Net(), np.zeros((1, 8, 8, 1), np.float32))
    rule = Optimizer("adamw", 0.1, weight_decay=0.5, frozen=("conv", "norm"), rates={"dense/bias": 0.0})
    result = run(settings(tmp_path / "run", steps=3, optimizer=rule), variables=start)
    found = result.state.params
    for name in ("conv", "norm"):
        jax.tree.map(np.testing.assert_array_equal, found[name], start["params"][name])
    jax.tree.map(np.testing.assert_array_equal, result.state.model_state["batch_stats"], start["batch_stats"])
    np.testing.assert_array_equal(found["dense"]["bias"], start["params"]["dense"]["bias"])
    assert np.abs(np.asarray(found["dense"]["kernel"] - start["params"]["dense"]["kernel"])).max() > 0.01
    # Adam keeps two moments of what is trained, and nothing of the 3 * 3 * 4 numbers of the convolution.
    shapes = [leaf.shape for leaf in jax.tree.leaves(result.state.opt_state)]
    assert shapes.count((64, 2)) == 2
    assert (3, 3, 1, 4) not in shapes


def test_a_run_is_refused_before_anything_is_written_where_a_pattern_fits_nothing(tmp_path):
    with pytest.raises(ValueError, match="no parameter has a path that fits 'stage1'; there are conv, dense, norm, "):
        run(settings(tmp_path / "run", optimizer=Optimizer(frozen=("stage1",))))
    assert not (tmp_path / "run").exists()
