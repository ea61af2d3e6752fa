"""A NaN is planted, and found where it was planted."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax import layers
from cnnjax.data.augment import unchanged
from cnnjax.models.stacking import repeat
from cnnjax.train import Recipe
from cnnjax.train.diagnosis import diagnose
from tests.train.toy_run import TASK, TRAIN, Net, run, scaled, settings

BATCH = {
    "image": jnp.asarray(TRAIN.arrays["image"][:8]),
    "label": jnp.asarray(TRAIN.arrays["label"][:8]),
    "id": jnp.arange(10, 18),
    "valid": jnp.ones(8, bool),
}


class Root(nn.Module):
    """Its output is finite, and its gradient at zero is not."""

    @nn.compact
    def __call__(self, images, *, train=False):
        x = layers.Dense(2, kernel_init=nn.initializers.zeros, name="dense")(images.reshape(images.shape[0], -1))
        return jnp.sqrt(jnp.abs(x))


class Logarithm(Net):
    """Net with a layer that returns what is not finite."""

    @nn.compact
    def __call__(self, images, *, train=False):
        x = layers.Conv(2, (3, 3), name="conv1")(images)
        x = layers.Conv(2, (3, 3), kernel_init=lambda *_: jnp.full((3, 3, 2, 2), 3e38), name="conv2")(x)
        return layers.Dense(2, name="dense")(x.reshape(x.shape[0], -1))


def finding(model, *, batch=BATCH, change=lambda state: state, prepare=scaled):
    recipe = Recipe(model, TASK, optax.sgd(0.1), unchanged, prepare)
    state = recipe.first_state(BATCH, seed=0)
    return diagnose(change(state), batch, None, recipe=recipe)


def test_what_is_finite_has_no_finding():
    found = finding(Net())
    assert (found.step, found.first, found.ids) == (1, None, tuple(range(10, 18)))
    assert "its replay, on the whole batch at once, was finite; examples 10, 11," in str(found)


def test_an_image():
    def poison(batch):
        bad = (batch["id"] == 12)[:, None, None, None]
        return {**batch, "image": jnp.where(bad, jnp.nan, scaled(batch)["image"])}

    found = finding(Net(), prepare=poison)
    assert (found.first, found.ids) == ("the batch's image", (12,))


@pytest.mark.parametrize(("model", "expected"), [(Root(), "the gradient of dense/bias"), (Logarithm(), "layer conv2")])
def test_a_layer_and_a_gradient(model, expected):
    assert finding(model).first == expected


def test_a_parameter_and_a_statistic():
    def parameter(state):
        bias = state.params["dense"]["bias"].at[1].set(jnp.inf)
        return dataclasses.replace(state, params=state.params | {"dense": state.params["dense"] | {"bias": bias}})

    def statistic(state):
        norm = state.model_state["batch_stats"]["norm"]
        poisoned = {"batch_stats": {"norm": norm | {"mean": norm["mean"].at[0].set(jnp.nan)}}}
        return dataclasses.replace(state, model_state=poisoned)

    assert finding(Net(), change=parameter).first == "parameter dense/bias"
    assert finding(Net(), change=statistic).first == "the state's batch_stats/norm/mean"


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, *, train, skip):
        y = nn.relu(layers.Conv(2, (3, 3), name="conv1")(x))
        return x + layers.Conv(2, (3, 3), name="conv2")(y)


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        x = layers.Conv(2, (3, 3), name="stem")(images)
        x = repeat(self, Block, x, first=2, last=3, scan=True, train=train)
        return layers.Dense(2, name="dense")(x.mean((1, 2)))


def test_the_block_of_a_scanned_run_is_named_too():
    def large(state):
        run_ = state.params["block2-3"]
        kernel = jnp.full_like(run_["conv2"]["kernel"], 3e38)
        params = state.params | {"block2-3": run_ | {"conv2": run_["conv2"] | {"kernel": kernel}}}
        return dataclasses.replace(state, params=params)

    # Not block3, which the wrong numbers reach from here.
    assert finding(Scanned(), change=large).first == "layer block2/conv2"


def test_a_run_that_stops_writes_what_it_found(tmp_path):
    def poison(batch):
        bad = (batch["id"] == 7)[:, None, None, None]
        return batch | {"image": jnp.where(bad, jnp.nan, scaled(batch)["image"])}

    # One step has example 7: the run goes on.
    result = run(settings(tmp_path / "one", epochs=1.0, most_skipped=2), prepare=poison)
    assert int(result.state.guard.skipped) == 1
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result.state.params))
    with pytest.raises(
        FloatingPointError, match=r"1 steps in a row were skipped, .*first in the batch's image; ex.* 7\)"
    ):
        run(settings(tmp_path / "two", epochs=1.0, most_skipped=1), prepare=poison)
    dump = json.loads((tmp_path / "two" / "not_finite.json").read_text())
    assert dump["first"] == "the batch's image"
    assert dump["ids"] == [7]
    assert dump["step"] == int(np.flatnonzero([7 in ids for ids in order()])[0]) + 1


def order():
    """The ids of each batch of the run, from the pipeline."""
    from cnnjax.data.batches.order import Order, Part, id_batches

    batches = id_batches(Order(len(TRAIN), 0), Part(16))
    return [next(batches)["id"].tolist() for _ in range(7)]
