"""One training step and one evaluation step, as pure functions of state and batch."""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from cnnjax.data.batches.resident import gather
from cnnjax.train.gradient import Replicas, gradients
from cnnjax.train.recipe import Recipe
from cnnjax.train.state import Guard, TrainState

# As PyTorch's GradScaler: the loss scale doubles after so many steps without overflow, and halves at one.
_SCALE_DOUBLES_AFTER = 2000


class StepMetrics(NamedTuple):
    """What a step reports.

    Attributes:
        loss: the mean that was minimised.
        gradient_norm: of all parameters, before any clipping.
        skipped_in_a_row: skipped steps in a row, this one included.
        metrics: what the task reports of its loss, for each microbatch; zeros where the step was skipped.
    """

    loss: Any
    gradient_norm: Any
    skipped_in_a_row: Any
    metrics: tuple[Any, ...]


def train_step(
    state: TrainState, batch: Any, examples: Any = None, *, recipe: Recipe, replicas: Replicas | None = None
) -> tuple[TrainState, StepMetrics]:
    r"""Gather, augment, prepare, forward, loss, gradient, update: a new state, and the metrics of the batch.

    The gradient is that of the mean over the whole batch, $\nabla \sum_i \ell_i / \sum_i n_i$, summed over its
    microbatches and the replicas. If loss, gradient or model state are not finite the update is skipped; only the step
    and skip counters change.

    `examples` are all of the training set, of which the batch then holds the numbers; None or empty where it is whole.
    Random streams of the model (dropout and any other) are drawn from the run's key and the step's number.
    """
    augment_key, model_key = jax.random.split(jax.random.fold_in(state.key, state.step))
    batch = recipe.augment(augment_key, gather(examples, batch))
    found = gradients(model_key, state, batch, recipe=recipe, replicas=replicas)
    count = jnp.maximum(found.loss.count, jnp.finfo(jnp.float32).tiny)
    scale = batch["valid"].shape[0] / recipe.accumulate / (count * state.guard.loss_scale)
    gradient = jax.tree.map(lambda leaf: leaf * scale, found.gradients)
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(gradient)))
    finite = jnp.isfinite(found.loss.total) & jnp.isfinite(norm) & _all_finite(found.model_state)
    # Optax mixes Python floats with integer counts, which strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = recipe.optimizer.update(gradient, state.opt_state, state.params)
    params, model_state = optax.apply_updates(state.params, updates), found.model_state
    averages = _averaged(state, {"params": params, **model_state}, recipe.average)
    taken = dataclasses.replace(state, params=params, model_state=model_state, opt_state=opt_state, averages=averages)
    kept = jax.tree.map(partial(jnp.where, finite), taken, state)
    guard = _guarded(state.guard, finite, scaling=recipe.loss_scaling)
    metrics = jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.zeros_like(leaf)), found.metrics)
    report = StepMetrics(found.loss.value, norm, guard.skipped_in_a_row, metrics)
    return dataclasses.replace(kept, step=state.step + 1, guard=guard), report


def train_steps(
    state: TrainState, batches: Any, examples: Any = None, *, recipe: Recipe, replicas: Replicas | None = None
) -> tuple[TrainState, StepMetrics]:
    """Several steps in one call; batches and metrics have the steps as their leading axis."""

    def step(carry: TrainState, batch: Any) -> tuple[TrainState, StepMetrics]:
        return train_step(carry, batch, examples, recipe=recipe, replicas=replicas)

    return lax.scan(step, state, batches)


def eval_step(state: TrainState, batch: Any, examples: Any = None, *, recipe: Recipe) -> tuple[dict[str, Any], Any]:
    """Metrics of a batch as sums, and predictions; `examples` are as in `train_step`."""
    batch = recipe.prepare(gather(examples, batch))
    output = recipe.model.apply(state.variables, recipe.task.inputs(batch, train=False), train=False)
    predictions = recipe.task.predict(output, batch)
    return recipe.task.metrics(output, predictions, batch), predictions


def _averaged(state: TrainState, variables: Any, decay: float) -> Any:
    r"""The averages after a step, $a \leftarrow d a + (1 - d) v$; d rises to the decay as $(1 + t) / (10 + t)$."""
    if not state.averages:
        return state.averages
    taken = state.step.astype(jnp.float32)
    share = 1 - jnp.minimum(decay, (1 + taken) / (10 + taken))

    def averaged(old: jax.Array, new: jax.Array) -> jax.Array:
        return old + (share * (new - old)).astype(old.dtype) if jnp.issubdtype(old.dtype, jnp.inexact) else new

    return jax.tree.map(averaged, dict(state.averages), variables)


def _guarded(guard: Guard, finite: jax.Array, *, scaling: bool) -> Guard:
    skipped = guard.skipped + (~finite).astype(jnp.int32)
    in_a_row = jnp.where(finite, 0, guard.skipped_in_a_row + 1)
    if not scaling:
        return guard._replace(skipped=skipped, skipped_in_a_row=in_a_row)
    doubles = guard.good_steps + 1 >= _SCALE_DOUBLES_AFTER
    factor = jnp.where(finite, jnp.where(doubles, 2.0, 1.0), 0.5)
    good_steps = jnp.where(finite & ~doubles, guard.good_steps + 1, 0)
    return Guard(skipped, in_a_row, jnp.maximum(guard.loss_scale * factor, 1.0), good_steps)


def _all_finite(tree: Any) -> jax.Array:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.asarray([jnp.all(jnp.isfinite(leaf)) for leaf in floats], bool))
