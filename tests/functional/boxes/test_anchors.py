"""Reference boxes against torchvision's and against numbers that are published."""

import numpy as np
import pytest

from cnnjax.functional.boxes import (
    SSD300,
    SSD300_COCO,
    SSD512,
    DefaultBoxes,
    caffe_anchors,
    default_boxes,
    kmeans_sizes,
    pyramid_anchors,
)
from tests.functional.boxes.torchvision_goldens import FILE

GOLDENS = np.load(FILE)
# Printed by py-faster-rcnn's generate_anchors; the last pixel counts in.
NINE = [
    (-84, -40, 99, 55),
    (-176, -88, 191, 103),
    (-360, -184, 375, 199),
    (-56, -56, 71, 71),
    (-120, -120, 135, 135),
    (-248, -248, 263, 263),
    (-36, -80, 51, 95),
    (-80, -168, 95, 183),
    (-168, -344, 183, 359),
]


def test_a_pyramids_are_torchvisions():
    # The last map does not divide the picture: its strides are 40 and 34.
    levels = pyramid_anchors([(20, 30), (10, 15), (4, 7)], sizes=((32,), (64, 90), (128,)), image_size=(160, 240))
    assert [len(level) for level in levels] == [1800, 900, 84]
    np.testing.assert_array_equal(np.concatenate(levels), GOLDENS["anchors"])


def test_how_many_a_picture_of_faster_rcnn_has():
    maps = [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)]
    sizes = [[32], [64], [128], [256], [512]]
    levels = pyramid_anchors(maps, sizes=sizes, image_size=(800, 1344))
    assert sum(map(len, levels)) == 268_569
    # The second place of the coarsest level: 64 to the right; and its second row 61 down.
    assert (levels[4][3] - levels[4][0]).tolist() == [64, 0, 64, 0]
    assert (levels[4][63] - levels[4][0]).tolist() == [0, 61, 0, 61]
    plain = pyramid_anchors(maps, sizes=sizes, strides=[4, 8, 16, 32, 64])
    assert (plain[4][63] - plain[4][0]).tolist() == [0, 64, 0, 64]


def test_caffes_nine():
    np.testing.assert_array_equal(caffe_anchors() - np.array([0, 0, 1, 1]), NINE)
    grid = caffe_anchors((2, 3))
    assert len(grid) == 54
    np.testing.assert_array_equal(grid[9:18] - grid[:9], [[16, 0, 16, 0]] * 9)
    np.testing.assert_array_equal(grid[27:36] - grid[:9], [[0, 16, 0, 16]] * 9)


def test_default_boxes_of_coco_are_torchvisions():
    found = default_boxes(SSD300_COCO, clipping="sides")
    np.testing.assert_allclose(found, GOLDENS["default_boxes"], atol=2e-4)


@pytest.mark.parametrize(("layout", "count"), [(SSD300, 8732), (SSD300_COCO, 8732), (SSD512, 24564)])
def test_how_many_default_boxes(layout, count):
    boxes = default_boxes(layout)
    assert len(boxes) == count
    assert sum(side**2 * each for side, each in zip(layout.maps, layout.per_place, strict=True)) == count
    # By hand: the first place is around (4, 4), its boxes small, sqrt(small * large), and 2 to 1 both ways.
    small, large = layout.smallest[0], layout.largest[0]
    sides = [(small, small), ((small * large) ** 0.5,) * 2, (small * 2**0.5, small / 2**0.5)]
    np.testing.assert_allclose(boxes[:3, 2:] - boxes[:3, :2], sides, rtol=1e-5)
    np.testing.assert_allclose((boxes[:4, 2:] + boxes[:4, :2]) / 2, np.full((4, 2), 4), atol=1e-4)


def test_clipping_of_default_boxes():
    cut = default_boxes(SSD300, clipping="corners")
    assert cut.min() == 0
    assert cut.max() == 300
    sides = default_boxes(SSD300, clipping="sides")
    assert (sides[:, 2:] - sides[:, :2]).max() <= 300.001
    assert sides.min() < 0


def test_kmeans_finds_sizes_that_are_there():
    generator = np.random.default_rng(0)
    true = np.array([[10.0, 20.0], [60.0, 30.0], [200.0, 210.0]])
    sizes = (true[:, None] * generator.uniform(0.95, 1.05, (3, 50, 2))).reshape(-1, 2)
    for seed in range(5):
        np.testing.assert_allclose(kmeans_sizes(sizes, 3, seed=seed), true, rtol=0.02)
    np.testing.assert_allclose(kmeans_sizes(sizes, 1), [sizes.mean(axis=0)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pyramid_anchors([(2, 2)], sizes=[[8]]), "expected either strides, one for each level, or image_size"),
        (lambda: pyramid_anchors([(2, 2)], sizes=[], strides=[1]), "sizes of 0 levels came with maps of 1"),
        (lambda: pyramid_anchors([(2, 2)], sizes=[[8]], strides=[1, 2]), r"strides=\(1, 2\) came with 1 maps"),
        (lambda: pyramid_anchors([(0, 2)], sizes=[[8]], strides=[1]), "level 0: map 0x2"),
        (lambda: caffe_anchors(stride=0), "stride=0"),
        (lambda: default_boxes(SSD300, clipping="all"), "clipping='all'; expected one of none, sides, corners"),
        (lambda: DefaultBoxes(300, (1, 2), (1,), (1,), (1,), ((),)), "of the same length"),
        (lambda: kmeans_sizes(np.ones((5, 2)), 2), "count=2; expected from 1 to 1, the number of different sizes"),
        (lambda: kmeans_sizes(np.zeros((5, 2)), 1), r"sizes of shape \(5, 2\) came; .*above zero"),
    ],
)
def test_bad_arguments(call, message, unchecked_types):
    with pytest.raises(ValueError, match=message):
        call()
