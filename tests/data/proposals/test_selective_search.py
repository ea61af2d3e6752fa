"""Selective search on drawn pictures, its ranking by hand, and its door."""

import inspect
from dataclasses import asdict

import jaxtyping
import numpy as np
import pytest

from cnnjax.data.proposals import selective_search
from cnnjax.data.proposals.selective_search import VARIETIES, Settings, fit_width, rank, to_picture


def drawn(height=60, width=80):
    """A grey ground with noise, a red and a blue rectangle."""
    picture = np.random.default_rng(0).integers(100, 112, (height, width, 3)).astype(np.uint8)
    picture[10:40, 8:33] = (200, 30, 30)
    picture[20:55, 45:75] = (20, 40, 190)
    return picture


OBJECTS = np.asarray([[8, 10, 33, 40], [45, 20, 75, 55]], np.float64)


def overlaps(ones, others):
    low, high = np.maximum(ones[:, None, :2], others[:, :2]), np.minimum(ones[:, None, 2:], others[:, 2:])
    common = np.prod(np.maximum(high - low, 0), -1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], -1) for boxes in (ones, others)]
    return common / (areas[0][:, None] + areas[1] - common)


@pytest.mark.parametrize("mode", ["fast", "quality"])
def test_objects_are_found(mode):
    boxes = selective_search(drawn(), mode=mode)
    assert boxes.dtype == np.float32
    assert overlaps(OBJECTS, boxes).max(1).min() > 0.9
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 20
    assert boxes.min() >= 0
    assert (boxes[:, 2:] <= (80, 60)).all()


def test_wide_pictures_are_searched_smaller():
    large = np.kron(drawn(), np.ones((4, 4, 1), np.uint8))
    boxes = selective_search(large, width=80)
    assert overlaps(4 * OBJECTS, boxes).max(1).min() > 0.85
    # The side counts in the smaller picture.
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 80
    assert fit_width(large, 80).shape == (60, 80, 3)
    assert fit_width(large, 320) is large


def test_the_seed_decides_the_order_alone():
    one, same, other = (selective_search(drawn(), smallest=1, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert {tuple(box) for box in one.tolist()} == {tuple(box) for box in other.tolist()}
    np.testing.assert_array_equal(selective_search(drawn(), smallest=1, most=3), one[:3])


def test_ranking_by_hand():
    first = np.asarray([[0, 0, 5, 30], [0, 0, 25, 25], [0, 0, 40, 30]])
    second = np.asarray([[1, 1, 30, 30], [0, 0, 40, 30]])
    generator = np.random.default_rng(7)
    values = np.concatenate([generator.random(3) * (3, 2, 1), generator.random(2) * (2, 1)])
    expected = []
    for place in np.argsort(values):
        box = [*first.tolist(), *second.tolist()][place]
        if box[2] - box[0] >= 20 and box not in expected:
            expected.append(box)
    assert len(expected) == 3
    assert rank([first, second], Settings(seed=7)).tolist() == expected
    assert rank([first, second], Settings(seed=7, most=2)).tolist() == expected[:2]


def test_boxes_return_to_the_picture():
    boxes = to_picture(np.asarray([[0, 0, 500, 333], [10, 20, 30, 40]]), (333, 500), (1000, 1500))
    np.testing.assert_allclose(boxes, [[0, 0, 1500, 1000], [30, 60.06006, 90, 120.12012]], rtol=1e-6)
    assert boxes.dtype == np.float32


def test_modes_are_those_of_the_paper():
    count = {mode: len(one.spaces) * len(one.scales) * len(one.similarities) for mode, one in VARIETIES.items()}
    assert count == {"fast": 8, "quality": 80}


def test_settings_have_the_defaults_of_the_function():
    parameters = list(inspect.signature(selective_search).parameters.values())[1:]
    assert {one.name: one.default for one in parameters} == asdict(Settings())


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 30, 3), (30, 1, 3), (2, 3, 3)])
def test_tiny_pictures(shape):
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert [0, 0, shape[1], shape[0]] in selective_search(picture, smallest=1).tolist()
    assert selective_search(picture).shape == (0, 4)


@pytest.mark.parametrize(
    ("picture", "options", "error", "message"),
    [
        (np.zeros((4, 4, 3)), {}, ValueError, r"picture is float64 of shape \(4, 4, 3\); expected uint8"),
        (np.zeros((4, 4), np.uint8), {}, ValueError, "picture is uint8 of shape.*three equal channels"),
        (np.zeros((0, 4, 3), np.uint8), {}, ValueError, "at least one pixel"),
        (drawn(), {"mode": "slow"}, ValueError, "mode is 'slow'; expected 'fast' or 'quality'"),
        (drawn(), {"most": 0}, ValueError, "most=0; expected a whole number of 1 or more"),
        (drawn(), {"smallest": -1}, ValueError, "smallest=-1.*1 keeps every box"),
        (drawn(), {"width": 0}, ValueError, "width=0"),
        (drawn(), {"seed": -1}, ValueError, "seed=-1"),
        (drawn(), {"width": 500.5}, TypeError, "width is 500.5; expected a whole number"),
        (drawn(), {"most": True}, TypeError, "most is True"),
    ],
)
def test_the_door(monkeypatch, picture, options, error, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(error, match=message):
        selective_search(picture, **options)
