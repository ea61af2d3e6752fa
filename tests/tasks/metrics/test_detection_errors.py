"""Kinds of errors of a picture made by hand, one of each."""

import numpy as np

from cnnjax.tasks.metrics.detection_errors import KINDS, detection_errors, pairwise_overlaps

TRUTH = {
    "boxes": np.array([[0.0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60], [80, 80, 90, 90]]),
    "classes": np.array([0, 1, 0, 1]),
}
FOUND = {
    "boxes": np.array(
        [
            [0.0, 0, 10, 10],  # right
            [0, 0, 10, 9],  # of the same object, less sure
            [20, 20, 40, 38],  # at the second object's place, another class
            [50, 50, 60, 54],  # of the third, too small: 0.4
            [0, 60, 10, 70],  # of nothing
            [80, 80, 90, 90],  # right, but not sure enough to be looked at
        ]
    ),
    "classes": np.array([0, 0, 0, 0, 1, 1]),
    "scores": np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.1]),
}


def test_one_of_each_kind():
    errors = detection_errors([TRUTH], [FOUND], 2)
    kinds = [list(KINDS)[kind] if kind >= 0 else None for kind in errors.kinds[0]]
    assert kinds == ["right", "duplicate", "class", "localisation", "background", None]
    assert errors.missed[0].tolist() == [False, False, False, True]
    # Rows: true cat, true dog, nothing; columns: found cat, found dog, missed.
    assert errors.confusion.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]
    expected = {"right": 1, "localisation": 1, "class": 1, "duplicate": 1, "background": 1, "missed": 1}
    assert errors.counts() == expected


def test_nothing_found_and_nothing_there():
    nothing = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, int), "scores": np.zeros(0)}
    errors = detection_errors([TRUTH, nothing], [nothing, FOUND], 2)
    assert errors.missed[0].all()
    assert errors.counts()["background"] == 5
    assert detection_errors([nothing], [nothing], 2).counts() == dict.fromkeys((*KINDS, "missed"), 0)


def test_the_second_of_two_near_objects_is_found_by_the_second_detection():
    """Both overlap the first object most."""
    truth = {"boxes": np.array([[0.0, 0, 10, 10], [1, 0, 11, 10]]), "classes": np.array([0, 0])}
    found = {"boxes": np.array([[0.0, 0, 10, 10], [0, 0, 10.5, 10]]), "classes": [0, 0], "scores": [0.9, 0.8]}
    assert detection_errors([truth], [found], 1).kinds[0].tolist() == [0, 0]


def test_overlaps_of_empty_boxes_are_zero():
    empty = np.zeros((1, 4))
    assert pairwise_overlaps(empty, empty).tolist() == [[0.0]]
    assert pairwise_overlaps(np.zeros((0, 4)), empty).shape == (0, 1)
