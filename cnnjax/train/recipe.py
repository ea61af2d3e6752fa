"""What a training step is made of."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from cnnjax.models import Model
from cnnjax.tasks import Task
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
        frozen: patterns of the paths of parameters that stay; batch normalisation there uses its running statistics.
        accumulate: microbatches that a batch is cut into, whose gradients are added up. Batch normalisation sees one
            microbatch at a time.
        average: share of the old in the running averages of parameters and statistics; 0 keeps none.
        loss_scaling: whether the loss is scaled so that float16 holds its gradients.
    """

    model: Model
    task: Task
    optimizer: optax.GradientTransformation
    augment: Callable[[jax.Array, Any], Any]
    prepare: Callable[[Any], Any]
    frozen: tuple[str, ...] = ()
    accumulate: int = 1
    average: float = 0.0
    loss_scaling: bool = False

    def first_state(self, batch: Any, *, seed: int, variables: Mapping[str, Any] | None = None) -> TrainState:
        """The state before the first step, for training batches like this one; see `create_state`."""
        inputs = jax.eval_shape(lambda batch: self.task.inputs(self.prepare(batch), train=True), batch)
        kinds = {"averaged": self.average > 0, "loss_scaling": self.loss_scaling}
        return create_state(self.model, self.optimizer, inputs, seed=seed, variables=variables, **kinds)
