"""Classification: one class per example."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from cnnjax.functional.losses import example_weights, softmax_cross_entropy
from cnnjax.models import AuxiliaryLogits
from cnnjax.tasks import classification_figures
from cnnjax.tasks.heads import loss_over_heads, main_logits
from cnnjax.tasks.metrics import Mean, Metric, masked_mean, means


@dataclass(frozen=True)
class Classification:
    r"""Softmax classification of `batch["image"]`, with `batch["label"]` an index or a distribution over classes.

    The loss is the mean over the valid examples of $w \cdot -\sum_k q_k \log \mathrm{softmax}(z)_k$, where q is the
    label smoothed towards uniform, $q_k = (1 - \epsilon) y_k + \epsilon / K$, and w the weight of the label's class;
    with class weights the mean is weighted, so that doubling all of them changes nothing.

    Attributes:
        classes: names, in the order of the logits.
        label_smoothing: epsilon, at least 0 and below 1.
        class_weights: one positive weight per class, or None for equal ones.

    Raises:
        ValueError: no classes, smoothing out of range, or weights that are not one positive number per class.
    """

    headline: ClassVar[str] = "accuracy"

    classes: tuple[str, ...]
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError(f"classes={self.classes!r}; classification needs at least two")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing}; expected at least 0 and below 1")
        weights = self.class_weights
        if weights is not None and (len(weights) != len(self.classes) or min(weights) <= 0):
            raise ValueError(f"class_weights={weights}; expected {len(self.classes)} positive numbers")

    def inputs(self, batch: Mapping[str, Any], *, train: bool) -> Any:
        """The pictures."""
        return batch["image"]

    def loss(
        self, output: Float[Array, "batch classes"] | AuxiliaryLogits, batch: Mapping[str, Any]
    ) -> tuple[Mean, dict[str, Metric]]:
        """Weighted mean cross-entropy; that of auxiliary heads is added with the weight they come with.

        The log tells loss and accuracy of the main head.
        """
        return loss_over_heads(partial(self._mean_loss, batch=batch), output), self.metrics(output, None, batch)

    def metrics(
        self, output: Float[Array, "batch classes"] | AuxiliaryLogits, predictions: Any, batch: Mapping[str, Any]
    ) -> dict[str, Metric]:
        """Loss and accuracy of the main head: the share whose largest logit is the (most likely) label's."""
        output = main_logits(output)
        labels = batch["label"] if batch["label"].ndim == 1 else jnp.argmax(batch["label"], axis=-1)
        correct = jnp.argmax(output, axis=-1).astype(labels.dtype) == labels
        return {
            "loss": self._mean_loss(output, batch),
            "accuracy": masked_mean(correct.astype(jnp.float32), batch["valid"]),
        }

    def summarize(self, metrics: Mapping[str, Mean]) -> dict[str, float]:
        """Mean loss and accuracy."""
        return means(metrics)

    def score(self, summary: Mapping[str, float]) -> float:
        """Accuracy."""
        return summary[self.headline]

    def predict(self, output: Float[Array, "batch classes"], batch: Mapping[str, Any]) -> dict[str, Array]:
        """Probabilities, and the most probable class."""
        return {
            "probabilities": jax.nn.softmax(output.astype(jnp.float32)),
            "label": jnp.argmax(output, axis=-1).astype(jnp.int32),
        }

    def rows(self, predictions: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """The most probable class with its probability, and the probability of each class."""
        return [
            {
                "class": self.classes[label],
                "probability": float(row[label]),
                **{f"probability of {name}": float(share) for name, share in zip(self.classes, row, strict=True)},
            }
            for label, row in zip(predictions["label"], predictions["probabilities"], strict=True)
        ]

    def draw(self, batch: Mapping[str, np.ndarray], predictions: Any) -> dict[str, Figure]:
        """The confusion matrix, and the mistakes the model is surest of."""
        labels = np.asarray(batch["label"])
        labels = labels if labels.ndim == 1 else labels.argmax(-1)
        return {
            "Confusion matrix": classification_figures.confusion_matrix(
                confusion(labels, predictions["label"], len(self.classes)), self.classes
            ),
            "Most confused examples": classification_figures.most_confused(
                batch["image"], labels, predictions["probabilities"], self.classes
            ),
        }

    def _mean_loss(self, logits: Float[Array, "batch classes"], batch: Mapping[str, Any]) -> Mean:
        labels, valid = batch["label"], batch["valid"]
        expected = (*labels.shape[:1], len(self.classes))
        if logits.shape != expected:
            dense = "; the model gives logits for every pixel, which is for another task" if logits.ndim == 4 else ""
            raise ValueError(f"logits have shape {logits.shape} and labels {expected}; expected the same{dense}")
        weights = None if self.class_weights is None else jnp.asarray(self.class_weights, jnp.float32)
        losses = softmax_cross_entropy(
            logits.astype(jnp.float32),
            labels,
            label_smoothing=self.label_smoothing,
            class_weights=weights,
            where=valid,
        )
        if weights is None:
            return masked_mean(losses, valid)
        return Mean(jnp.sum(losses), jnp.sum(example_weights(labels, weights, where=valid)))


def confusion(labels: Sequence[int] | np.ndarray, predicted: Sequence[int] | np.ndarray, classes: int) -> np.ndarray:
    """Counts of examples by true class (rows) and predicted class (columns).

    >>> confusion([0, 1, 1], [0, 0, 1], 2).tolist()
    [[1, 0], [1, 1]]
    """
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (np.asarray(labels), np.asarray(predicted)), 1)
    return counts
