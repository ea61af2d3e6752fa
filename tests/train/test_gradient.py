"""The model's other collections in a step: carried from microbatch to microbatch, and over replicas."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax.data.augment import unchanged
from cnnjax.train import Recipe
from cnnjax.train.gradient import forward, gradients
from cnnjax.train.parallel import Parallel, make_mesh
from tests.train.toy_collections import Counting
from tests.train.toy_run import TASK, TRAIN

pytestmark = pytest.mark.usefixtures("unchecked_types")

PICTURES = TRAIN.arrays["image"][:16].astype(np.float32) / 255
BATCH = {"image": PICTURES, "label": TRAIN.arrays["label"][:16], "id": np.arange(16), "valid": np.ones(16, bool)}


def recipe_of(model=None, **changes):
    return Recipe(model or Counting(), TASK, optax.sgd(0.1), unchanged, lambda batch: batch, **changes)


def after_one_step(strategy="jit", devices=1, **changes):
    recipe = recipe_of(**changes)
    parallel = Parallel(make_mesh(devices), strategy)
    state = parallel.replicate(recipe.first_state(BATCH, seed=0))
    (batch,) = parallel.to_devices([BATCH], training=True)
    state, _ = parallel.compile_training(recipe, state, batch, None)(state, batch, None)
    return jax.device_get(parallel.unreplicate(state))


def test_a_collection_of_its_own_is_carried():
    found = after_one_step().model_state["seen"]
    assert (found["batches"], found["batches"].dtype) == (1, np.int32)
    np.testing.assert_allclose(found["brightness"], 0.5 * PICTURES.mean(dtype=np.float64), rtol=1e-6)


def test_microbatches_see_it_one_after_the_other():
    found = after_one_step(accumulate=2).model_state["seen"]
    assert found["batches"] == 2
    first, second = (PICTURES[part::2].mean(dtype=np.float64) for part in (0, 1))
    np.testing.assert_allclose(found["brightness"], 0.25 * first + 0.5 * second, rtol=1e-6)


@pytest.mark.parametrize("strategy", ["shard_map", "pmap"])
def test_of_replicas_floats_are_averaged_and_whole_numbers_are_those_of_one(strategy):
    found = after_one_step(strategy, devices=2).model_state["seen"]
    assert (found["batches"], found["batches"].dtype) == (1, np.int32)
    np.testing.assert_allclose(found["brightness"], 0.5 * PICTURES.mean(dtype=np.float64), rtol=1e-6)


def test_no_gradient_reaches_frozen_parameters():
    recipe = recipe_of(frozen=("conv",))
    state = recipe.first_state(BATCH, seed=0)
    found = jax.jit(lambda key: gradients(key, state, BATCH, recipe=recipe, replicas=None))(jax.random.key(0))
    assert np.abs(found.gradients["conv"]["kernel"]).max() == 0
    assert np.abs(found.gradients["dense"]["kernel"]).max() > 0


def test_what_modules_returned_is_captured_when_it_is_asked_for():
    recipe = recipe_of()
    state = recipe.first_state(BATCH, seed=0)
    for capture in (False, True):
        _, new = forward(jax.random.key(0), state.params, state.model_state, BATCH, recipe=recipe, capture=capture)
        assert new.keys() == {"batch_stats", "seen", *(["intermediates"] if capture else [])}
    assert new["intermediates"]["conv"]["__call__"][0].shape == (16, 4, 4, 4)


def test_every_random_stream_of_a_model_is_drawn_from_the_key():
    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            x = nn.Dense(2, name="dense")(images.mean((1, 2)))
            return x + jax.random.normal(self.make_rng("noise"), x.shape) if train else x

    recipe = recipe_of(Noisy())
    state = recipe.first_state(BATCH, seed=0)
    keys = [jax.random.key(number) for number in (0, 0, 1)]
    outputs = [forward(key, state.params, state.model_state, BATCH, recipe=recipe)[0] for key in keys]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert np.abs(np.asarray(outputs[0] - outputs[2])).min() > 0


class Drawn(nn.Module):
    """Notes what it has drawn."""

    @nn.compact
    def __call__(self, images, *, train=False):
        noise = self.variable("drawn", "noise", lambda: jnp.zeros((), jnp.float32))
        if train:
            noise.value = jax.random.normal(self.make_rng("noise"))
        return nn.Dense(2, name="dense")(images.mean((1, 2)))


def test_replicas_draw_each_their_own():
    """The first of two draws what one alone does: the mean of both would be that if the second drew the same."""
    alone, of_two = (
        after_one_step("shard_map", devices=devices, model=Drawn()).model_state["drawn"]["noise"] for devices in (1, 2)
    )
    assert abs(alone - of_two) > 1e-3
