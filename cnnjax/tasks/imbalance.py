"""Weights that make rare classes and rare tags count as much as frequent ones."""

import numpy as np
from jaxtyping import Bool, Int, Num


def class_weights(labels: Int[np.ndarray, "examples"], classes: int) -> tuple[float, ...]:
    r"""A weight for each class that makes all of them weigh the same: $w_k = N / (K n_k)$.

    N is the number of examples, $n_k$ that of class k, and K the number of classes; the weights of the examples sum
    to N.

    Raises:
        ValueError: a class has no example, or a label names no class.

    Reference: King and Zeng (2001), "Logistic Regression in Rare Events Data".

    >>> class_weights(np.array([0, 0, 0, 1]), 2)
    (0.6666666666666666, 2.0)
    """
    if classes < 1 or not np.isin(labels, np.arange(classes)).all():
        raise ValueError(f"labels: other values than 0 to {classes - 1} came; expected the index of a class for each")
    counts = np.bincount(labels, minlength=classes)
    if not counts.all():
        raise ValueError(
            f"{_some('class', np.flatnonzero(counts == 0))} no example among {len(labels)}; a weight from counts needs"
            " one at least: leave the class out, or give the weights by hand"
        )
    return tuple((len(labels) / (classes * counts)).tolist())


def positive_weights(
    tags: Num[np.ndarray, "examples tags"] | Bool[np.ndarray, "examples tags"],
) -> tuple[float, ...]:
    r"""A weight for the examples that have a tag, equal to those that have not: $w_t = (N - n_t) / n_t$.

    N is the number of examples and $n_t$ that of those with tag t, or the sum of their shares in it.

    Raises:
        ValueError: a tag occurs in no example, or in all of them.

    Reference: King and Zeng (2001), "Logistic Regression in Rare Events Data".

    >>> positive_weights(np.array([[1, 1], [0, 1], [0, 1], [0, 0]]))
    (3.0, 0.3333333333333333)
    """
    positives = tags.sum(axis=0, dtype=np.float64)
    negatives = len(tags) - positives
    for wrong, where in ((positives <= 0, "no example"), (negatives <= 0, "every example")):
        if wrong.any():
            raise ValueError(
                f"{_some('tag', np.flatnonzero(wrong))} {where} among {len(tags)}; a weight from counts needs examples"
                " with the tag and without: leave the tag out, or give the weights by hand"
            )
    return tuple((negatives / positives).tolist())


def _some(thing: str, which: np.ndarray, most: int = 5) -> str:
    """Says which things: "tag 3 has" or "tags 3, 4, 5, 6, 7 and 12 more have"."""
    names = ", ".join(map(str, which[:most])) + (f" and {len(which) - most} more" if len(which) > most else "")
    plural = f"{thing}es" if thing.endswith("s") else f"{thing}s"
    return f"{thing} {names} has" if len(which) == 1 else f"{plural} {names} have"
