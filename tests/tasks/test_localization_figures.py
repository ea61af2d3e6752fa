"""Drawings of one box per picture: which pictures, in what order, and colours of right and wrong."""

import numpy as np

from cnnjax.tasks import localization_figures

IMAGES = np.random.default_rng(0).uniform(0, 1, (4, 32, 48, 3))
# The second picture has no object. The class of the third is wrong, and the box of the fourth.
TRUE = {
    "boxes": np.array([[2.0, 2, 20, 20], [0, 0, 0, 0], [10, 10, 30, 30], [10, 10, 30, 30]]),
    "classes": np.array([0, 0, 1, 1]),
    "present": np.array([True, False, True, True]),
}
FOUND = {
    "boxes": np.array([[2.0, 2, 20, 20], [0, 0, 48, 32], [10, 10, 30, 30], [30, 0, 48, 32]]),
    "classes": np.array([0, 0, 0, 1]),
    "scores": np.array([0.9, 0.5, 0.8, 0.7]),
}
OVERLAPS = np.array([1.0, 0.0, 1.0, 0.1])
CLASSES = ("cat", "dog")


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_pictures_with_an_object_in_order_and_the_worst_first():
    figures = localization_figures.all_figures(IMAGES, TRUE, FOUND, OVERLAPS, CLASSES)
    assert list(figures) == ["Examples", "Worst examples", "Confusion matrix"]
    assert titles(figures["Examples"]) == ["IoU 1.00", "IoU 1.00, dog as cat", "IoU 0.10"]
    assert titles(figures["Worst examples"]) == ["IoU 0.10", "IoU 1.00, dog as cat", "IoU 1.00"]
    assert figures["Examples"].get_suptitle() == "3 of 3 pictures with an object, the first ones"
    assert titles(figures["Confusion matrix"]) == ["2 of 3 right"]


def test_true_boxes_are_dashed_and_right_ones_have_a_colour_of_their_own():
    marks = [localization_figures.marks_of(TRUE, FOUND, OVERLAPS, place, CLASSES)[0] for place in (0, 2, 3)]
    for (said, true), place in zip(marks, (0, 2, 3), strict=True):
        assert (said.dashed, true.dashed) == (False, True)
        np.testing.assert_array_equal(true.box, TRUE["boxes"][place])
        np.testing.assert_array_equal(said.box, FOUND["boxes"][place])
    assert [said.text for said, _ in marks] == ["cat 0.90", "cat 0.80", "dog 0.70"]
    right, wrong_class, wrong_box = (said.colour for said, _ in marks)
    assert right != wrong_class == wrong_box


def test_one_class_has_no_confusion_and_nothing_to_find_no_figure():
    figures = localization_figures.all_figures(IMAGES[:1], *map(first, (TRUE, FOUND)), OVERLAPS[:1], ("cat",))
    assert list(figures) == ["Examples", "Worst examples"]
    nothing = {**TRUE, "present": np.zeros(4, bool)}
    assert localization_figures.all_figures(IMAGES, nothing, FOUND, OVERLAPS, CLASSES) == {}


def first(arrays):
    return {name: array[:1] for name, array in arrays.items()}


def test_grey_pictures_and_many_of_them():
    count = 12
    pictures = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 1), np.uint8)
    true = {
        "boxes": np.tile([2.0, 2, 9, 9], (count, 1)),
        "classes": np.zeros(count, int),
        "present": np.ones(count, bool),
    }
    found = {"boxes": true["boxes"], "classes": true["classes"], "scores": np.ones(count)}
    figures = localization_figures.all_figures(pictures, true, found, np.arange(count) / count, ("cat",))
    assert titles(figures["Worst examples"]) == [f"IoU {place / count:.2f}" for place in range(9)]
    assert figures["Examples"].get_suptitle().startswith("9 of 12 pictures")
