"""Average precision by hand, and as scikit-learn has it: random scores, ties, infinities, edges."""

import jaxtyping
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from cnnjax.tasks import average_precision, precision_recall

generator = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([1, 0, 1, 0], [4, 3, 2, 1], (1 / 1 + 2 / 3) / 2),
        ([0, 0, 1], [3, 2, 1], 1 / 3),
        ([1, 1, 0], [3, 2, 1], 1.0),
        ([1, 0, 0, 0], [1, 1, 1, 1], 1 / 4),  # all tied: the share of positives
        ([0, 1, 1, 0], [2, 2, 1, 1], (1 / 2) * (1 / 2) + (1 / 2) * (2 / 4)),
        ([1], [0], 1.0),
        ([1, 0, 1, 0], [np.inf, np.inf, -np.inf, -np.inf], (1 / 2) * (1 / 2) + (1 / 2) * (2 / 4)),
    ],
)
def test_by_hand(labels, scores, expected):
    assert average_precision(np.array(labels), np.array(scores)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("digits", [0, 1, 8], ids=["many ties", "some ties", "no ties"])
@pytest.mark.parametrize("type_", [np.float32, np.float64])
def test_it_is_scikit_learns(digits, type_):
    for examples, share in ((1, 1.0), (2, 0.5), (50, 0.02), (300, 0.3), (300, 0.95)):
        labels = generator.uniform(size=(examples, 4)) < share
        labels[0] = True
        scores = np.round(generator.normal(size=(examples, 4)) + labels, digits).astype(type_)
        expected = average_precision_score(labels, scores, average=None)
        np.testing.assert_allclose(average_precision(labels, scores), expected, rtol=1e-12)


def test_the_order_of_tied_examples_does_not_count():
    labels, scores = np.array([1, 0, 1, 0, 1, 0]), np.array([2.0, 2.0, 2.0, 1.0, 1.0, 1.0])
    orders = [generator.permutation(6) for _ in range(20)]
    (found,) = {average_precision(labels[order], scores[order]).item() for order in orders}
    assert found == pytest.approx((2 / 3) * (2 / 3) + (1 / 3) * (3 / 6))


def test_a_tag_without_positives_and_one_with_a_nan_score_have_none():
    labels = np.array([[1, 0, 1], [0, 0, 1]])
    scores = np.array([[1.0, 1.0, np.nan], [0.0, 0.0, 2.0]])
    np.testing.assert_array_equal(average_precision(labels, scores), [1.0, np.nan, np.nan])
    assert average_precision(np.zeros((0, 2), bool), np.zeros((0, 2))).shape == (2,)
    assert average_precision(np.zeros((3, 0), bool), np.zeros((3, 0))).shape == (0,)


def test_precision_and_recall_are_scikit_learns():
    labels = generator.integers(0, 2, 60)
    scores = np.round(generator.normal(size=60), 1)
    precision, recall = precision_recall(labels, scores)
    expected = precision_recall_curve(labels, scores)  # from the lowest threshold up, and a last point (1, 0)
    np.testing.assert_allclose(precision, expected[0][:-1][::-1])
    np.testing.assert_allclose(recall, expected[1][:-1][::-1])


def test_shapes_that_differ(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"labels have shape \(3,\) and scores \(2,\)"):
        average_precision(np.ones(3), np.ones(2))


def test_what_cannot_be_ranked():
    with pytest.raises(ValueError, match=r"other values than 0 and 1.*labels > 0.5"):
        average_precision(np.array([0.3, 1.0]), np.ones(2))
    with pytest.raises(ValueError, match="none of the 2 examples has the tag"):
        precision_recall(np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match="scores: 1 of 2 are NaN"):
        precision_recall(np.ones(2), np.array([1.0, np.nan]))
