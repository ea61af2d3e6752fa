"""What a training step is made of, and what one run of the model gives: loss, gradient, statistics, metrics."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from cnnjax import layers
from cnnjax.models import Model
from cnnjax.tasks import Mean, Task
from cnnjax.train.state import TrainState, create_state


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a step is made of.

    Attributes:
        model: applied to what the task takes from the batch, with `train` as a keyword.
        task: loss, metrics and predictions.
        optimizer: makes updates of gradients.
        augment: changes training batches, by a key.
        prepare: changes every batch, after `augment`.
        accumulate: parts that a batch is cut into, whose gradients are added up. Batch normalisation sees the parts.
        average: share of the old in the running averages of parameters and statistics; 0 keeps none.
        loss_scaling: whether the loss is scaled so that float16 holds its gradients.
    """

    model: Model
    task: Task
    optimizer: optax.GradientTransformation
    augment: Callable[[jax.Array, Any], Any]
    prepare: Callable[[Any], Any]
    accumulate: int = 1
    average: float = 0.0
    loss_scaling: bool = False

    def first_state(self, inputs: Any, *, seed: int) -> TrainState:
        """The state before the first step, for inputs like these; see `create_state`."""
        kinds = {"averaged": self.average > 0, "loss_scaling": self.loss_scaling}
        return create_state(self.model, self.optimizer, inputs, seed=seed, **kinds)


@dataclasses.dataclass(frozen=True)
class Replicas:
    """Copies of the step along a mapped axis, each with its own part of the batch.

    Attributes:
        axis: its name.
        pooled: whether batch normalisation pools its statistics over the replicas; each takes its own where not.
    """

    axis: str
    pooled: bool = False


class Learned(NamedTuple):
    """What a batch teaches.

    Attributes:
        gradients: of `loss.total`, times the loss scale, over the rows of a part.
        loss: the mean to minimise.
        batch_stats: the new running statistics.
        parts: the task's metrics, of every part of the batch.
    """

    gradients: Any
    loss: Mean
    batch_stats: Any
    parts: tuple[Any, ...]


def learn(key: jax.Array, state: TrainState, batch: Any, *, recipe: Recipe, replicas: Replicas | None) -> Learned:
    """What a batch teaches, all its parts taken together, on this device and on all replicas.

    Sums are added over the parts and the replicas, running statistics follow part after part and are then averaged over
    the replicas, in one reduction with the gradients.
    """
    if replicas is not None:
        key = jax.random.fold_in(key, lax.axis_index(replicas.axis))
    if recipe.accumulate == 1:
        learned = _learn_part(key, state, state.batch_stats, batch, recipe, replicas)
    else:
        learned = _learn_in_turn(key, state, batch, recipe, replicas)
    return learned if replicas is None else _reduced(learned, replicas.axis)


def _learn_part(
    key: jax.Array, state: TrainState, batch_stats: Any, batch: Any, recipe: Recipe, replicas: Replicas | None
) -> Learned:
    batch = recipe.prepare(batch)
    rows = batch["valid"].shape[0]
    pooled_over = replicas.axis if replicas is not None and replicas.pooled else None

    def loss_of(params: Any) -> tuple[jax.Array, tuple[Any, ...]]:
        with layers.pooled_statistics(pooled_over):
            output, updates = recipe.model.apply(
                {"params": params, "batch_stats": batch_stats},
                recipe.task.inputs(batch),
                train=True,
                mutable=["batch_stats"],
                rngs={"params": key},  # Flax draws every stream that is not named from this one
            )
        loss, metrics = recipe.task.loss(output, batch), recipe.task.metrics(output, batch)
        return loss.total * (state.guard.loss_scale / rows), (loss, updates.get("batch_stats", {}), metrics)

    gradients, (loss, new_stats, metrics) = jax.grad(loss_of, has_aux=True)(state.params)
    return Learned(gradients, loss, new_stats, (metrics,))


def _learn_in_turn(key: jax.Array, state: TrainState, batch: Any, recipe: Recipe, replicas: Replicas | None) -> Learned:
    count = recipe.accumulate

    def part(carry: tuple[Any, ...], numbered: tuple[jax.Array, Any]) -> tuple[tuple[Any, ...], Any]:
        number, rows = numbered
        gradients, loss, batch_stats = carry
        learned = _learn_part(jax.random.fold_in(key, number), state, batch_stats, rows, recipe, replicas)
        sums = jax.tree.map(jnp.add, (gradients, loss), (learned.gradients, learned.loss))
        return (*sums, learned.batch_stats), learned.parts[0]

    nothing = jax.tree.map(jnp.zeros_like, state.params), Mean(jnp.float32(0), jnp.float32(0)), state.batch_stats
    (gradients, loss, batch_stats), stacked = lax.scan(
        part, nothing, (jnp.arange(count), jax.tree.map(partial(_dealt, count), batch))
    )
    parts = tuple(jax.tree.map(lambda leaf, number=number: leaf[number], stacked) for number in range(count))
    return Learned(gradients, loss, batch_stats, parts)


def _dealt(count: int, rows: jax.Array) -> jax.Array:
    """Rows dealt out to so many parts, one by one, so that each device's rows stay where they are."""
    return jnp.moveaxis(rows.reshape(rows.shape[0] // count, count, *rows.shape[1:]), 1, 0)


def _reduced(learned: Learned, axis: str) -> Learned:
    """Sums over all replicas, of statistics the mean; what merges by itself, such as `Rows`, is gathered."""
    metrics, structure = jax.tree.flatten(learned.parts, is_leaf=merges)
    sums = {place: part for place, part in enumerate(metrics) if not merges(part)}
    replicas = lax.axis_size(axis)
    batch_stats = jax.tree.map(lambda leaf: leaf / replicas, learned.batch_stats)
    gradients, loss, batch_stats, sums = lax.psum((learned.gradients, learned.loss, batch_stats, sums), axis)
    gathered = partial(lax.all_gather, axis_name=axis, tiled=True)
    metrics = [sums[place] if place in sums else jax.tree.map(gathered, part) for place, part in enumerate(metrics)]
    return Learned(gradients, loss, batch_stats, jax.tree.unflatten(structure, metrics))


def merges(part: Any) -> bool:
    """Whether parts of a metric are put together by a method of their own, not by addition."""
    return hasattr(part, "merge")
