"""R-CNN's classifiers and regressions: linear SVMs with hard negatives, and ridge regression of boxes.

Reference: Girshick et al. (2014), "Rich Feature Hierarchies for Accurate Object Detection and Semantic Segmentation",
section 2.3 and appendix C; the numbers that the paper does not give are those of the authors' program.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

# The mean length that features are brought to; the bias as one more feature; what a missed object costs.
LENGTH, BIAS, WEIGHT = 20.0, 10.0, 2.0

# Margins above which a negative is hard, and below which one is forgotten; new ones after which an SVM is fitted anew.
_HARD, _EASY, _RENEWED_AFTER = -1.0001, -1.2, 2000


@dataclass(frozen=True, eq=False)
class Svm:
    """A linear classifier: an object where kernel x + bias is above 0.

    Attributes:
        kernel: one weight for each feature.
        bias: what is added.
    """

    kernel: Float[np.ndarray, "features"]
    bias: float

    def __call__(self, features: Float[np.ndarray, "examples features"]) -> Float[np.ndarray, "examples"]:
        """Margins."""
        return features @ self.kernel + self.bias


def fit_svm(
    positive: Float[np.ndarray, "positives features"],
    negative: Float[np.ndarray, "negatives features"],
    *,
    scale: float,
    cost: float,
) -> Svm:
    r"""A linear SVM, $\min_w \frac{1}{2} \lVert w \rVert^2 + C \sum_i c_i \max(0, 1 - y_i w^\top x_i)$.

    The bias is the weight of one more feature, which is always 10; $c_i$ is 2 for positives.

    Args:
        positive: features of objects.
        negative: features of what is none.
        scale: what features are multiplied by for the fit, so that C means the same for all nets.
        cost: C.

    Returns:
        The classifier of features that are not scaled. Where one kind is missing, it says -1 or 1 of everything.
    """
    size = positive.shape[1]
    if not len(positive) or not len(negative):
        return Svm(np.zeros(size), 1.0 if len(positive) else -1.0)
    features = np.concatenate([positive, negative]).astype(np.float64) * scale
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    fitted = LinearSVC(
        C=cost, loss="hinge", intercept_scaling=BIAS, class_weight={1: WEIGHT, 0: 1.0}, max_iter=20_000, random_state=0
    ).fit(features, labels)
    return Svm(fitted.coef_[0] * scale, float(fitted.intercept_[0]))


@dataclass(eq=False)
class Miner:
    """Collects the negatives that an SVM gets wrong or nearly so, picture after picture.

    All negatives of the first picture are taken; of the others those above the margin. After 2,000 new ones the SVM is
    fitted anew, and those that have become easy are forgotten.

    Attributes:
        positive: features of the objects.
        length: mean of the features'; they are brought to one of 20.
        cost: C of the SVM.
    """

    positive: Float[np.ndarray, "positives features"]
    length: float
    cost: float
    _kept: list[np.ndarray] = field(default_factory=list, init=False)
    _new: int = field(default=0, init=False)
    _fitted: Svm | None = field(default=None, init=False)

    def see(self, negative: Float[np.ndarray, "negatives features"]) -> None:
        """Takes the hard ones among the negatives of a picture."""
        if self._fitted is not None:
            negative = negative[self._fitted(negative) > _HARD]
        if not len(negative):
            return
        self._kept.append(negative)
        self._new += len(negative)
        if self._fitted is None or self._new > _RENEWED_AFTER:
            self._renew()

    def svm(self) -> Svm:
        """That of all negatives which are kept."""
        if self._fitted is None or self._new:
            self._renew()
        assert self._fitted is not None
        return self._fitted

    def _renew(self) -> None:
        negative = np.concatenate([*self._kept, np.zeros((0, self.positive.shape[1]))])
        self._fitted = fit_svm(self.positive, negative, scale=LENGTH / self.length, cost=self.cost)
        self._kept = [negative[self._fitted(negative) >= _EASY]]
        self._new = 0


def fit_boxes(
    pooled: Float[np.ndarray, "pairs pixels"],
    boxes: Float[np.ndarray, "pairs 4"],
    objects: Float[np.ndarray, "pairs 4"],
    *,
    penalty: float,
) -> tuple[Float[np.ndarray, "pixels 4"], Float[np.ndarray, "4"]]:
    r"""Kernel and bias of $\min_w \sum_i (t_i - w^\top x_i - b)^2 + \lambda \lVert w \rVert^2$, number by number.

    $t$ are the shift of the centre in sides of the region, and the logarithms of the ratios of the sides.

    Args:
        pooled: the last map of each region, in a row.
        boxes: the regions.
        objects: the object of each.
        penalty: $\lambda$.

    Returns:
        Zeros where there are no pairs: boxes then stay as they are.
    """
    if not len(boxes):
        return np.zeros((pooled.shape[1], 4)), np.zeros(4)
    (start, end), (low, high) = (np.split(some.astype(np.float64), 2, axis=1) for some in (boxes, objects))
    shifts = (low + high - start - end) / 2 / (end - start)
    offsets = np.concatenate([shifts, np.log((high - low) / (end - start))], axis=1)
    fitted = Ridge(alpha=penalty).fit(pooled.astype(np.float64), offsets)
    return np.asarray(fitted.coef_).T, np.asarray(fitted.intercept_)
