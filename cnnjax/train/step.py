"""One training step and one evaluation step, as pure functions of state and batch."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from cnnjax.data.resident import gather
from cnnjax.models import Model
from cnnjax.tasks import Task
from cnnjax.train.state import TrainState


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a step is made of. `augment` changes training batches; `prepare` every batch, after it.

    `optimizer` updates; `model` is applied to what the task takes from the batch, with `train` as a keyword.
    """

    model: Model
    task: Task
    optimizer: optax.GradientTransformation
    augment: Callable[[jax.Array, Any], Any]
    prepare: Callable[[Any], Any]


class StepMetrics(NamedTuple):
    """What a step reports: its loss, and the task's metrics of its batch as sums."""

    loss: Any
    sums: Any


def train_step(
    state: TrainState, batch: Any, examples: Any = None, *, recipe: Recipe
) -> tuple[TrainState, StepMetrics]:
    """Gather, augment, prepare, forward, loss, gradient, update: a new state, and the metrics of the batch.

    `examples` are all of the training set, of which the batch then holds the numbers; None or empty where it is whole.
    Random streams of the model (dropout and any other) are drawn from the run's key and the step's number.
    """
    augment_key, model_key = jax.random.split(jax.random.fold_in(state.key, state.step))
    batch = recipe.prepare(recipe.augment(augment_key, gather(examples, batch)))

    def loss_of(params: Any) -> tuple[jax.Array, tuple[Any, Any]]:
        output, updates = recipe.model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            recipe.task.inputs(batch),
            train=True,
            mutable=["batch_stats"],
            rngs={"params": model_key},  # Flax draws every stream that is not named from this one
        )
        return recipe.task.loss(output, batch), (output, updates.get("batch_stats", {}))

    (loss, (output, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    # Optax mixes Python floats with integer counts, which strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = recipe.optimizer.update(gradients, state.opt_state, state.params)
    new_state = dataclasses.replace(
        state,
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    return new_state, StepMetrics(loss, recipe.task.metrics(output, batch))


def eval_step(state: TrainState, batch: Any, examples: Any = None, *, recipe: Recipe) -> tuple[dict[str, Any], Any]:
    """Metrics of a batch as sums, and predictions; `examples` are as in `train_step`."""
    batch = recipe.prepare(gather(examples, batch))
    output = recipe.model.apply(state.variables, recipe.task.inputs(batch), train=False)
    return recipe.task.metrics(output, batch), recipe.task.predict(output)
