"""Object detection: boxes of things, each with its class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from cnnjax.models import Detecting, Objects, Part, PicturesWithObjects, PicturesWithProposals, Trainable
from cnnjax.tasks import detection_figures
from cnnjax.tasks.metrics import Detections, Mean, Metric, coco_precision, masked_mean, means, voc_precision

Division: TypeAlias = Literal["picture", "batch"]

# More classes than this have no numbers of their own in the log.
_MOST_TOLD = 20

# Of COCO's twelve numbers.
_WHOLE, _BY_SIZE = ("ap", "ap50", "ap75", "ar100"), ("ap_small", "ap_medium", "ap_large")


@dataclass(frozen=True)
class Detection:
    r"""The objects of `batch["image"]`: "boxes", "classes" and "present" of their slots, see `data.sources`.

    The parts of the loss are the detector's own. Each is a sum over boxes, divided by a count of boxes; either for each
    picture by itself, whose mean is then taken, $\frac{1}{B} \sum_b S_b / N_b$, so that nothing changes where a batch
    is cut into parts for devices or microbatches; or for all pictures of a batch, $\sum_b S_b / \sum_b N_b$, as in
    torchvision and Caffe.

    Crowds and difficult objects are not learned, and what is found there is neither right nor wrong.

    Attributes:
        classes: names of things, in the order of the detector's classes.
        divided: what the parts of the loss are divided for, "picture" or "batch".
        parts: names of those that are learned; all where there are none. All are told.

    Raises:
        ValueError: there are no classes, or the loss is divided for something else.
    """

    headline: ClassVar[str] = "ap50"
    least_score: ClassVar[float] = detection_figures.LEAST_SCORE

    classes: tuple[str, ...]
    divided: Division = "picture"
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("classes=(); a detector needs one class of things at least")
        if self.divided not in get_args(Division):
            raise ValueError(f"divided={self.divided!r}; expected {' or '.join(map(repr, get_args(Division)))}")

    def inputs(self, batch: Mapping[str, Any], *, train: bool) -> Any:
        """The pictures; in training with their objects, for detectors that draw the boxes of their loss.

        With "proposals" in the batch, always with these.
        """
        objects = self.objects_of(batch) if train else None
        if "proposals" in batch:
            return PicturesWithProposals(batch["image"], batch["proposals"], objects)
        return batch["image"] if objects is None else PicturesWithObjects(batch["image"], objects)

    def objects_of(self, batch: Mapping[str, Any]) -> Objects:
        """What is to be found: the objects that are neither crowds nor difficult.

        Raises:
            ValueError: the batch has no boxes.
        """
        return objects_in(batch)

    def loss(self, output: Any, batch: Mapping[str, Any]) -> tuple[Mean, dict[str, Metric]]:
        """The sum of the detector's parts, which the log tells one by one."""
        if not isinstance(output, Trainable):
            raise ValueError(
                f"the net gives {type(output).__name__}, which is no output of a detector; take one, such as ssd300 or"
                " faster_rcnn_resnet50_fpn"
            )
        valid = batch["valid"]
        parts = {name: self._mean(part, valid) for name, part in output.losses(self.objects_of(batch)).items()}
        if unknown := [name for name in self.parts if name not in parts]:
            raise ValueError(f"parts={self.parts}: the loss has no part {unknown[0]!r}; expected some of {list(parts)}")
        count = jnp.sum(valid, dtype=jnp.float32)
        learned = [part.total for name, part in parts.items() if not self.parts or name in self.parts]
        total = sum(learned, jnp.zeros((), jnp.float32))
        loss = Mean(total, count)
        return loss, {"loss": loss, **{f"{name} loss": part for name, part in parts.items()}}

    def predict(self, output: Any, batch: Mapping[str, Any]) -> dict[str, Array]:
        """Boxes in pixels of the picture as the detector got it, with scores and classes, in slots."""
        if not isinstance(output, Detecting):
            raise ValueError(f"the net gives {type(output).__name__}, which tells no detections")
        found = output.detections()._asdict()
        return {name: array for name, array in found.items() if array is not None}

    def metrics(self, output: Any, predictions: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Metric]:
        """True and found boxes, in pixels of the original pictures; and the loss of detectors that have one here."""
        found, true = (
            {**some, "boxes": back(some["boxes"], batch.get("matrix"))} for some in (predictions, dict(batch))
        )
        kept: dict[str, Any] = {"objects": Detections.of(found, true)}
        return {**kept, "loss": self.loss(output, batch)[0]} if isinstance(output, Trainable) else kept

    def summarize(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Of training the parts of the loss; of an evaluation COCO's numbers, and VOC's mean average precision."""
        numbers = means({name: one for name, one in metrics.items() if isinstance(one, Mean)})
        if "objects" not in metrics:
            return numbers
        truths, found = metrics["objects"].pictures()
        return {**numbers, **self.precision(truths, found)}

    def precision(self, truths: Sequence[Any], found: Sequence[Any], *, masks: bool = False) -> dict[str, float]:
        """COCO's numbers, and of boxes VOC's; difficult objects are as crowds to COCO's, which knows none.

        Sizes and classes of which there is no object have no number.

        Args:
            truths: of each picture its objects; see `tasks.metrics.objects`.
            found: of each picture its detections.
            masks: whether masks are compared, and not boxes.
        """
        as_crowds = [{**one, "crowd": _flags(one, "crowd") | _flags(one, "difficult")} for one in truths]
        coco = coco_precision(as_crowds, found, self.classes, masks=masks)
        numbers = coco.numbers()
        told = {name: numbers[name] for name in _WHOLE}
        if not masks:
            told["voc_ap50"] = voc_precision(truths, found, self.classes).mean
        parts = {name: numbers[name] for name in _BY_SIZE}
        if 1 < len(self.classes) <= _MOST_TOLD:
            parts |= {f"ap of {name}": value for name, value in coco.of_classes().items()}
        return told | {name: value for name, value in parts.items() if not np.isnan(value)}

    def score(self, summary: Mapping[str, float]) -> float:
        """Average precision at an overlap of 0.5; 0 where there is nothing to find."""
        return float(np.nan_to_num(summary[self.headline]))

    def rows(self, predictions: Mapping[str, Any]) -> list[dict[str, Any]]:
        """How many objects of each class were found, and the one of highest score."""
        rows = []
        for place in range(len(predictions["present"])):
            present = np.asarray(predictions["present"][place], bool)
            classes, scores = (np.asarray(predictions[name][place])[present] for name in ("classes", "scores"))
            counts = np.bincount(classes, minlength=len(self.classes))
            told = ", ".join(f"{number} {name}" for name, number in zip(self.classes, counts, strict=True) if number)
            best = int(scores.argmax()) if len(scores) else None
            rows.append(
                {
                    "objects": int(present.sum()),
                    "found": told or "nothing",
                    "best": None if best is None else self.classes[classes[best]],
                    "score": None if best is None else float(scores[best]),
                }
            )
        return rows

    def draw(self, batch: Mapping[str, np.ndarray], predictions: Mapping[str, Any]) -> dict[str, Figure]:
        """Pictures with right, wrong and missed boxes; precision over recall; kinds of errors; confusion of classes."""
        truths, found = unpadded(batch), unpadded(predictions)
        return detection_figures.all_figures(np.asarray(batch["image"]), truths, found, self.classes)

    def _mean(self, part: Part, valid: Array) -> Mean:
        """The part's mean, over pictures, or over boxes with the weight of the pictures."""
        total, count = (jnp.where(valid, each.astype(jnp.float32), 0.0) for each in part)
        if self.divided == "picture":
            return masked_mean(total / jnp.maximum(count, 1.0), valid)
        pictures = jnp.sum(valid, dtype=jnp.float32)
        return Mean(jnp.sum(total) / jnp.maximum(jnp.sum(count), 1.0) * pictures, pictures)


def objects_in(batch: Mapping[str, Any]) -> Objects:
    """The objects of a batch that are neither crowds nor difficult.

    Raises:
        ValueError: the batch has no boxes.
    """
    if missing := [name for name in ("boxes", "classes", "present") if name not in batch]:
        raise ValueError(
            f'the batch holds {", ".join(map(repr, batch))} and no "{missing[0]}"; expected objects, as voc:, coco:'
            ' and scenes: give, or ArraySource with arrays "boxes" (number, slots, 4), "classes" and "present"'
        )
    present = batch["present"]
    for name in ("crowd", "difficult"):
        present = present & ~batch[name].astype(bool) if name in batch else present
    return Objects(batch["boxes"], batch["classes"].astype(jnp.int32), present)


def back(boxes: Float[Array, "batch slots 4"], matrix: Float[Array, "batch 3 3"] | None) -> Float[Array, "b s 4"]:
    """Boxes in pixels of the pictures before a matrix brought them to a size; as they are where there is none."""
    if matrix is None:
        return boxes
    scale = jnp.stack([matrix[:, 0, 0], matrix[:, 1, 1]], axis=-1)[:, None]
    shift = jnp.stack([matrix[:, 0, 2], matrix[:, 1, 2]], axis=-1)[:, None]
    return (boxes - jnp.tile(shift, (1, 1, 2)).astype(boxes.dtype)) / jnp.tile(scale, (1, 1, 2)).astype(boxes.dtype)


def unpadded(objects: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """The objects of each picture without the empty slots."""
    names = [name for name in ("boxes", "classes", "scores", "crowd", "difficult") if name in objects]
    return [
        {name: np.asarray(objects[name][place])[np.asarray(present, bool)] for name in names}
        for place, present in enumerate(objects["present"])
    ]


def _flags(objects: Mapping[str, Any], name: str) -> np.ndarray:
    return np.asarray(objects.get(name, np.zeros(len(objects["classes"]), bool))).astype(bool)
