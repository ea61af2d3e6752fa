"""How many objects of a label map are found: for cells and nuclei, which have no classes and no scores."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer

from cnnjax.tasks.metrics.parts import Sums

# Overlaps from 0.5 to 0.95, in twentieths: compared as whole numbers, exactly.
TWENTIETHS = np.arange(10, 20)


class _InstanceCounts(NamedTuple):
    hits: Int[np.ndarray, "thresholds"]
    precisions: Float[np.ndarray, "thresholds"]
    true: int | np.integer
    predicted: int | np.integer
    pictures: int | np.integer


class InstanceCounts(_InstanceCounts, Sums):
    r"""Found, true and predicted objects at overlaps above 0.5, 0.55, ..., 0.95: sums over pictures.

    The precision of a picture is here $TP / (TP + FP + FN)$, which misses lower as well as false objects.

    Attributes:
        hits: objects that are found, at each threshold.
        precisions: the sum of the pictures' precisions, at each threshold.
        true: true objects.
        predicted: predicted objects.
        pictures: pictures.
    """

    def of_thresholds(self) -> Float[np.ndarray, "thresholds"]:
        """The mean over pictures of the precision at each threshold; NaN of no picture."""
        return np.asarray(self.precisions) / self.pictures if self.pictures else np.full(len(TWENTIETHS), np.nan)

    def pooled(self) -> Float[np.ndarray, "thresholds"]:
        """The precision at each threshold of the objects of all pictures together; NaN of no object."""
        total = self.true + self.predicted - self.hits
        return np.divide(self.hits, total, out=np.full(len(total), np.nan), where=total > 0)

    def numbers(self) -> dict[str, float]:
        """The mean precision of the Data Science Bowl, its part at 0.5 ("ap50"), and that of all objects together.

        "mean_precision" is the mean over thresholds and pictures. "ap50" is a mean over pictures, and "pooled_ap50" the
        number that papers on cells report as AP at 0.5, in which pictures with many cells weigh more.
        """
        by_threshold = self.of_thresholds()
        return {
            "mean_precision": float(by_threshold.mean()),
            "ap50": float(by_threshold[0]),
            "pooled_ap50": float(self.pooled()[0]),
        }


def count_instances(
    truth: Integer[np.ndarray, "height width"], predicted: Integer[np.ndarray, "height width"]
) -> InstanceCounts:
    """Compares the objects of one picture; runs on the host. Pictures are put together by `merge`.

    A predicted object hits a true one where their intersection over union is above the threshold. From 0.5 on no
    object can so have two partners, and nothing has to be chosen. A picture without true and predicted objects has a
    precision of 1.

    Args:
        truth: label map, 0 for the background and a number of its own for each object.
        predicted: likewise, such as connected components; numbers need not agree, nor be without gaps.

    Raises:
        ValueError: the maps have different shapes, other types than integers, or negative numbers.

    Reference: Caicedo et al. (2019), "Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl";
    for the pooled number Schmidt et al. (2018), "Cell Detection with Star-convex Polygons", section 3.

    >>> truth = np.array([[1, 1, 0, 2, 2, 2]])
    >>> count_instances(truth, np.array([[5, 5, 0, 0, 7, 7]])).hits[:5].tolist()  # overlaps of 1 and 2/3
    [2, 2, 2, 2, 1]
    """
    for name, labels in (("truth", truth), ("predicted", predicted)):
        if labels.dtype.kind not in "iu" or labels.ndim != 2:
            raise ValueError(
                f"{name}: {labels.dtype} of shape {labels.shape} came; expected a label map (height, width) of integers"
            )
        if labels.min(initial=0) < 0:
            raise ValueError(f"{name}: a label of {labels.min()} came; expected 0 for the background, and above it")
    if truth.shape != predicted.shape:
        raise ValueError(f"predicted: shape {predicted.shape} came, {truth.shape} was expected, that of truth")
    (theirs, count), (ours, said) = _numbered(truth), _numbered(predicted)
    common = np.bincount(theirs * (said + 1) + ours, minlength=(count + 1) * (said + 1)).reshape(count + 1, said + 1)
    union = common.sum(axis=1, keepdims=True) + common.sum(axis=0, keepdims=True) - common
    found = 20 * common[1:, 1:, None] > TWENTIETHS * union[1:, 1:, None]
    hits = np.count_nonzero(found, axis=(0, 1))
    total = count + said - hits
    return InstanceCounts(hits, np.where(total > 0, hits / np.maximum(total, 1), 1.0), count, said, 1)


def _numbered(labels: Integer[np.ndarray, "height width"]) -> tuple[Int[np.ndarray, "pixels"], int]:
    """The map with its objects numbered from 1 without gaps, in one row; and how many there are."""
    known, numbered = np.unique(np.append(labels.ravel(), 0), return_inverse=True)
    return numbered[:-1], len(known) - 1
