"""SSD's crops against its rule in plain loops, and by their distribution."""

from functools import partial

import jax
import jaxtyping
import numpy as np
import pytest

from cnnjax.data.augment import Targets, iou_crop
from tests.data.augment.loops import boxed, corners, nearest, resized, windows_of
from tests.models.quick import run_unoptimised

KEY = jax.random.key(2)
generator = np.random.default_rng(0)
SHAPE, SIZE = (20, 30), (6, 5)
BOXES = np.float32([[2, 3, 12, 14], [0, 0, 0, 0], [15, 5, 29, 19], [9, 9, 5, 12], [20, 1, 24, 4]])


def overlap(box, other):
    wide = min(box[2], other[2]) - max(box[0], other[0])
    tall = min(box[3], other[3]) - max(box[1], other[1])
    common = max(wide, 0) * max(tall, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return common / (sum(areas) - common)


def holds(window, box):
    """Whether a box is one, and its centre in the window."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return box[2] > box[0] and box[3] > box[1] and window[0] < x < window[2] and window[1] < y < window[3]


def crops(count, boxes=BOXES, **options):
    """The windows, and the boxes in them, of pictures with the same boxes."""
    targets = Targets(boxes=np.tile(boxes, (count, 1, 1)), keypoints=corners(count, SHAPE))
    blank = np.zeros((count, *SHAPE, 1), np.float32)
    _, moved = run_unoptimised(partial(iou_crop, size=SIZE, **options), KEY, blank, targets)
    return windows_of(moved.keypoints, SHAPE, SIZE), moved.boxes


def test_pictures_and_targets_are_those_of_plain_loops():
    images = generator.uniform(size=(5, *SHAPE, 3)).astype(np.float32)
    masks = generator.integers(0, 5, (5, *SHAPE, 2)).astype(np.uint8)
    targets = Targets(np.tile(BOXES, (5, 1, 1)), masks, corners(5, SHAPE))
    transform = partial(iou_crop, size=SIZE)
    found, moved = run_unoptimised(transform, KEY, images, targets)
    windows = windows_of(moved.keypoints, SHAPE, SIZE)
    for number, window in enumerate(windows):
        np.testing.assert_allclose(found[number], resized(images[number], window, SIZE, 0.0), atol=1e-3)
        np.testing.assert_array_equal(moved.masks[number], nearest(masks[number], window, SIZE))
    part = jax.tree.map(lambda x: x[2:], targets)
    again, _ = run_unoptimised(transform, jax.random.split(KEY, 5)[2:], images[2:], part)
    np.testing.assert_allclose(again, found[2:], atol=1e-6)


@pytest.mark.parametrize("least", [0.0, 0.1, 0.3, 0.5])
def test_parts_overlap_an_object_and_hold_its_centre(least):
    windows, boxes = crops(100, overlaps=(least,))
    whole = np.abs(windows - [0, 0, 30, 20]).max(1) < 1e-3
    assert whole.mean() < 0.3  # where no part fits
    for all_of_it, window, found in zip(whole, windows, boxes, strict=True):
        assert all_of_it or max(overlap(window, box) for box in BOXES if holds(window, box)) >= least - 1e-4
        expected = [boxed(box, window, SIZE) if holds(window, box) else np.zeros(4) for box in BOXES]
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_sides_and_aspects_are_within_their_ranges():
    windows, _ = crops(1500, boxes=np.float32([[1, 1, 29, 19]]), overlaps=(0.0,))
    sides = (windows[:, 2:] - windows[:, :2]) / [30, 20]
    scale, aspect = np.sqrt(sides.prod(1)), sides[:, 0] / sides[:, 1]
    assert sides.max() <= 1.0001
    assert 0.29 < scale.min() < 0.36
    assert aspect.min() > 0.499
    assert aspect.max() < 2.001
    small = scale < 0.6
    assert aspect[small].min() < 0.55
    assert aspect[small].max() > 1.9
    assert windows.min() > -1e-3
    assert (windows[:, 2:] <= np.asarray([30.001, 20.001])).all()


def test_least_overlaps_are_drawn_among_those_that_fit():
    # No part at all has nine tenths in common with a box of a ninth of the smallest part.
    tiny = np.float32([[10, 10, 11, 11]])
    windows, boxes = crops(50, boxes=tiny, overlaps=(0.9,))
    np.testing.assert_allclose(windows, np.tile([0, 0, 30, 20], (50, 1)), atol=1e-3)
    assert (boxes[..., 2:] > boxes[..., :2]).all()
    windows, _ = crops(400, boxes=tiny, overlaps=(None, 0.0, 0.9))
    whole = np.abs(windows - [0, 0, 30, 20]).max(1) < 1e-3
    assert 0.42 < whole.mean() < 0.58
    # Without objects, and without slots for any, the whole picture.
    for empty in (np.zeros((2, 4), np.float32), np.zeros((0, 4), np.float32)):
        windows, _ = crops(20, boxes=empty, overlaps=(0.0, 0.5))
        np.testing.assert_allclose(windows, np.tile([0, 0, 30, 20], (20, 1)), atol=1e-3)


def test_boxes_with_nan_are_seen():
    broken = np.float32([[2, 3, 12, 14], [1, np.nan, 3, 4]])
    _, boxes = crops(20, boxes=broken, overlaps=(0.3,))
    assert np.isnan(boxes[:, 1]).any(-1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlaps": ()}, "overlaps="),
        ({"overlaps": (0.1, 1.5)}, "overlaps=.*0 to 1"),
        ({"tries": 0}, "tries=0"),
        ({"scale": (0.0, 1.0)}, "scale="),
        ({"aspect": (2.0, 0.5)}, "aspect="),
    ],
)
def test_what_is_no_option(monkeypatch, options, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    images = np.zeros((2, *SHAPE, 3), np.float32)
    with pytest.raises(ValueError, match=message):
        iou_crop(KEY, images, Targets(boxes=np.tile(BOXES, (2, 1, 1))), size=SIZE, **options)
    with pytest.raises(ValueError, match="targets have no boxes"):
        iou_crop(KEY, images, Targets(), size=SIZE)
