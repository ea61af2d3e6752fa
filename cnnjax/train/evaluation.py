"""A data set as the model sees it: numbers over all of it, and its first examples beside their predictions."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from cnnjax.data.batches.resident import gather
from cnnjax.tasks import merge
from cnnjax.train.feed import Batches, Feed
from cnnjax.train.hosts import from_all_processes
from cnnjax.train.parallel import Parallel
from cnnjax.train.plan import CALLS_AHEAD
from cnnjax.train.recipe import Recipe
from cnnjax.train.state import TrainState

# Test examples kept beside their predictions for drawing: enough for a confusion matrix, few enough for memory.
KEPT_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model reaches on a split.

    Attributes:
        split: its name, such as "test".
        step: of the state that was evaluated.
        summary: the numbers over all examples.
        examples: the first of them, where they were to be kept.
        predictions: for these.
    """

    split: str
    step: int
    summary: dict[str, float]
    examples: dict[str, Any]
    predictions: Any


@dataclass(eq=False)
class Evaluator:
    """Evaluates states on all of a source; compiles at its first use."""

    recipe: Recipe
    parallel: Parallel
    feed: Feed
    _run: Any = field(default=None, init=False)

    def __call__(self, state: TrainState, *, keep: bool, asked: Callable[[], int | None]) -> Evaluation | None:
        """The evaluation of a state, with examples and predictions where they are to be kept.

        Before every batch it is `asked` whether to stop; then there is none.
        """
        with closing(self.feed.once()) as batches:
            return self._evaluate(state, batches, keep, asked)

    def _evaluate(
        self, state: TrainState, batches: Batches, keep: bool, asked: Callable[[], int | None]
    ) -> Evaluation | None:
        sums, examples, predictions, kept = [], [], [], 0
        for batch in batches:
            if asked() is not None:
                return None
            # Else all batches would be on their way at once, and none could be called back.
            jax.block_until_ready(sums[-CALLS_AHEAD - 1 : -CALLS_AHEAD])
            (on_device,) = self.parallel.to_devices([batch])
            on_devices = state, on_device, self.feed.on_device
            if self._run is None:
                self._run = self.parallel.compile_evaluation(self.recipe, *on_devices)
            metrics, predicted = self._run(*on_devices)
            sums.append(metrics)
            if keep and kept < KEPT_BYTES:
                whole, predicted = from_all_processes((gather(self.feed.examples, batch), predicted))
                pair = jax.tree.map(lambda array, valid=whole["valid"]: array[valid], (whole, predicted))
                examples.append(pair[0])
                predictions.append(pair[1])
                kept += sum(array.nbytes for array in jax.tree.leaves(pair))
        summary = self.recipe.task.summarize(merge(sums))
        return Evaluation(
            self.feed.source.info.split, int(state.step), summary, _concatenate(examples), _concatenate(predictions)
        )


def _concatenate(parts: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts) if parts else {}
