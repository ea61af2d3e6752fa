"""How well predicted label maps agree with the true ones: from counts of pixels by true and by predicted class."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer

from cnnjax.functional.operands import require_shape
from cnnjax.tasks.metrics.parts import Sums


def count_pixels(
    labels: Integer[Array, "batch height width"],
    predicted: Integer[Array, "batch height width"],
    *,
    classes: int,
    ignored: int | None = None,
) -> Int[Array, "batch classes_and_one classes"]:
    """Counts of every picture's pixels by true class (rows) and predicted class (columns); runs in the compiled step.

    A further row, the last, counts in its first column the pixels whose label is neither a class nor `ignored`, or
    whose prediction is no class: `PixelCounts` refuses them.

    Args:
        labels: true classes, from 0 on.
        predicted: predicted classes, from 0 on.
        classes: how many there are.
        ignored: the label of pixels that are not counted, such as 255 for VOC's borders; elsewhere "ignore_index".

    Raises:
        ValueError: labels and predictions have different shapes, or there is no class.

    >>> counts = count_pixels(jnp.asarray([[[0, 1, 1, 255]]]), jnp.asarray([[[0, 1, 0, 0]]]), classes=2, ignored=255)
    >>> counts[0].tolist()
    [[1, 0], [1, 1], [0, 0]]
    """
    # A small unsigned type does not hold -1, nor the number of every row.
    labels, predicted = (jnp.asarray(maps).astype(jnp.int32) for maps in (labels, predicted))
    if classes < 1:
        raise ValueError(f"classes={classes}; expected one at least")
    require_shape("predicted", predicted, labels.shape, "that of labels")
    batch = labels.shape[0]
    known = (labels >= 0) & (labels < classes) & (predicted >= 0) & (predicted < classes)
    counted = jnp.ones(labels.shape, bool) if ignored is None else labels != ignored
    places = jnp.where(known, labels * classes + predicted, classes * classes)
    size = (classes + 1) * classes
    places += (size * jnp.arange(batch, dtype=jnp.int32))[:, None, None]
    counts = jnp.zeros(batch * size, jnp.int32).at[places].add(counted.astype(jnp.int32))
    return counts.reshape(batch, classes + 1, classes)


class _PixelCounts(NamedTuple):
    counts: Int[Array, "classes_and_one classes"]


class PixelCounts(_PixelCounts, Sums):
    """Pixels of all pictures by true and predicted class: what accuracy and overlaps over all of them are made of.

    On the device counts are 32-bit, enough for 2^31 pixels a batch; merged on the host they are 64-bit.

    Attributes:
        counts: as `count_pixels` gives them, summed.
    """

    @classmethod
    def of(cls, counts: Int[Array, "batch classes_and_one classes"], valid: Bool[Array, "batch"]) -> "PixelCounts":
        """Those of a batch's valid pictures; runs in the compiled step."""
        return cls(jnp.sum(counts, axis=0, dtype=jnp.int32, where=valid[:, None, None]))

    def confusion(self) -> Int[np.ndarray, "classes classes"]:
        """Pixels by true class (rows) and predicted class (columns).

        Raises:
            ValueError: pixels have a label that is no class and not ignored, or a prediction that is no class.
        """
        counts = np.asarray(jax.device_get(self.counts)).astype(np.int64)
        unknown = int(counts[-1].sum())
        if unknown:
            raise ValueError(
                f"labels: {unknown:,} pixels have, or are said to have, none of the {len(counts) - 1} classes; name the"
                " label that is to be left out as `ignored`, or count all classes"
            )
        return counts[:-1]

    def accuracy(self) -> float:
        """The share of pixels whose class is right; NaN of none."""
        counts = self.confusion()
        return float(np.trace(counts) / counts.sum()) if counts.any() else float("nan")

    def recall(self) -> Float[np.ndarray, "classes"]:
        """The share of each class's pixels that are found ("class accuracy"); NaN for a class that does not occur."""
        counts = self.confusion()
        return _divided(np.diag(counts), counts.sum(axis=1))

    def iou(self) -> Float[np.ndarray, "classes"]:
        r"""Intersection over union of each class, $TP / (TP + FP + FN)$; NaN where it neither occurs nor is predicted.

        Elsewhere the Jaccard index.
        """
        counts = self.confusion()
        both = np.diag(counts)
        return _divided(both, counts.sum(axis=0) + counts.sum(axis=1) - both)

    def dice(self) -> Float[np.ndarray, "classes"]:
        r"""Dice's coefficient of each class, $2 TP / (2 TP + FP + FN)$; NaN where it neither occurs nor is predicted.

        Elsewhere the F1 score of pixels.
        """
        counts = self.confusion()
        return _divided(2 * np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1))

    def numbers(self) -> dict[str, float]:
        """Pixel accuracy, and the means over classes of IoU, Dice and recall ("mean_iou", ...), leaving out NaN.

        The background counts as a class, as in VOC's segmentation. Leave it out by `iou()[1:]`.

        Reference: Everingham et al. (2010), "The Pascal Visual Object Classes (VOC) Challenge", section 4.3; Long et
        al. (2015), "Fully Convolutional Networks for Semantic Segmentation", section 5.
        """
        means = {f"mean_{name}": _mean(getattr(self, name)()) for name in ("iou", "dice", "recall")}
        return {"pixel_accuracy": self.accuracy(), **means}

    def of_classes(self, classes: Sequence[str]) -> list[dict[str, float | int | str]]:
        """A record for each class: name, IoU, Dice, recall, and how many pixels have it and are said to.

        Raises:
            ValueError: there are not as many names as classes.
        """
        counts = self.confusion()
        if len(classes) != len(counts):
            raise ValueError(f"classes: {len(classes)} names came for {len(counts)} classes")
        columns = zip(
            classes, self.iou(), self.dice(), self.recall(), counts.sum(axis=1), counts.sum(axis=0), strict=True
        )
        return [
            {
                "class": name,
                "iou": float(iou),
                "dice": float(dice),
                "recall": float(recall),
                "pixels": int(pixels),
                "predicted": int(predicted),
            }
            for name, iou, dice, recall, pixels, predicted in columns
        ]


class _PictureOverlaps(NamedTuple):
    iou_total: Float[Array, "classes"]
    dice_total: Float[Array, "classes"]
    pictures: Float[Array, "classes"]


class PictureOverlaps(_PictureOverlaps, Sums):
    """Means over pictures of each picture's own overlaps, in which a picture with little of a class counts like others.

    A picture counts for the classes that occur in it or are predicted.

    Attributes:
        iou_total: sum of the pictures' intersections over unions, for each class.
        dice_total: sum of their Dice's coefficients.
        pictures: how many pictures each is of.
    """

    @classmethod
    def of(cls, counts: Int[Array, "batch classes_and_one classes"], valid: Bool[Array, "batch"]) -> "PictureOverlaps":
        """Those of a batch's valid pictures, from `count_pixels`; runs in the compiled step."""
        known = counts[:, :-1]
        both = jnp.diagonal(known, axis1=1, axis2=2).astype(jnp.float32)
        total = (known.sum(axis=1) + known.sum(axis=2)).astype(jnp.float32)
        there = (total > 0) & valid[:, None]

        def summed(part: Array, whole: Array) -> Array:
            return jnp.sum(part / jnp.maximum(whole, 1.0), axis=0, where=there)

        pictures = jnp.sum(there, axis=0, dtype=jnp.float32)
        return cls(summed(both, total - both), summed(2 * both, total), pictures)

    def iou(self) -> Float[np.ndarray, "classes"]:
        """The mean over pictures of the intersection over union of each class; NaN where no picture has it."""
        return _divided(*(np.asarray(jax.device_get(one), np.float64) for one in (self.iou_total, self.pictures)))

    def dice(self) -> Float[np.ndarray, "classes"]:
        """The mean over pictures of Dice's coefficient of each class; NaN where no picture has it."""
        return _divided(*(np.asarray(jax.device_get(one), np.float64) for one in (self.dice_total, self.pictures)))


def _divided(part: np.ndarray, whole: np.ndarray) -> Float[np.ndarray, "classes"]:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mean(values: Float[np.ndarray, "classes"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
