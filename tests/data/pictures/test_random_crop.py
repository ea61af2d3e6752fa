import math
from collections import Counter

import numpy as np
import pytest

from cnnjax.data.pictures.random_crop import RandomCrop, draw_box


def boxes(height, width, count, rule=None):
    return np.array([draw_box(height, width, seed=0, place=place, rule=rule) for place in range(count)])


def test_a_box_is_the_same_on_every_machine():
    # BLAKE2b of "7 13 0" as four little-endian words over 2**64 is 0.425115, 0.873972, 0.245487, 0.792999; a share of
    # 0.08 + 0.92 * 0.425115 at an aspect of 3/4 * (16/9)**0.873972 is 266.89 by 330.97, and so on.
    assert draw_box(375, 500, seed=7, place=13) == (26, 134, 267, 331)
    # Here two boxes, 396 and 388 high, do not fit, and the third does.
    assert draw_box(375, 500, seed=7, place=12) == (83, 5, 272, 325)
    assert draw_box(375, 500, seed=2**200, place=2**70) == draw_box(375, 500, seed=2**200, place=2**70)
    drawn = {draw_box(375, 500, seed=seed, place=place) for seed in range(20) for place in range(20)}
    assert len(drawn) == 400


def test_boxes_lie_within_the_picture_with_area_and_aspect_as_asked():
    rule = RandomCrop(area=(0.2, 0.5), aspect=(0.5, 1.5))
    top, left, height, width = boxes(300, 400, 2000, rule).T
    assert min(top.min(), left.min()) >= 0
    assert (top + height).max() <= 300
    assert (left + width).max() <= 400
    # Sides are rounded to whole pixels, here of at least 109.
    assert 0.2 * 0.99 <= (height * width / 120_000).min() < 0.21
    assert 0.49 < (height * width / 120_000).max() <= 0.5 * 1.01
    assert 0.5 * 0.99 <= (width / height).min() < 0.52
    assert 1.45 < (width / height).max() <= 1.5 * 1.01


def test_area_logarithm_of_aspect_and_position_are_uniform():
    # Boxes this small always fit, so nothing is drawn twice.
    count = 4000
    top, left, height, width = boxes(4000, 5000, count, RandomCrop(area=(0.05, 0.25), aspect=(0.5, 2.0))).T
    uniforms = (
        (height * width / 2e7 - 0.05) / 0.2,
        (np.log(width / height) / math.log(2) + 1) / 2,
        top / (4000 - height),
        left / (5000 - width),
    )
    for values in uniforms:
        # Five standard deviations of a mean and of a tenth's count.
        assert abs(values.mean() - 0.5) < 5 * math.sqrt(1 / 12 / count)
        tenths = np.histogram(values, bins=10, range=(-0.001, 1.001))[0]
        assert np.abs(tenths - count / 10).max() < 5 * math.sqrt(count * 0.09)
    assert np.abs(np.corrcoef(uniforms) - np.eye(4)).max() < 5 / math.sqrt(count)


def test_every_position_is_drawn_to_the_last():
    tops = Counter(boxes(4, 4, 600, RandomCrop(area=(0.25, 0.25), aspect=(1.0, 1.0)))[:, 0].tolist())
    assert tops.keys() == {0, 1, 2}
    assert min(tops.values()) > 140


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(100, 1000, (0, 433, 100, 133)), (1000, 100, (433, 0, 133, 100)), (1, 9, (0, 4, 1, 1)), (9, 1, (4, 0, 1, 1))],
)
def test_where_nothing_fits_it_is_the_largest_centred_box(height, width, expected):
    rule = RandomCrop(area=(1.0, 1.0))
    assert draw_box(height, width, seed=0, place=0, rule=rule) == expected


def test_a_whole_picture_may_be_the_box():
    rule = RandomCrop(area=(1.0, 1.0), aspect=(1.25, 1.25))
    assert draw_box(4, 5, seed=0, place=0, rule=rule) == (0, 0, 4, 5)


def test_bad_arguments_are_errors():
    with pytest.raises(ValueError, match=r"area is \(0\.5, 0\.1\)"):
        RandomCrop(area=(0.5, 0.1))
    with pytest.raises(ValueError, match=r"area is \(0\.5, 1\.1\)"):
        RandomCrop(area=(0.5, 1.1))
    with pytest.raises(ValueError, match=r"aspect is \(0\.0, 1\.0\)"):
        RandomCrop(aspect=(0.0, 1.0))
    with pytest.raises(ValueError, match="seed is -1"):
        draw_box(4, 4, seed=-1, place=0)
    with pytest.raises(ValueError, match="place is -1"):
        draw_box(4, 4, seed=0, place=-1)
    with pytest.raises(ValueError, match="the picture is 0x4"):
        draw_box(0, 4, seed=0, place=0)
