"""How well scores rank the examples that have a tag before those that have not."""

import math

import numpy as np
from jaxtyping import Bool, Float, Num


def average_precision(
    labels: Bool[np.ndarray, "examples *tags"] | Num[np.ndarray, "examples *tags"],
    scores: Num[np.ndarray, "examples *tags"],
) -> Float[np.ndarray, "*tags"]:
    r"""The mean of the precisions at which recall rises, for each tag: $\sum_k (R_k - R_{k-1}) P_k$.

    k runs over the distinct scores from the highest down; $P_k$ and $R_k$ are precision and recall of "the score is at
    least the k-th", with $R_0 = 0$. Examples of equal scores so enter together, and their order does not count. A
    random ranking gives the share of the examples that have the tag. A tag that no example has, and one with a score
    that is NaN, has NaN.

    Args:
        labels: whether each example has each tag, as booleans or as 0 and 1.
        scores: the higher, the surer.

    Raises:
        ValueError: the shapes differ, or a label is neither 0 nor 1.

    Reference: Manning et al. (2008), "Introduction to Information Retrieval", section 8.4; for tied scores as
    scikit-learn's `average_precision_score`.

    >>> average_precision(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])).round(4).item()  # (1/1 + 2/3) / 2
    0.8333
    """
    present, scores = _checked(labels, scores)
    rest = present.shape[1:]
    columns = [array.reshape(len(array), math.prod(rest)).T for array in (present, scores)]
    return np.array([_of_one(*column) for column in zip(*columns, strict=True)], np.float64).reshape(rest)


def precision_recall(
    labels: Bool[np.ndarray, "examples"] | Num[np.ndarray, "examples"], scores: Num[np.ndarray, "examples"]
) -> tuple[Float[np.ndarray, "thresholds"], Float[np.ndarray, "thresholds"]]:
    """Precision and recall of one tag when the examples that score at least a threshold are said to have it.

    One pair for each distinct score, from the highest down, so that recall rises, to 1 at the end.

    Raises:
        ValueError: no example has the tag, a score is NaN, the shapes differ, or a label is neither 0 nor 1.

    >>> precision, recall = precision_recall(np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.5, 0.1]))
    >>> recall.tolist()
    [0.5, 1.0, 1.0]
    """
    present, scores = _checked(labels, scores)
    if not present.any():
        raise ValueError(f"labels: none of the {len(present)} examples has the tag; recall needs one at least")
    if np.isnan(scores).any():
        raise ValueError(f"scores: {int(np.isnan(scores).sum())} of {len(scores)} are NaN, which has no rank")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    # Compared, not subtracted: infinite scores tie as well.
    lowest = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    hits = np.cumsum(present[order])[lowest]
    return hits / (lowest + 1), hits / hits[-1]


def _of_one(present: np.ndarray, scores: np.ndarray) -> float:
    if not present.any() or np.isnan(scores).any():
        return float("nan")
    precision, recall = precision_recall(present, scores)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def _checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if labels.shape != scores.shape:
        raise ValueError(f"labels have shape {labels.shape} and scores {scores.shape}; expected the same")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels hold other values than 0 and 1; shares become labels by a comparison: labels > 0.5")
    return labels.astype(bool), scores.astype(np.float64)
