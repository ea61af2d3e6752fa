"""Drawings of a detector's predictions: what is in them, and colours of right and wrong."""

import numpy as np

from cnnjax.tasks import detection_figures
from cnnjax.tasks.metrics.detection_errors import detection_errors

TRUTHS = [
    {"boxes": np.array([[2.0, 2, 20, 20]]), "classes": np.array([0])},
    {"boxes": np.array([[10.0, 10, 30, 30]]), "classes": np.array([1])},
]
FOUND = [
    {"boxes": np.array([[2.0, 2, 20, 20]]), "classes": np.array([0]), "scores": np.array([0.9])},
    {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, int), "scores": np.zeros(0)},
]
IMAGES = np.random.default_rng(0).uniform(0, 1, (2, 32, 32, 3))
CLASSES = ("cat", "dog")


def test_what_is_wrong_comes_first_and_is_marked():
    errors = detection_errors(TRUTHS, FOUND, 2)
    figure = detection_figures.examples(IMAGES, TRUTHS, FOUND, errors, CLASSES, worst=True)
    assert [axes.get_title() for axes in figure.axes] == ["1 wrong", "all right"]
    (right,) = detection_figures.marks_of(TRUTHS[0], FOUND[0], errors, 0, CLASSES, None)
    (missed,) = detection_figures.marks_of(TRUTHS[1], FOUND[1], errors, 1, CLASSES, None)
    assert (right.text, right.dashed, missed.text, missed.dashed) == ("cat 0.90", False, "dog", True)
    assert right.colour != missed.colour


def test_numbers_of_figures():
    figures = detection_figures.all_figures(IMAGES, TRUTHS, FOUND, CLASSES)
    lines = figures["Precision and recall"].axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["cat  1.000", "dog  0.000"]
    bars = [bar.get_width() for bar in figures["Where errors come from"].axes[0].patches]
    assert bars == [1, 0, 0, 0, 0, 1]


def test_one_class_has_no_confusion_and_nothing_to_find_is_told():
    nothing = [{"boxes": np.zeros((0, 4)), "classes": np.zeros(0, int), "scores": np.zeros(0)}]
    figures = detection_figures.all_figures(IMAGES[:1], nothing, nothing, ("cat",))
    assert "Confusion of classes" not in figures
    assert "nothing to find" in figures["Precision and recall"].get_suptitle()
