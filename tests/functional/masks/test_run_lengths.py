"""Run-length codes equal to pycocotools', bit by bit, and to NumPy on the decoded masks."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pycocotools import mask as coco

from cnnjax.functional import masks

NUCLEI = Path(__file__).parents[4] / "shared" / "data" / "nuclei"

MASKS = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1))


@st.composite
def equal_masks(draw):
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    one = arrays.arrays(np.uint8, shape, elements=st.integers(0, 1))
    return draw(st.lists(one, min_size=1, max_size=4))


def oracle(mask):
    return coco.encode(np.asfortranarray(mask, np.uint8))


def as_ours(code):
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


@given(MASKS)
@settings(deadline=None, max_examples=80)
def test_a_mask_there_and_back(mask):
    code = masks.encode_rle(mask)
    assert code == as_ours(oracle(mask))
    decoded = masks.decode_rle(code)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, mask)
    assert masks.encode_rle(mask.astype(bool)) == code
    assert masks.rle_area(code) == mask.sum() == coco.area(oracle(mask))
    np.testing.assert_array_equal(masks.rle_box(code), coco.toBbox(oracle(mask)))


@given(equal_masks(), st.booleans())
@settings(deadline=None, max_examples=80)
def test_merging(several, intersect):
    found = masks.merge_rle([masks.encode_rle(mask) for mask in several], intersect)
    assert found == as_ours(coco.merge([oracle(mask) for mask in several], intersect))
    expected = np.all(several, axis=0) if intersect else np.any(several, axis=0)
    np.testing.assert_array_equal(masks.decode_rle(found), expected)


def test_the_documents_golden():
    mask = np.zeros((4, 5), np.uint8)
    mask[1:3, 2:4] = 1
    assert masks.encode_rle(mask) == {"size": [4, 5], "counts": "92203"}


@pytest.mark.parametrize("side", [1, 700])
def test_long_and_falling_runs(side):
    """Numbers of more than one character, and differences below zero."""
    mask = np.zeros((side, 900), np.uint8)
    mask[:, 3:600] = 1
    mask[side // 3 : side // 2 + 1, 700:] = 1
    code = masks.encode_rle(mask)
    assert code == as_ours(oracle(mask))
    np.testing.assert_array_equal(masks.decode_rle(code), mask)


def test_empty_masks():
    for shape in ((3, 4), (0, 5), (5, 0)):
        mask = np.zeros(shape, np.uint8)
        code = masks.encode_rle(mask)
        assert code == as_ours(oracle(mask))
        assert masks.decode_rle(code).shape == shape
        assert masks.rle_area(code) == 0
        np.testing.assert_array_equal(masks.rle_box(code), np.zeros(4))


def test_counts_come_as_text_bytes_and_lists():
    mask = np.array([[0, 1, 1], [1, 1, 0]], np.uint8)
    lengths = [1, 4, 1]
    for counts in (lengths, np.array(lengths), tuple(lengths), "141", b"141"):
        np.testing.assert_array_equal(masks.decode_rle({"size": [2, 3], "counts": counts}), mask)
    # Runs of no pixels are allowed, and written no more.
    odd = {"size": (2, 3), "counts": [0, 0, 1, 2, 0, 2, 1, 0]}
    np.testing.assert_array_equal(masks.decode_rle(odd), mask)
    assert masks.rle_area(odd) == 4
    np.testing.assert_array_equal(masks.rle_box(odd), [0, 0, 3, 2])
    assert masks.merge_rle([odd]) == {"size": [2, 3], "counts": "141"}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ({"size": [4, 5], "counts": [3, 4]}, "runs of 7 pixels in all came, 20 were expected"),
        ({"size": [5, 5], "counts": "92203"}, "runs of 20 pixels in all came, 25 were expected"),
        ({"size": [4, 5], "counts": [30, -10]}, "a run has a negative length"),
        ({"size": [4, 5], "counts": [2.5, 17.5]}, "a list of whole run lengths"),
        ({"size": [4, 5], "counts": 20}, "counts of int came"),
        ({"size": [4, 5], "counts": "9220~"}, "a character above 'o'"),
        ({"size": [4, 5], "counts": "92 03"}, "a character below '0'"),
        ({"size": [4, 5], "counts": "9220é"}, "not ASCII"),
        ({"size": [4, 5], "counts": "9220`"}, "cut off at the end"),
        ({"size": [4, 5], "counts": "o" * 20 + "0"}, "a number without end"),
        ({"size": [4], "counts": "d0"}, "two numbers were expected"),
        ({"size": [4, -5], "counts": "d0"}, "whole numbers were expected"),
        ({"size": [4.0, 5], "counts": "d0"}, "whole numbers were expected"),
        ({"size": [4, 5]}, 'holds no "counts"'),
        ({"counts": "d0"}, 'holds no "size"'),
    ],
)
def test_codes_that_are_no_masks(code, message):
    for function in (masks.decode_rle, masks.rle_area, masks.rle_box):
        with pytest.raises(ValueError, match=message):
            function(code)


def test_masks_that_have_no_code():
    with pytest.raises(ValueError, match="one mask for each call"):
        masks.encode_rle(np.zeros((2, 3, 4), bool))
    for mask in (np.full((2, 2), 3), np.full((2, 2), -1), np.ones((2, 2))):
        with pytest.raises(ValueError, match="compare first"):
            masks.encode_rle(mask)


def test_merging_what_does_not_belong_together():
    small, large = (masks.encode_rle(np.ones(shape, bool)) for shape in ((2, 3), (3, 2)))
    with pytest.raises(ValueError, match=r"rles 1: size \[3, 2\] came, \[2, 3\] was expected"):
        masks.merge_rle([small, large])
    with pytest.raises(ValueError, match="one was expected at least"):
        masks.merge_rle([])


def test_the_nuclei_are_those_of_their_label_maps():
    if not NUCLEI.is_dir():
        pytest.skip("the pictures of nuclei are not there")
    content = json.loads((NUCLEI / "instances_test.json").read_text())
    for image in content["images"][:5]:
        labels = np.asarray(Image.open(NUCLEI / "test" / "instances" / image["file_name"]))
        codes = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        assert codes
        kept = {masks.encode_rle(labels == number)["counts"] for number in range(1, labels.max() + 1)}
        assert {one["segmentation"]["counts"] for one in codes} == kept
        for one in codes:
            assert masks.rle_area(one["segmentation"]) == one["area"]
            assert masks.rle_box(one["segmentation"]).tolist() == one["bbox"]
