"""Classification and localisation: one class and one box per picture, by regression."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from cnnjax.functional import boxes
from cnnjax.functional.losses import giou_loss, smooth_l1, softmax_cross_entropy
from cnnjax.models import AuxiliaryLogits, Objects
from cnnjax.tasks import localization_figures
from cnnjax.tasks.detection import objects_in
from cnnjax.tasks.heads import loss_over_heads, main_logits
from cnnjax.tasks.localization_figures import RIGHT_ABOVE
from cnnjax.tasks.metrics import Mean, Metric, masked_mean, means

BoxLoss: TypeAlias = Literal["smooth_l1", "giou"]

# Of the offsets, as in the heads of R-CNN: an error of 1 is a tenth of the picture's side, or a side 1.2 times as long.
_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


@dataclass(frozen=True)
class Localization:
    r"""The class and the box of the largest object of `batch["image"]`, by a net with `classes` + 4 outputs.

    The first outputs are logits of the classes. The last four are the box: its centre and the logarithms of its sides,
    relative to the picture's width W and height H,

    $$t = \left(10 \frac{x - W/2}{W}, \; 10 \frac{y - H/2}{H}, \; 5 \log \frac{w}{W}, \; 5 \log \frac{h}{H}\right).$$

    So sides are positive whatever the net says, a factor of a side costs the same for small and large objects, nothing
    depends on the size of pictures, outputs and their errors are of the order of 1, and an untrained net, whose outputs
    are small, begins with a box that is nearly the picture. It is the coding of R-CNN, whose one anchor is the picture.

    The loss is the mean, over pictures with an object, of the cross-entropy of the class plus `box_weight` times the
    loss of the box: smooth L1, summed over the four numbers, or 1 - GIoU. (GIoU has hardly any gradient where a box has
    become far larger than the picture, from which it comes back slowly.) The object is the largest by area, of those
    that are present and neither crowds nor difficult. Pictures without one count in no loss and no metric.

    Attributes:
        classes: names of things, in the order of the logits; one is enough, and its class is then always right.
        box_loss: "smooth_l1" or "giou".
        box_weight: of the box's loss beside that of the class; above 0.

    Raises:
        ValueError: there are no classes, the loss is another one, or its weight is not a positive, finite number.

    Reference: Sermanet et al. (2014), "OverFeat: Integrated Recognition, Localization and Detection using
    Convolutional Networks", section 4; Girshick (2015), "Fast R-CNN", equation 3; Rezatofighi et al. (2019),
    "Generalized Intersection over Union". "correct" is the rule of Russakovsky et al. (2015), "ImageNet Large Scale
    Visual Recognition Challenge", section 4.2, for one answer per picture.
    """

    headline: ClassVar[str] = "mean_iou"
    # The one box of a picture is drawn however unsure its class is.
    least_score: ClassVar[float] = 0.0

    classes: tuple[str, ...]
    box_loss: BoxLoss = "smooth_l1"
    box_weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("classes=(); localisation needs one class of things at least")
        if self.box_loss not in get_args(BoxLoss):
            raise ValueError(f"box_loss={self.box_loss!r}; expected {' or '.join(map(repr, get_args(BoxLoss)))}")
        if not 0 < self.box_weight < float("inf"):
            raise ValueError(f"box_weight={self.box_weight}; expected a positive, finite number")

    @property
    def outputs(self) -> int:
        """How many outputs the net has: a logit for each class, and the four numbers of the box."""
        return len(self.classes) + 4

    def inputs(self, batch: Mapping[str, Any], *, train: bool) -> Any:
        """The pictures."""
        return batch["image"]

    def objects_of(self, batch: Mapping[str, Any]) -> Objects:
        """What is to be found: the largest object of each picture, in one slot, absent where there is none.

        Raises:
            ValueError: the batch has no boxes.
        """
        every = objects_in(batch)
        areas = jnp.where(every.present, boxes.area(jnp.asarray(every.boxes)), -1.0)
        largest = jnp.argmax(areas, axis=1, keepdims=True)
        # Not "above 0": a box with a NaN is not left out, and stops the run.
        present = ~(jnp.take_along_axis(areas, largest, axis=1) <= 0)
        return Objects(
            jnp.take_along_axis(jnp.asarray(every.boxes), largest[..., None], axis=1),
            jnp.take_along_axis(jnp.asarray(every.classes), largest, axis=1),
            present,
        )

    def loss(
        self, output: Float[Array, "batch outputs"] | AuxiliaryLogits, batch: Mapping[str, Any]
    ) -> tuple[Mean, dict[str, Metric]]:
        """The sum of both parts; those of auxiliary heads are added with the weight they come with.

        The log tells the metrics of the main head.
        """
        return loss_over_heads(partial(self._mean_loss, batch=batch), output), self.metrics(output, None, batch)

    def metrics(
        self, output: Float[Array, "batch outputs"] | AuxiliaryLogits, predictions: Any, batch: Mapping[str, Any]
    ) -> dict[str, Metric]:
        """Means over the pictures with an object, of the main head.

        "loss" with its parts, "accuracy" of the class, "mean_iou" of the boxes, "iou50", the share of boxes with an IoU
        above 0.5, and "correct", the share of pictures whose class is right and whose box has an IoU above 0.5. IoU is
        the same in the pixels of the original picture, whose sides are only scaled and shifted.
        """
        output = main_logits(output)
        of_class, of_box = self._losses(output, batch)
        target, size = self.objects_of(batch), batch["image"].shape[1:3]
        counted = batch["valid"] & target.present[:, 0]
        right = jnp.argmax(output[:, :-4], axis=-1).astype(jnp.int32) == target.classes[:, 0]
        overlap = boxes.iou(self._boxes(output, size), target.boxes[:, 0].astype(jnp.float32))
        overlap = jnp.where(counted, overlap, 0.0)
        numbers = {
            "loss": of_class + self.box_weight * of_box,
            "class loss": of_class,
            "box loss": of_box,
            "accuracy": right,
            "mean_iou": overlap,
            "iou50": overlap > RIGHT_ABOVE,
            "correct": right & (overlap > RIGHT_ABOVE),
        }
        return {name: masked_mean(values.astype(jnp.float32), counted) for name, values in numbers.items()}

    def summarize(self, metrics: Mapping[str, Mean]) -> dict[str, float]:
        """Each mean; NaN where no picture had an object."""
        return means(metrics)

    def score(self, summary: Mapping[str, float]) -> float:
        """The mean IoU; 0 where there is nothing to find."""
        return float(np.nan_to_num(summary[self.headline]))

    def predict(
        self, output: Float[Array, "batch outputs"] | AuxiliaryLogits, batch: Mapping[str, Any]
    ) -> dict[str, Array]:
        """One object for each picture, in one slot, as a detector gives it.

        "boxes" (batch, 1, 4) in pixels of the picture as the model got it, cut at its border, "classes" (batch, 1), the
        most probable ones, "scores" (batch, 1), their probabilities, "probabilities" (batch, 1, classes), and "present"
        (batch, 1), which is True.
        """
        output = main_logits(output)
        probabilities = jax.nn.softmax(output[:, :-4].astype(jnp.float32))
        classes = jnp.argmax(probabilities, axis=-1).astype(jnp.int32)
        return {
            "boxes": self._boxes(output, batch["image"].shape[1:3])[:, None],
            "classes": classes[:, None],
            "scores": jnp.max(probabilities, axis=-1, keepdims=True),
            "probabilities": probabilities[:, None],
            "present": jnp.ones((output.shape[0], 1), bool),
        }

    def rows(self, predictions: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """The most probable class with its probability, the corners of the box, and the probability of each class."""
        rows = []
        for box, label, shares in zip(
            *(predictions[name][:, 0] for name in ("boxes", "classes", "probabilities")), strict=True
        ):
            corners = dict(zip(("x_min", "y_min", "x_max", "y_max"), map(float, box), strict=True))
            of_each = {f"probability of {name}": float(one) for name, one in zip(self.classes, shares, strict=True)}
            rows.append({"class": self.classes[label], "probability": float(shares[label]), **corners, **of_each})
        return rows

    def draw(self, batch: Mapping[str, np.ndarray], predictions: Mapping[str, np.ndarray]) -> dict[str, Figure]:
        """Pictures with true and predicted boxes, the first and the worst, and the confusion of several classes."""
        target = self.objects_of(batch)._asdict()
        true = {name: np.asarray(target[name])[:, 0] for name in ("boxes", "classes", "present")}
        found = {name: np.asarray(predictions[name])[:, 0] for name in ("boxes", "classes", "scores")}
        overlaps = np.asarray(boxes.iou(jnp.asarray(found["boxes"]), jnp.asarray(true["boxes"])))
        return localization_figures.all_figures(np.asarray(batch["image"]), true, found, overlaps, self.classes)

    def _boxes(self, output: Float[Array, "batch outputs"], size: tuple[int, int]) -> Float[Array, "batch 4"]:
        """The boxes that outputs mean, in pixels, cut at the border."""
        return boxes.clip(boxes.from_relative(_decoded(output), size), size)

    def _losses(
        self, output: Float[Array, "batch outputs"], batch: Mapping[str, Any]
    ) -> tuple[Float[Array, "batch"], Float[Array, "batch"]]:
        """The losses of class and box of each picture; 0 where there is no object."""
        target = self.objects_of(batch)
        counted = batch["valid"] & target.present[:, 0]
        self._check(output, counted.shape[0])
        if len(self.classes) == 1:
            of_class = jnp.zeros(counted.shape, jnp.float32)
        else:
            of_class = softmax_cross_entropy(output[:, :-4].astype(jnp.float32), target.classes[:, 0], where=counted)
        relative = boxes.to_relative(target.boxes[:, 0].astype(jnp.float32), batch["image"].shape[1:3])
        whole = _whole(relative)
        # Where there is no object, its offsets would not be finite.
        relative = jnp.where(counted[:, None], relative, whole)
        if self.box_loss == "giou":
            return of_class, giou_loss(_decoded(output), relative, where=counted)
        offsets = boxes.encode(relative, whole, weights=_WEIGHTS)
        return of_class, 4 * smooth_l1(output[:, -4:].astype(jnp.float32), offsets, where=counted)

    def _mean_loss(self, output: Float[Array, "batch outputs"], batch: Mapping[str, Any]) -> Mean:
        of_class, of_box = self._losses(output, batch)
        return masked_mean(of_class + self.box_weight * of_box, batch["valid"] & self.objects_of(batch).present[:, 0])

    def _check(self, output: Any, pictures: int) -> None:
        shape, expected = getattr(output, "shape", None), (pictures, self.outputs)
        if shape == expected:
            return
        came = type(output).__name__ if shape is None else f"outputs of shape {shape}"
        raise ValueError(
            f"the net gives {came}; expected {expected}: a logit for each of {len(self.classes)} classes and four"
            f" numbers of a box, from a classifier made with num_classes={self.outputs}, such as resnet9"
        )


def _whole(like: Float[Array, "batch 4"]) -> Float[Array, "batch 4"]:
    """The box of the whole picture in shares of its sides, for each picture."""
    return jnp.broadcast_to(jnp.asarray([0.0, 0.0, 1.0, 1.0], like.dtype), like.shape)


def _decoded(output: Float[Array, "batch outputs"]) -> Float[Array, "batch 4"]:
    """The boxes that outputs mean, in shares of the picture's sides."""
    offsets = output[:, -4:].astype(jnp.float32)
    return boxes.decode(offsets, _whole(offsets), weights=_WEIGHTS)
