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
from cnnjax.train import Recipe, eval_step, train_step

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
    return recipe.first_state(BATCH, seed=0)


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
    assert TASK.summarize(metrics.metrics[0])["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert float(metrics.loss) == pytest.approx(losses.mean(), rel=1e-5)
    assert int(new.step) == 1


def test_running_statistics_move_in_training_and_rest_in_evaluation():
    recipe = recipe_of(Normed())
    state = start(recipe)
    new, _ = jax.jit(partial(train_step, recipe=recipe))(state, BATCH)
    assert (np.asarray(new.model_state["batch_stats"]["norm"]["mean"]) != 0).all()
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


def leaves_equal(found, expected, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), found, expected)


def test_parts_of_a_batch_add_up_to_the_batch():
    """Also where the parts hold different numbers of valid examples, and classes have weights."""
    task = Classification(("a", "b", "c"), class_weights=(1.0, 2.0, 5.0))
    batch = BATCH | {"valid": np.arange(16) % 3 != 0}
    results = []
    for accumulate in (1, 4):
        recipe = dataclasses.replace(recipe_of(Linear(), accumulate=accumulate), task=task)
        new, metrics = jax.jit(partial(train_step, recipe=recipe))(start(recipe), batch)
        assert len(metrics.metrics) == accumulate
        whole = jax.tree.map(lambda *parts: np.sum(parts, axis=0), *jax.device_get(metrics.metrics))
        results.append((new.params, metrics.loss, metrics.gradient_norm, task.summarize(whole)))
    leaves_equal(*results, rtol=2e-6)


def test_batch_normalisation_sees_the_parts_one_after_the_other():
    """Running statistics by hand: each part moves them by a tenth of the way."""
    recipe = recipe_of(Normed(), accumulate=2)
    state = start(recipe)
    new, _ = jax.jit(partial(train_step, recipe=recipe))(state, BATCH)
    maps = Normed().apply(state.variables, jnp.asarray(BATCH["image"]), capture_intermediates=True)[1]["intermediates"][
        "conv"
    ]
    means = [np.asarray(maps["__call__"][0])[part::2].mean((0, 1, 2)) for part in (0, 1)]
    np.testing.assert_allclose(
        new.model_state["batch_stats"]["norm"]["mean"], 0.9 * 0.1 * means[0] + 0.1 * means[1], rtol=1e-5
    )


def poisoned_image(state):
    return state, BATCH | {"image": np.where(np.arange(16)[:, None, None, None] == 3, np.nan, BATCH["image"])}


def poisoned_statistic(state):
    norm = state.model_state["batch_stats"]["norm"]
    poisoned = {"batch_stats": {"norm": norm | {"var": norm["var"].at[1].set(jnp.inf)}}}
    return dataclasses.replace(state, model_state=poisoned), BATCH


def poisoned_gradient(state):
    return state, BATCH | {"image": BATCH["image"] * np.float32(1e25)}


@pytest.mark.parametrize("poison", [poisoned_image, poisoned_statistic, poisoned_gradient])
def test_a_step_that_is_not_finite_changes_nothing(poison):
    recipe = recipe_of(Normed() if poison is not poisoned_gradient else Linear(), average=0.9)
    step = jax.jit(partial(train_step, recipe=recipe))
    state, batch = poison(start(recipe))
    new, metrics = step(state, batch)
    kept = ("params", "model_state", "opt_state", "averages")
    for name in kept:
        jax.tree.map(np.testing.assert_array_equal, getattr(new, name), getattr(state, name))
    assert (int(new.step), int(new.guard.skipped), int(new.guard.skipped_in_a_row)) == (1, 1, 1)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(metrics.metrics))
    again, _ = step(new, batch)
    assert (int(again.guard.skipped), int(again.guard.skipped_in_a_row)) == (2, 2)
    if poison is not poisoned_statistic:
        well, metrics = step(again, BATCH)
        assert (int(well.step), int(well.guard.skipped), int(well.guard.skipped_in_a_row)) == (3, 2, 0)
        assert np.isfinite(metrics.loss)


def test_averages_follow_the_parameters():
    recipe = recipe_of(Normed(), average=0.15)
    state = start(recipe)
    first = state.params["dense"]["bias"]
    new, _ = jax.jit(partial(train_step, recipe=recipe))(state, BATCH)
    # In the first steps the share of the old is (1 + t) / (10 + t), a tenth.
    expected = 0.1 * first + 0.9 * new.params["dense"]["bias"]
    np.testing.assert_allclose(new.averages["params"]["dense"]["bias"], expected, rtol=1e-6)
    later, _ = jax.jit(partial(train_step, recipe=recipe))(dataclasses.replace(new, step=jnp.int32(100)), BATCH)
    mean = 0.15 * new.averages["batch_stats"]["norm"]["mean"] + 0.85 * later.model_state["batch_stats"]["norm"]["mean"]
    np.testing.assert_allclose(later.averages["batch_stats"]["norm"]["mean"], mean, rtol=1e-5)
    # Evaluation is of the averages.
    jax.tree.map(np.testing.assert_array_equal, later.variables["params"], later.averages["params"])


def test_the_loss_scale_keeps_small_gradients_and_shrinks_at_an_overflow():
    class Half(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            return layers.Dense(3, dtype=jnp.float16, name="dense")(images.reshape(images.shape[0], -1))

    def small(batch):
        return batch | {"image": batch["image"] * 1e-5}

    recipe = recipe_of(Half(), prepare=small, loss_scaling=True)
    state = start(recipe)
    assert float(state.guard.loss_scale) == 2.0**16
    state = dataclasses.replace(state, guard=state.guard._replace(good_steps=jnp.int32(1998)))
    step = jax.jit(partial(train_step, recipe=recipe))
    exact = recipe_of(Linear(), prepare=small)
    expected = jax.jit(partial(train_step, recipe=exact))(start(exact), BATCH)[1].gradient_norm
    scales = []
    for batch in (BATCH, BATCH, BATCH | {"image": BATCH["image"] * np.float32(1e7)}, BATCH):
        state, metrics = step(state, batch)
        scales.append(float(state.guard.loss_scale) / 2**16)
        if len(scales) == 1:
            np.testing.assert_allclose(metrics.gradient_norm, expected, rtol=2e-3)
    # After 2,000 good steps it doubles, and at an overflow it halves.
    assert scales == [1, 2, 1, 1]
    assert int(state.guard.skipped) == 1
