"""Boxes over pictures: which pixels they colour, names that fit, small pictures made larger."""

import numpy as np

from cnnjax.view.boxes import Mark, class_colour, draw_boxes

PICTURE = np.full((400, 500, 3), 0.5)


def test_a_box_is_a_frame_in_its_colour():
    drawn = draw_boxes(PICTURE, [Mark((100, 50, 300, 200), "", (255, 0, 0))])
    assert drawn.shape == (400, 500, 3)
    red = (drawn == (255, 0, 0)).all(axis=-1)
    assert red[50, 100:300].all()
    assert red[50:200, 300].all()
    assert not red[60:190, 110:290].any()
    assert not red[:40].any()


def test_dashes_masks_and_names():
    mask = np.zeros((400, 500), bool)
    mask[300:350, 10:60] = True
    whole = draw_boxes(PICTURE, [Mark((100, 50, 300, 200), "", (0, 255, 0))])
    dashed = draw_boxes(PICTURE, [Mark((100, 50, 300, 200), "cat", (0, 255, 0), dashed=True, mask=mask)])
    green = [(drawn == (0, 255, 0)).all(axis=-1) for drawn in (whole, dashed)]
    assert 0 < green[1][200, 100:300].sum() < green[0][200, 100:300].sum()
    assert (dashed[320, 30] != 128).any()
    assert green[1][30:48, 100:130].any()  # the name's ground, above the box


def test_small_pictures_are_enlarged_and_odd_boxes_are_no_harm():
    marks = [Mark((np.nan, 0, 4, 4), "x" * 90, (1, 2, 3)), Mark((-5, -5, 50, 50), "at the edge", (200, 0, 0))]
    assert draw_boxes(np.zeros((20, 40, 1)), marks).shape == (160, 320, 3)
    assert draw_boxes(np.zeros((2, 2, 3)), []).shape == (16, 16, 3)


def test_classes_have_colours_of_their_own():
    colours = [class_colour(number) for number in range(20)]
    assert len(set(colours)) == 20
    assert colours[0] == (0, 114, 178)
