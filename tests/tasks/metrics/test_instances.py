"""Found instances: by hand, and equal to a loop over all pairs of masks."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cnnjax.tasks.metrics import Metric, count_instances

THRESHOLDS = [Fraction(number, 20) for number in range(10, 20)]


def loop(truth, predicted):
    """Hits at each threshold, and the numbers of objects."""
    theirs, ours = ([labels == number for number in np.unique(labels) if number] for labels in (truth, predicted))
    overlaps = [Fraction(int((a & b).sum()), int((a | b).sum())) for a in theirs for b in ours]
    return [sum(overlap > threshold for overlap in overlaps) for threshold in THRESHOLDS], len(theirs), len(ours)


MAPS = arrays.arrays(np.int32, (5, 6), elements=st.integers(0, 3))


@given(MAPS, MAPS, st.booleans())
@settings(deadline=None, max_examples=150)
def test_it_is_the_loop(truth, other, near):
    predicted = np.where(other == 3, other, 7 * truth) if near else other
    found = count_instances(truth, predicted)
    hits, true, said = loop(truth, predicted)
    assert (found.hits.tolist(), found.true, found.predicted, found.pictures) == (hits, true, said, 1)
    expected = [hit / (true + said - hit) if true + said else 1.0 for hit in hits]
    np.testing.assert_allclose(found.precisions, expected, rtol=1e-15)


def row(*runs):
    """A map of one row, of (label, length)."""
    return np.concatenate([np.full(length, label) for label, length in runs])[None]


def test_by_hand():
    # Overlaps: 10 / 10, 6 / 10 and 5 / 10; the last is not above 0.5. One object is false.
    truth = row((1, 10), (2, 10), (3, 10), (0, 5))
    predicted = row((9, 10), (4, 6), (0, 4), (6, 5), (0, 5), (8, 5))
    found = count_instances(truth, predicted)
    assert found.hits.tolist() == [2, 2] + 8 * [1]
    numbers = found.numbers()
    assert numbers["ap50"] == numbers["pooled_ap50"] == pytest.approx(2 / 5)
    assert numbers["mean_precision"] == pytest.approx((2 * 2 / 5 + 8 * 1 / 6) / 10)


def test_thresholds_are_exact():
    """An overlap of 3/5 is not above 0.6, whatever 0.55 + 0.05 is in floating point."""
    assert count_instances(row((1, 5)), row((1, 3), (0, 2))).hits.tolist() == [1, 1] + 8 * [0]
    assert count_instances(row((1, 10)), row((1, 7), (0, 3))).hits.tolist() == 4 * [1] + 6 * [0]


def test_pictures_add_up_and_weigh_alike():
    many = count_instances(row(*((number, 2) for number in range(1, 10))), row((1, 2), (0, 16)))
    one = count_instances(row((1, 4)), row((3, 4)))
    empty = count_instances(row((0, 4)), row((0, 4)))
    merged = many.merge([one, empty])
    assert isinstance(merged, Metric)
    assert (merged.true, merged.predicted, merged.pictures) == (10, 2, 3)
    assert merged.numbers() == pytest.approx(
        {"mean_precision": (1 / 9 + 1 + 1) / 3, "ap50": (1 / 9 + 1 + 1) / 3, "pooled_ap50": 2 / 10}
    )


def test_nothing_there_and_nothing_said_is_right():
    empty, full = row((0, 4)), row((2, 4))
    assert count_instances(empty, empty).numbers()["mean_precision"] == 1
    assert count_instances(empty, full).numbers()["mean_precision"] == 0
    assert count_instances(full, empty).numbers()["mean_precision"] == 0
    assert np.isnan(count_instances(empty, empty).numbers()["pooled_ap50"])


def test_large_and_unsigned_numbers():
    truth = np.array([[0, 60000, 60000, 7]], np.uint16)
    found = count_instances(truth, truth.astype(np.int64) * 100_000)
    assert (found.hits.tolist(), found.true, found.predicted) == (10 * [2], 2, 2)


@pytest.mark.usefixtures("unchecked_types")
def test_bad_input_is_told():
    labels = row((1, 4))
    with pytest.raises(ValueError, match="expected a label map"):
        count_instances(labels.astype(float), labels)
    with pytest.raises(ValueError, match="predicted: a label of -1 came"):
        count_instances(labels, -labels)
    with pytest.raises(ValueError, match=r"predicted: shape \(1, 5\) came, \(1, 4\) was expected"):
        count_instances(labels, row((1, 5)))
