"""Loss and gradient of a batch: in microbatches one after the other, and summed over the replicas of a mesh."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax import layers
from cnnjax.models.stacking import single_paths
from cnnjax.tasks import Mean, Metric
from cnnjax.train.optimizer import fits, frozen_parameters
from cnnjax.train.recipe import Recipe
from cnnjax.train.state import TrainState


@dataclasses.dataclass(frozen=True)
class Replicas:
    """Copies of the step along a mapped axis, each with its own part of the batch.

    Attributes:
        axis: its name.
        pooled: whether batch normalisation pools its statistics over the replicas; each takes its own where not.
    """

    axis: str
    pooled: bool = False


class Gradients(NamedTuple):
    """Result of one forward and backward pass.

    Attributes:
        gradients: d(loss.total * loss_scale / rows) / d params, rows being those of a microbatch.
        loss: the mean to minimise.
        model_state: the new collections of the model, such as its running statistics.
        metrics: what the task reports of its loss, for each microbatch.
    """

    gradients: Any
    loss: Mean
    model_state: dict[str, Any]
    metrics: tuple[dict[str, Metric], ...]


def gradients(key: jax.Array, state: TrainState, batch: Any, *, recipe: Recipe, replicas: Replicas | None) -> Gradients:
    """Gradient, loss, new model state and metrics of a whole batch, summed over its microbatches and all replicas.

    The model's state goes from microbatch to microbatch; over the replicas its floats are averaged, in one reduction
    with the gradients.

    Args:
        key: of all random draws of the model.
        state: whose parameters are differentiated.
        batch: this replica's part of the batch, augmented.
        recipe: what the step is made of.
        replicas: copies of the step that run at once; None for one.
    """
    if replicas is not None:
        key = jax.random.fold_in(key, lax.axis_index(replicas.axis))
    if recipe.accumulate == 1:
        found = _of_microbatch(key, state, state.model_state, batch, recipe, replicas)
    else:
        found = _accumulated(key, state, batch, recipe, replicas)
    return found if replicas is None else _all_reduced(found, replicas.axis)


def _of_microbatch(
    key: jax.Array, state: TrainState, model_state: Any, batch: Any, recipe: Recipe, replicas: Replicas | None
) -> Gradients:
    batch = recipe.prepare(batch)
    rows = batch["valid"].shape[0]

    def loss_of(params: Any) -> tuple[jax.Array, tuple[Any, ...]]:
        output, new_state = forward(key, params, model_state, batch, recipe=recipe, replicas=replicas)
        loss, metrics = recipe.task.loss(output, batch)
        return loss.total * (state.guard.loss_scale / rows), (loss, new_state, metrics)

    found, (loss, new_state, metrics) = jax.grad(loss_of, has_aux=True)(state.params)
    return Gradients(found, loss, new_state, (metrics,))


def forward(
    key: jax.Array,
    params: Any,
    model_state: Mapping[str, Any],
    batch: Any,
    *,
    recipe: Recipe,
    replicas: Replicas | None = None,
    capture: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """The model's output for a prepared training batch, and its new state; no gradient reaches frozen parameters.

    Args:
        key: of all random draws of the model.
        params: its parameters.
        model_state: its other collections.
        batch: prepared.
        recipe: what the step is made of.
        replicas: over which batch normalisation may pool its statistics.
        capture: whether the state also holds what every module returned, as the collection "intermediates".
    """
    if recipe.frozen:
        held = frozen_parameters(params, recipe.frozen)
        params = jax.tree.map(lambda leaf, stays: lax.stop_gradient(leaf) if stays else leaf, params, held)
    pooled_over = replicas.axis if replicas is not None and replicas.pooled else None
    with layers.pooled_statistics(pooled_over), layers.frozen_statistics(partial(_is_frozen, recipe.frozen)):
        output, updates = recipe.model.apply(
            {"params": params, **model_state},
            recipe.task.inputs(batch, train=True),
            train=True,
            mutable=[*model_state, *(["intermediates"] if capture else [])],
            capture_intermediates=capture,
            rngs={"params": key},  # Flax draws every stream that is not named from this one
        )
    return output, {**model_state, **updates}


def _is_frozen(patterns: tuple[str, ...], module: str) -> bool:
    """Whether all that batch normalisation at a path has is frozen; of scanned blocks, that of each."""
    return all(
        any(fits(f"{path}/{name}", pattern) for pattern in patterns)
        for path in single_paths(module)
        for name in ("scale", "bias", "mean")
    )


def _accumulated(key: jax.Array, state: TrainState, batch: Any, recipe: Recipe, replicas: Replicas | None) -> Gradients:
    count = recipe.accumulate

    def add(carry: tuple[Any, ...], numbered: tuple[jax.Array, Any]) -> tuple[tuple[Any, ...], Any]:
        number, rows = numbered
        gradients, loss, model_state = carry
        found = _of_microbatch(jax.random.fold_in(key, number), state, model_state, rows, recipe, replicas)
        sums = jax.tree.map(jnp.add, (gradients, loss), (found.gradients, found.loss))
        return (*sums, found.model_state), found.metrics[0]

    nothing = jax.tree.map(jnp.zeros_like, state.params), Mean(jnp.float32(0), jnp.float32(0)), state.model_state
    (summed, loss, model_state), stacked = lax.scan(
        add, nothing, (jnp.arange(count), jax.tree.map(partial(_microbatches, count), batch))
    )
    metrics = tuple(jax.tree.map(lambda leaf, number=number: leaf[number], stacked) for number in range(count))
    return Gradients(summed, loss, model_state, metrics)


def _microbatches(count: int, rows: jax.Array) -> jax.Array:
    """Splits a batch into microbatches, row i going to i mod `count`, so that sharded rows do not change devices."""
    return jnp.moveaxis(rows.reshape(rows.shape[0] // count, count, *rows.shape[1:]), 1, 0)


def _all_reduced(found: Gradients, axis: str) -> Gradients:
    """Sums over all replicas; the floats of the model's state are averaged, other numbers are the first one's."""
    size = lax.axis_size(axis)
    first = lax.axis_index(axis) == 0

    def share(leaf: jax.Array) -> jax.Array:
        return leaf / size if jnp.issubdtype(leaf.dtype, jnp.inexact) else jnp.where(first, leaf, jnp.zeros_like(leaf))

    sums = found.gradients, found.loss, jax.tree.map(share, found.model_state)
    summed, loss, model_state = lax.psum(sums, axis)
    metrics = tuple({name: metric.over(axis) for name, metric in part.items()} for part in found.metrics)
    return Gradients(summed, loss, model_state, metrics)
