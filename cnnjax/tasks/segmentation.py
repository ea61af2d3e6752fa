"""Semantic segmentation: one class for every pixel."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

from cnnjax.data.pictures.instances import connected_components
from cnnjax.functional.losses import dice_loss, pixel_cross_entropy
from cnnjax.models import AuxiliaryLogits
from cnnjax.tasks import segmentation_figures
from cnnjax.tasks.heads import loss_over_heads, main_logits
from cnnjax.tasks.metrics import Mean, Metric, PictureOverlaps, PixelCounts, count_pixels, masked_mean, means

SegmentationLoss: TypeAlias = Literal["cross_entropy", "dice", "cross_entropy_and_dice"]

# More classes than this have no numbers of their own in the log.
_MOST_TOLD = 20


@dataclass(frozen=True)
class Segmentation:
    r"""A class for every pixel of `batch["image"]`, with `batch["masks"]` the true labels.

    Masks are (batch, height, width), or (batch, height, width, 2) where the second plane has a weight for each pixel.
    The cross-entropy of a picture is the weighted mean over its pixels,
    $\sum_i w_i c_{y_i} \ell_i / \sum_i w_i c_{y_i}$; the loss is the mean over the valid pictures. Where a net gives
    logits of the picture's middle only, as U-Net without padding does, the labels of the middle count.

    Attributes:
        classes: names, in the order of the logits; 0 is the background.
        instances: whether labels count objects: all above 0 are then the second class.
        ignored: a label that marks pixels which do not count, such as 255; None where there is none.
        loss_name: "cross_entropy", "dice", or "cross_entropy_and_dice", their sum.
        class_weights: one positive weight for each class, or None for equal ones.

    Raises:
        ValueError: fewer than two classes, instances with more than two, an unknown loss, or weights that are not one
            positive number for each class.

    Reference: Long, Shelhamer and Darrell (2015), "Fully Convolutional Networks for Semantic Segmentation", section 4;
    the weighted loss, Ronneberger et al. (2015), "U-Net", equations 1 and 2.
    """

    headline: ClassVar[str] = "mean_iou"

    classes: tuple[str, ...]
    instances: bool = False
    ignored: int | None = None
    loss_name: SegmentationLoss = "cross_entropy"
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError(f"classes={self.classes!r}; segmentation needs at least two, the background being one")
        if self.instances and len(self.classes) > 2:
            raise ValueError(f"instances with {len(self.classes)} classes; expected two: background, and object")
        if self.loss_name not in get_args(SegmentationLoss):
            raise ValueError(f"loss_name={self.loss_name!r}; expected {', '.join(get_args(SegmentationLoss))}")
        weights = self.class_weights
        if weights is not None and (len(weights) != len(self.classes) or not min(weights) > 0):
            raise ValueError(f"class_weights={weights}; expected {len(self.classes)} positive numbers")

    def inputs(self, batch: Mapping[str, Any], *, train: bool) -> Any:
        """The pictures."""
        return batch["image"]

    def loss(
        self, output: Float[Array, "batch rows columns classes"] | AuxiliaryLogits, batch: Mapping[str, Any]
    ) -> tuple[Mean, dict[str, Metric]]:
        """Mean loss of the pictures; that of auxiliary heads is added with the weight they come with."""
        loss = loss_over_heads(partial(self._mean_loss, batch=batch), output)
        return loss, {"loss": self._mean_loss(main_logits(output), batch)}

    def metrics(
        self,
        output: Float[Array, "batch rows columns classes"] | AuxiliaryLogits,
        predictions: Mapping[str, Any],
        batch: Mapping[str, Any],
    ) -> dict[str, Metric]:
        """Loss, pixels by true and predicted class, and the overlaps of each picture."""
        logits = main_logits(output)
        labels, _ = self._truth(logits, batch)
        counts = count_pixels(labels, predictions["labels"], classes=len(self.classes), ignored=self.ignored)
        valid = batch["valid"]
        return {
            "loss": self._mean_loss(logits, batch),
            "pixels": PixelCounts.of(counts, valid),
            "pictures": PictureOverlaps.of(counts, valid),
        }

    def summarize(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Of training the loss; of an evaluation accuracy, mean IoU and Dice, and Dice by class.

        "mean_iou" and "mean_dice" are means over classes of what all pixels give together, and "dice of CLASS" is the
        mean over pictures of each one's own.
        """
        if "pixels" not in metrics:
            return means(metrics)
        summary = {**means({"loss": metrics["loss"]}), **metrics["pixels"].numbers()}
        if len(self.classes) <= _MOST_TOLD:
            by_class = metrics["pictures"].dice()
            summary |= {f"dice of {name}": float(dice) for name, dice in zip(self.classes, by_class, strict=True)}
        return summary

    def score(self, summary: Mapping[str, float]) -> float:
        """Mean IoU."""
        return summary[self.headline]

    def predict(self, output: Float[Array, "batch rows columns classes"], batch: Mapping[str, Any]) -> dict[str, Array]:
        """The most probable class of every pixel, and its probability."""
        logits = output.astype(jnp.float32)
        return {
            "labels": jnp.argmax(logits, axis=-1).astype(jnp.int32),
            "confidence": jnp.max(jax.nn.softmax(logits), axis=-1),
        }

    def objects(self, labels: Int[np.ndarray, "height width"]) -> Int[np.ndarray, "height width"] | None:
        """The objects of a predicted label map, numbered from 1: connected pixels. None where labels count no objects.

        Neighbours are beside or above one another, as where gaps are made for training.
        """
        return connected_components(labels > 0, connectivity=4) if self.instances else None

    def rows(self, predictions: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The share of the pixels that each class has, and the mean probability of what is said."""
        return [
            {
                **{f"share of {name}": float((labels == label).mean()) for label, name in enumerate(self.classes)},
                "mean confidence": float(np.mean(confidence)),
            }
            for labels, confidence in zip(predictions["labels"], predictions["confidence"], strict=True)
        ]

    def draw(self, batch: Mapping[str, np.ndarray], predictions: Mapping[str, Any]) -> dict[str, Figure]:
        """Pictures with predictions, true borders and errors over them: any, and the worst; and the confusion."""
        predicted = np.asarray(predictions["labels"])
        labels = _centre(self._labels(np.asarray(batch["masks"])), predicted.shape[1:])
        images = _centre(np.asarray(batch["image"]), predicted.shape[1:])
        shown = partial(
            segmentation_figures.segmented, images, labels, predicted, classes=self.classes, ignored=self.ignored
        )
        return {
            "Confusion of pixels": segmentation_figures.pixel_confusion(
                labels, predicted, self.classes, ignored=self.ignored
            ),
            "Examples": shown(worst=False),
            "Worst examples": shown(worst=True),
        }

    def _labels(self, masks: Any) -> Any:
        """The class of every pixel; of JAX's arrays and of NumPy's."""
        labels = masks[..., 0] if masks.ndim == 4 else masks
        labels = labels.astype(np.int32)
        if not self.instances:
            return labels
        objects = (labels > 0).astype(np.int32)
        if self.ignored is None:
            return objects
        # What is ignored keeps its label, which counts as an object so far where it is above 0.
        return objects + (labels == self.ignored).astype(np.int32) * np.int32(self.ignored - (self.ignored > 0))

    def _truth(
        self, logits: Array, batch: Mapping[str, Any]
    ) -> tuple[Int[Array, "b h w"], Float[Array, "b h w"] | None]:
        """Labels and weights, if any, of the pixels that there are logits of."""
        if "masks" not in batch:
            raise ValueError(
                f'the batch holds {", ".join(map(repr, batch))} and no "masks"; expected a label for every pixel,'
                ' as masks:PATH gives, or ArraySource with an array "masks" (number, height, width)'
            )
        masks, sides = jnp.asarray(batch["masks"]), logits.shape[1:3]
        if masks.ndim not in (3, 4) or masks.shape[3:] not in ((), (2,)):
            raise ValueError(
                f'batch["masks"] has shape {masks.shape}; expected (batch, height, width), or one axis of length 2'
                " more: label and weight. Masks of single objects make no label map: read them with --objects.masks map"
            )
        if any(have < need for have, need in zip(masks.shape[1:3], sides, strict=True)):
            raise ValueError(
                f"logits are of {sides} pixels, and masks of {masks.shape[1:3]}; expected as many at least"
            )
        masks = _centre(masks, sides)
        return self._labels(masks), masks[..., 1].astype(jnp.float32) if masks.ndim == 4 else None

    def _mean_loss(self, logits: Float[Array, "batch rows columns classes"], batch: Mapping[str, Any]) -> Mean:
        if logits.ndim != 4 or logits.shape[-1] != len(self.classes):
            raise ValueError(
                f"logits have shape {logits.shape}; expected (batch, rows, columns, {len(self.classes)}): take a net"
                " with logits for every pixel, such as unet or fcn_resnet50"
            )
        labels, weights = self._truth(logits, batch)
        valid = batch["valid"]
        counted = jnp.broadcast_to(valid[:, None, None], labels.shape)
        if self.ignored is not None:
            counted = counted & (labels != self.ignored)
        logits = logits.astype(jnp.float32)
        losses = jnp.zeros(labels.shape[0], jnp.float32)
        if "cross_entropy" in self.loss_name:
            by_class = None if self.class_weights is None else jnp.asarray(self.class_weights, jnp.float32)
            losses += pixel_cross_entropy(logits, labels, weights=weights, class_weights=by_class, where=counted)
        if "dice" in self.loss_name:
            losses += dice_loss(logits, labels, where=counted)
        return masked_mean(losses, valid)


def _centre(array: Any, sides: tuple[int, ...]) -> Any:
    """The middle of maps whose rows and columns are the second and third axis."""
    top, left = ((have - need) // 2 for have, need in zip(array.shape[1:3], sides, strict=True))
    return array[:, top : top + sides[0], left : left + sides[1]]
