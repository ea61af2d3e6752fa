"""Overlaps of masks equal to pycocotools', bit by bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from cnnjax.functional import masks
from cnnjax.functional.masks import overlaps


@st.composite
def sides(draw):
    one = arrays.arrays(
        np.uint8, draw(st.tuples(st.integers(1, 8), st.integers(1, 8))), elements=st.integers(0, 1), fill=st.just(0)
    )
    detections, truths = (draw(st.lists(one, min_size=1, max_size=5)) for _ in range(2))
    crowd = draw(st.lists(st.booleans(), min_size=len(truths), max_size=len(truths)))
    return detections, truths, crowd


@given(sides())
@settings(deadline=None, max_examples=100)
def test_it_is_pycocotools(drawn):
    detections, truths, crowd = drawn
    ours = masks.rle_iou(*([masks.encode_rle(mask) for mask in side] for side in (detections, truths)), crowd)
    theirs = coco.iou(
        *([coco.encode(np.asfortranarray(mask)) for mask in side] for side in (detections, truths)), crowd
    )
    np.testing.assert_array_equal(ours, theirs)


def test_by_hand_without_crowds_and_of_none():
    pair = [masks.encode_rle(np.array(rows, bool)) for rows in ([[1, 1, 0, 0]], [[0, 1, 1, 1]])]
    np.testing.assert_array_equal(masks.rle_iou(pair, pair), [[1, 1 / 4], [1 / 4, 1]])
    assert masks.rle_iou([], pair).shape == (0, 2)
    assert masks.rle_iou(pair, []).shape == (2, 0)


def test_many_pairs_are_taken_in_parts(monkeypatch):
    generator = np.random.default_rng(0)
    several = [masks.encode_rle(generator.random((9, 9)) < 0.4) for _ in range(12)]
    at_once = masks.rle_iou(several, several[:7])
    monkeypatch.setattr(overlaps, "_AT_ONCE", 50)
    np.testing.assert_array_equal(masks.rle_iou(several, several[:7]), at_once)


def test_bad_input_is_told():
    small, large = (masks.encode_rle(np.ones(shape, bool)) for shape in ((2, 3), (3, 2)))
    with pytest.raises(ValueError, match="one size was expected"):
        masks.rle_iou([small], [large])
    with pytest.raises(ValueError, match="a flag for each truth"):
        masks.rle_iou([small], [small, small], [True])
    with pytest.raises(ValueError, match="truths 1: runs of 6 pixels"):
        masks.rle_iou([small], [small, {**small, "size": [3, 3]}])
