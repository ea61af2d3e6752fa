"""What lies over pictures: colours by label, borders, errors."""

import numpy as np

from cnnjax.view.overlays import WRONG_COLOURS, draw_borders, label_colours, paint_errors, paint_labels

GREY = np.full((3, 4, 1), 0.5)
LABELS = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 255]])


def rgb(colour):
    return [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]


def test_colours_differ_and_do_not_depend_on_how_many_there_are():
    many = label_colours(256)
    assert len(np.unique(many, axis=0)) == 256
    np.testing.assert_array_equal(label_colours(9), many[:9])
    wrong = np.rint([[255 * part for part in rgb(colour)] for colour in WRONG_COLOURS.values()])
    assert not (many[:, None] == wrong[None]).all(-1).any()


def test_painted_labels_leave_the_background():
    painted = paint_labels(GREY, LABELS, strength=0.5)
    np.testing.assert_array_equal(painted[:2, :2], np.full((2, 2, 3), 0.5))
    np.testing.assert_allclose(painted[0, 2], 0.25 + 0.5 * label_colours(2)[1] / 255)
    np.testing.assert_allclose(painted[2, 3], [0.5] * 3)
    everything = paint_labels(GREY, LABELS, strength=1.0, background=None)
    np.testing.assert_array_equal(everything[0, 0], [0, 0, 0])


def test_borders_are_drawn_where_they_are():
    borders = LABELS == 1
    drawn = draw_borders(GREY, borders, "#ff0000")
    np.testing.assert_array_equal((drawn == [1, 0, 0]).all(-1), borders)
    np.testing.assert_array_equal(drawn[~borders], np.full((8, 3), 0.5))


def test_errors_have_the_colour_of_their_kind():
    predicted = np.array([[1, 0, 0, 2], [0, 0, 1, 1], [2, 2, 2, 1]])
    shown = paint_errors(GREY, LABELS, predicted, ignored=255)
    np.testing.assert_allclose(shown[0, 0], rgb(WRONG_COLOURS["too much"]))
    np.testing.assert_allclose(shown[0, 2], rgb(WRONG_COLOURS["missed"]))
    np.testing.assert_allclose(shown[0, 3], rgb(WRONG_COLOURS["another class"]))
    for right in ((0, 1), (1, 2), (2, 3)):
        np.testing.assert_allclose(shown[right], [0.575] * 3)
