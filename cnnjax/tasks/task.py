"""What a model's output means: the contract between a task and everything that trains, evaluates and draws it.

A batch and a model's output are pytrees of arrays whose meaning only the task knows. Besides the source's own
elements, a batch holds `id` (the example's index) and `valid` (False for the padding of a last, short batch).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from matplotlib.figure import Figure


class Mean(NamedTuple):
    """A mean as the two sums that make it, so that the means of batches add up to the mean of all."""

    total: Float[Array, ""]
    count: Float[Array, ""]

    @property
    def value(self) -> Float[Array, ""]:
        """Total over count; of nothing it is 0, with a gradient of 0."""
        return self.total / jnp.maximum(self.count, jnp.finfo(jnp.float32).tiny)


class Rows(NamedTuple):
    """One entry per example, joined and not summed: for metrics that no sums make, such as those of a ranking.

    All rows since the last summary are kept, on the device and whole on each, so they should be short.

    Attributes:
        values: arrays, or pytrees of them, with an entry per example.
        valid: False for the entries that are padding.
    """

    values: Any
    valid: Bool[Array, "batch"]

    @staticmethod
    def merge(parts: Sequence["Rows"]) -> "Rows":
        """The rows of all parts in their order, in NumPy."""
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *jax.device_get(list(parts)))

    def kept(self) -> Any:
        """The values of the valid examples, in NumPy."""
        values, valid = jax.device_get((self.values, self.valid))
        return jax.tree.map(lambda array: array[valid], values)


@runtime_checkable
class Task(Protocol):
    """Loss, metrics, predictions and pictures of one kind of learning problem.

    `inputs`, `loss`, `metrics` and `predict` are pure and run inside the compiled step. A model whose task needs
    intermediate results (auxiliary heads, proposals, feature maps) returns them as part of its output. Every array of
    a batch, an output or a prediction has one entry per example along its first axis.
    """

    def inputs(self, batch: Mapping[str, Any]) -> Any:
        """The part of a batch that the model is called with."""
        ...

    def loss(self, output: Any, batch: Mapping[str, Any]) -> Mean:
        """What to minimise: a mean over the valid examples.

        The sums of parts of a batch, on several devices or one after the other, are added before they are divided. A
        loss whose terms are means over counts of their own is its value times the number of valid examples, and that
        number.
        """
        ...

    def metrics(self, output: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What the valid examples of a batch add to the metrics, such as `Mean` and `Rows`.

        Metrics of several batches are merged part by part: by the method `merge` of a part that has one, as `Rows`
        has, which takes the parts of all batches in their order; and else, array by array, by addition.
        """
        ...

    def summarize(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Numbers to log, from merged metrics."""
        ...

    def score(self, summary: Mapping[str, float]) -> float:
        """How good a summary is, larger being better: decides which checkpoint is the best."""
        ...

    def predict(self, output: Any) -> Any:
        """What the model says, example by example."""
        ...

    def draw(self, batch: Mapping[str, np.ndarray], predictions: Any) -> dict[str, Figure]:
        """Pictures of predictions beside their examples, by caption. Arrays are NumPy's; all examples are valid."""
        ...


def masked_mean(values: Float[Array, "batch"], valid: Bool[Array, "batch"]) -> Mean:
    """The mean of one number per example, over the valid ones, in float32."""
    return Mean(
        jnp.sum(values.astype(jnp.float32), where=valid),
        jnp.sum(valid, dtype=jnp.float32),
    )


def means(metrics: Mapping[str, Mean]) -> dict[str, float]:
    """Each `Mean` as a number; NaN where nothing was counted.

    >>> means({"accuracy": Mean(jnp.float32(3), jnp.float32(4))})
    {'accuracy': 0.75}
    """
    values = jax.device_get(dict(metrics))
    return {name: float(mean.total / mean.count) if mean.count else float("nan") for name, mean in values.items()}
