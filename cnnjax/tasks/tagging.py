"""Tagging: any number of tags per example."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

from cnnjax.functional.losses import binary_cross_entropy, sigmoid_focal
from cnnjax.models import AuxiliaryLogits
from cnnjax.tasks import tagging_figures
from cnnjax.tasks.heads import loss_over_heads, main_logits
from cnnjax.tasks.metrics import Mean, Metric, Rows, Sums, masked_mean, means
from cnnjax.tasks.ranking import average_precision

TagLoss: TypeAlias = Literal["binary_cross_entropy", "focal"]


class _TagCounts(NamedTuple):
    present: Int[Array, "tags"]
    predicted: Int[Array, "tags"]
    both: Int[Array, "tags"]


class TagCounts(_TagCounts, Sums):
    """How many examples have each tag, are said to, and both: what precision and recall are made of."""


@dataclass(frozen=True)
class Tagging:
    r"""Sigmoid classification of `batch["image"]` for each tag by itself, with `batch["tags"]` 0 or 1 for each.

    The loss is the mean over the valid examples, and over the T tags of each, of $w_t \ell(q_t, z_t)$, where $\ell$ is
    the binary cross-entropy or the focal loss of the logit z, q the label smoothed towards one half,
    $q_t = (1 - \epsilon) y_t + \epsilon / 2$, and $w_t = y_t p_t + 1 - y_t$ with the tag's positive weight p. The mean
    over the tags, where some sum, leaves a learning rate right for any number of them. Labels may be shares from 0 to
    1, as mixed pictures have; where one must be said, a tag is present above one half.

    Attributes:
        tags: names, in the order of the logits.
        loss_name: "binary_cross_entropy" or "focal".
        focal_gamma: how fast the focal loss fades where the model is right; at least 0.
        positive_weights: a positive weight per tag for the examples that have it (see `positive_weights`), or None
            for 1.
        label_smoothing: epsilon, at least 0 and below 1.
        threshold: the probability from which on a tag is predicted, between 0 and 1.

    Raises:
        ValueError: no tags, an unknown loss, an option out of range, or weights that are not one positive number
            per tag.

    Reference: Lin et al. (2017), "Focal Loss for Dense Object Detection", equation 4; Goodfellow et al. (2016),
    "Deep Learning", section 6.2.2.2.
    """

    headline: ClassVar[str] = "mean_average_precision"

    tags: tuple[str, ...]
    loss_name: TagLoss = "binary_cross_entropy"
    focal_gamma: float = 2.0
    positive_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if len(self.tags) < 1:
            raise ValueError(f"tags={self.tags!r}; tagging needs at least one")
        if self.loss_name not in get_args(TagLoss):
            raise ValueError(f"loss_name={self.loss_name!r}; expected {' or '.join(get_args(TagLoss))}")
        if not self.focal_gamma >= 0:
            raise ValueError(f"focal_gamma={self.focal_gamma}; expected zero or more")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing}; expected at least 0 and below 1")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold={self.threshold}; expected a probability between 0 and 1")
        weights = self.positive_weights
        if weights is not None and (len(weights) != len(self.tags) or not all(0 < w < np.inf for w in weights)):
            raise ValueError(f"positive_weights={weights}; expected {len(self.tags)} positive numbers, one per tag")

    def inputs(self, batch: Mapping[str, Any], *, train: bool) -> Any:
        """The pictures."""
        return batch["image"]

    def loss(
        self, output: Float[Array, "batch tags"] | AuxiliaryLogits, batch: Mapping[str, Any]
    ) -> tuple[Mean, dict[str, Metric]]:
        """Mean loss of the tags; that of auxiliary heads is added with the weight they come with.

        The log tells the loss of the main head.
        """
        loss = loss_over_heads(partial(self._mean_loss, batch=batch), output)
        return loss, {"loss": self._mean_loss(main_logits(output), batch)}

    def metrics(
        self, output: Float[Array, "batch tags"] | AuxiliaryLogits, predictions: Any, batch: Mapping[str, Any]
    ) -> dict[str, Metric]:
        """Of the main head: loss, exact matches, counts at the threshold, and all scores with their labels.

        A score is a logit, because probabilities near 1 round to ties. The scores of an example take 5 bytes a tag.
        """
        logits = main_logits(output)
        valid = batch["valid"]
        present = self._labels(batch) > 0.5
        predicted = predictions["tags"]

        def count(flags: Array) -> Array:
            return jnp.sum(flags, axis=0, dtype=jnp.int32, where=valid[:, None])

        return {
            "loss": self._mean_loss(logits, batch),
            "exact_match": masked_mean(jnp.all(predicted == present, axis=-1).astype(jnp.float32), valid),
            "counts": TagCounts(count(present), count(predicted), count(present & predicted)),
            "ranking": Rows({"present": present, "scores": logits.astype(jnp.float32)}, valid),
        }

    def summarize(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Of training the loss; of an evaluation loss, mean average precision, F1 scores, and exact matches.

        F1 is 2 TP / (2 TP + FP + FN), of all decisions (micro) and as the mean of the tags' (macro). Average precision
        is the mean over the tags that some example has; how many have none is told, if any. A tag that occurs nowhere
        and is predicted nowhere has no F1. Means of nothing are NaN.

        Reference: Opitz and Burst (2019), "Macro F1 and Macro F1": of the two, the mean of the tags' F1.
        """
        if "ranking" not in metrics:
            return means(metrics)
        rows, counts = metrics["ranking"].kept(), jax.device_get(metrics["counts"])
        ranked = counts.present > 0
        precisions = average_precision(rows["present"][:, ranked], rows["scores"][:, ranked])
        twice, either = 2.0 * counts.both, counts.present + counts.predicted
        decided = either > 0
        average = means({name: metrics[name] for name in ("loss", "exact_match")})
        summary = {
            "loss": average["loss"],
            "mean_average_precision": _mean(precisions),
            "micro_f1": float(twice.sum() / either.sum()) if decided.any() else float("nan"),
            "macro_f1": _mean(twice[decided] / either[decided]),
            "exact_match": average["exact_match"],
        }
        return summary if ranked.all() else summary | {"tags_without_positives": float((~ranked).sum())}

    def score(self, summary: Mapping[str, float]) -> float:
        """Mean average precision."""
        return summary[self.headline]

    def predict(self, output: Float[Array, "batch tags"], batch: Mapping[str, Any]) -> dict[str, Array]:
        """The probability of each tag, and whether it reaches the threshold."""
        probabilities = jax.nn.sigmoid(output.astype(jnp.float32))
        return {"probabilities": probabilities, "tags": probabilities >= self.threshold}

    def rows(self, predictions: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """The tags that reach the threshold, and the probability of each tag."""
        return [
            {
                "tags": "; ".join(name for name, there in zip(self.tags, said, strict=True) if there),
                **{f"probability of {name}": float(share) for name, share in zip(self.tags, row, strict=True)},
            }
            for said, row in zip(predictions["tags"], predictions["probabilities"], strict=True)
        ]

    def draw(self, batch: Mapping[str, np.ndarray], predictions: Any) -> dict[str, Figure]:
        """Average precision by tag, curves of some tags, and examples with their tags: any, and the worst.

        What ranks is left out where nothing can be ranked: where no tag occurs, or a probability is NaN.
        """
        present = np.asarray(batch["tags"]) > 0.5
        probabilities, predicted = (np.asarray(predictions[name]) for name in ("probabilities", "tags"))
        shown = partial(
            tagging_figures.tagged_examples, batch["image"], present, probabilities, predicted, tags=self.tags
        )
        drawn = {}
        if present.any() and not np.isnan(probabilities).any():
            drawn = {
                "Average precision by tag": tagging_figures.average_precisions(present, probabilities, self.tags),
                "Precision and recall": tagging_figures.precision_recall_curves(
                    present, probabilities, predicted, self.tags
                ),
            }
        return drawn | {"Examples": shown(worst=False), "Most confused examples": shown(worst=True)}

    def _labels(self, batch: Mapping[str, Any]) -> Float[Array, "batch tags"]:
        """The labels of the valid examples, with zeros for the others."""
        if "tags" not in batch:
            raise ValueError(
                f'the batch holds {", ".join(map(repr, batch))} and no "tags"; expected 0 or 1 for each of'
                f" {len(self.tags)} tags, as csv:PATH gives with a column of tags, or ArraySource with an array"
                ' "tags"; for one class per example use Classification'
            )
        tags, valid = jnp.asarray(batch["tags"]), batch["valid"]
        expected = (*valid.shape, len(self.tags))
        if tags.shape != expected:
            raise ValueError(
                f'batch["tags"] has shape {tags.shape}; expected {expected}, 0 or 1 for each of {len(self.tags)} tags:'
                " build the task with the tags of the source"
            )
        return jnp.where(valid[:, None], tags.astype(jnp.float32), 0.0)

    def _mean_loss(self, logits: Float[Array, "batch tags"], batch: Mapping[str, Any]) -> Mean:
        labels, valid = self._labels(batch), batch["valid"]
        if logits.shape != labels.shape:
            raise ValueError(
                f"logits have shape {logits.shape} and tags {labels.shape}; expected the same: give the model"
                f" {len(self.tags)} outputs"
            )
        # A tag at a time, as if each were an example, so that each can be weighted.
        of_tags = partial(sigmoid_focal, gamma=self.focal_gamma) if self.loss_name == "focal" else binary_cross_entropy
        smooth = (1 - self.label_smoothing) * labels + self.label_smoothing / 2
        where = jnp.broadcast_to(valid[:, None], labels.shape)
        losses = of_tags(logits.astype(jnp.float32)[..., None], smooth[..., None], where=where)
        if self.positive_weights is not None:
            weights = jnp.asarray(self.positive_weights, jnp.float32)[None]
            losses = losses * (labels * weights + (1 - labels))
        return masked_mean(jnp.mean(losses, axis=-1), valid)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
