"""The step against a gradient written out, and on eight devices against one."""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax import layers
from cnnjax.data.augment import unchanged
from cnnjax.tasks import Classification
from cnnjax.train import Recipe, eval_step, parallel, train_step

TASK = Classification(("a", "b", "c"))
generator = np.random.default_rng(0)
BATCH = {
    "image": generator.normal(size=(16, 4, 4, 2)).astype(np.float32),
    "label": generator.integers(0, 3, 16).astype(np.int32),
    "id": np.arange(16, dtype=np.int32),
    "valid": np.ones(16, bool),
}


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        return layers.Dense(3, name="dense")(images.reshape(images.shape[0], -1))


class Normed(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        x = layers.Conv(4, (3, 3), name="conv")(images)
        x = layers.BatchNorm(name="norm")(x, train=train)
        x = nn.Dropout(0.5, deterministic=not train, name="dropout")(nn.relu(x))
        return layers.Dense(3, name="dense")(x.reshape(x.shape[0], -1))


def recipe_of(model, **changes):
    parts = {"augment": unchanged, "prepare": lambda batch: batch} | changes
    return Recipe(model, TASK, optax.sgd(0.1), **parts)


def start(recipe):
    return recipe.first_state(jnp.asarray(BATCH["image"]), seed=0)


def test_one_sgd_step_written_out():
    recipe = recipe_of(Linear())
    state = start(recipe)
    new, metrics = jax.jit(partial(train_step, recipe=recipe))(state, BATCH)
    kernel, bias = (np.asarray(state.params["dense"][name], np.float64) for name in ("kernel", "bias"))
    x = BATCH["image"].reshape(16, -1)
    logits = x @ kernel + bias
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    error = (probabilities - np.eye(3)[BATCH["label"]]) / 16
    np.testing.assert_allclose(new.params["dense"]["kernel"], kernel - 0.1 * x.T @ error, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(new.params["dense"]["bias"], bias - 0.1 * error.sum(0), rtol=1e-4, atol=1e-6)
    losses = -np.log(probabilities[np.arange(16), BATCH["label"]])
    assert TASK.summarize(metrics.parts[0])["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert float(metrics.loss) == pytest.approx(losses.mean(), rel=1e-5)
    assert int(new.step) == 1


def test_running_statistics_move_in_training_and_rest_in_evaluation():
    recipe = recipe_of(Normed())
    state = start(recipe)
    new, _ = jax.jit(partial(train_step, recipe=recipe))(state, BATCH)
    assert (np.asarray(new.batch_stats["norm"]["mean"]) != 0).all()
    # Dropout and statistics are off in evaluation: twice the same.
    evaluate = jax.jit(partial(eval_step, recipe=recipe))
    first, second = evaluate(new, BATCH), evaluate(new, BATCH)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_dropout_and_augmentation_draw_anew_every_step_and_again_the_same():
    seen = []
    recipe = recipe_of(Normed(), augment=lambda key, batch: batch | {"image": batch["image"] + jax.random.normal(key)})
    step = jax.jit(partial(train_step, recipe=recipe))
    state = start(recipe)
    for number in (0, 1, 0):
        seen.append(float(step(dataclasses.replace(state, step=jnp.int32(number)), BATCH)[1].loss))
    assert seen[0] == seen[2] != seen[1]


def test_augment_comes_before_prepare_and_only_in_training():
    recipe = recipe_of(
        Linear(),
        augment=lambda key, batch: batch | {"image": batch["image"] + 1},
        prepare=lambda batch: batch | {"image": batch["image"] * 2},
    )
    state = start(recipe)
    plain = recipe_of(Linear())
    batch = jax.tree.map(jnp.asarray, BATCH)
    _, trained = train_step(state, batch, recipe=recipe)
    _, expected = train_step(state, batch | {"image": (batch["image"] + 1) * 2}, recipe=plain)
    jax.tree.map(np.testing.assert_allclose, trained, expected)
    evaluated, _ = eval_step(state, batch, recipe=recipe)
    expected, _ = eval_step(state, batch | {"image": batch["image"] * 2}, recipe=plain)
    jax.tree.map(np.testing.assert_allclose, evaluated, expected)


def test_meshes_and_batches_that_cannot_be():
    with pytest.raises(ValueError, match="devices=9, but there are only 8"):
        parallel.make_mesh(9)
    mesh = parallel.make_mesh(8)
    parallel.check_batch_size(64, mesh)
    with pytest.raises(ValueError, match="batch_size=60 cannot be split over 8 devices; 56 and 64 can"):
        parallel.check_batch_size(60, mesh)
    with pytest.raises(ValueError, match="batch_size=4 cannot be split over 8 devices; 8 can"):
        parallel.check_batch_size(4, mesh)
