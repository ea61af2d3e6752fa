"""Polygons as COCO fills them: equal to pycocotools, bit by bit."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from cnnjax.functional import masks

PEOPLE = Path(__file__).parents[4] / "shared" / "data" / "coco_people"

NUMBERS = st.one_of(st.integers(-10, 40), st.integers(-40, 160).map(lambda n: n / 4), st.floats(-20, 50, width=32))
POLYGONS = st.lists(
    st.lists(NUMBERS, min_size=6, max_size=16).filter(lambda p: len(p) % 2 == 0), min_size=1, max_size=3
)


def oracle(polygons, height, width):
    code = coco.merge(coco.frPyObjects([[float(number) for number in polygon] for polygon in polygons], height, width))
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


@given(POLYGONS, st.integers(1, 30), st.integers(1, 30))
@settings(deadline=None, max_examples=200)
def test_it_is_pycocotools(polygons, height, width):
    assert masks.polygons_to_rle(polygons, height, width) == oracle(polygons, height, width)


@pytest.mark.parametrize(
    ("polygon", "size", "counts"),
    [
        ([1, 1, 4, 1, 4, 3, 1, 3], (4, 5), "5220003"),
        ([10.5, 10.5, 30.2, 12.1, 25.7, 40.9], (50, 60), "aa01a12N2N2N2N2N2N2N2N2N2O1N2N2N2NL4J6I7Jf^1"),
    ],
)
def test_the_documents_goldens(polygon, size, counts):
    assert masks.polygons_to_rle([polygon], *size) == {"size": list(size), "counts": counts}


def test_area_and_pixels_of_a_triangle():
    code = masks.polygons_to_rle([[10.5, 10.5, 30.2, 12.1, 25.7, 40.9]], 50, 60)
    assert masks.rle_area(code) == 279
    # An array of points is the same.
    points = np.array([[10.5, 10.5], [30.2, 12.1], [25.7, 40.9]])
    assert masks.polygons_to_rle([points], 50, 60) == code


def test_repeated_points_and_polygons_outside():
    square = [2.0, 2.0, 2.0, 2.0, 6.0, 2.0, 6.0, 2.0, 6.0, 6.0, 2.0, 6.0, 2.0, 2.0]
    assert masks.polygons_to_rle([square], 9, 9) == oracle([square], 9, 9)
    far = [100, 100, 120, 100, 120, 130]
    assert masks.rle_area(masks.polygons_to_rle([far], 9, 9)) == 0


def test_the_people_of_coco():
    if not PEOPLE.is_dir():
        pytest.skip("the photographs of COCO are not there")
    (file,) = PEOPLE.glob("*.json")
    content = json.loads(file.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    outlined = [one for one in content["annotations"] if isinstance(one["segmentation"], list)]
    assert outlined
    for one in outlined:
        size = sizes[one["image_id"]]
        assert masks.polygons_to_rle(one["segmentation"], *size) == oracle(one["segmentation"], *size)


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        ([], "one was expected at least"),
        ([[1, 1, 2, 2]], "number 0 has 2 points; an area needs three"),
        ([[1, 1, 2, 2, 3, 1], [1, 1, 2, 2, 3]], "number 1 has shape"),
        ([[1, 1, 2, float("nan"), 3, 1]], "NaN, infinite or too large"),
        ([[1, 1, 2, 1e12, 3, 1]], "NaN, infinite or too large"),
    ],
)
def test_polygons_that_are_none(polygons, message):
    with pytest.raises(ValueError, match=message):
        masks.polygons_to_rle(polygons, 9, 9)
