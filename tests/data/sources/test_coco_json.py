import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cnnjax.data.sources.coco_json import read_coco, tell_annotation
from tests.data.tiny_sources import PUBLISHED

IMAGE = {"id": 7, "file_name": "a.png", "height": 6, "width": 10}
CATEGORY = {"id": 3, "name": "cat"}
ANNOTATION = {"id": 70, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}


@pytest.fixture
def file(tmp_path):
    """Writes a COCO file of one picture, category and annotation, in which some values are others."""

    def write(text=None, *, image=(), category=(), annotation=(), **parts):
        told = {
            "images": [IMAGE | dict(image)],
            "categories": [CATEGORY | dict(category)],
            "annotations": [ANNOTATION | dict(annotation)],
        } | parts
        where = tmp_path / "told.json"
        where.write_text(json.dumps(told) if text is None else text)
        return where

    return write


def test_what_a_file_says(file):
    outline = {"size": [6, 10], "counts": [60]}
    categories = [{"id": 90, "name": "dog"}, {"id": 3, "name": " cafe\u0301 "}]
    annotations = [
        ANNOTATION | {"category_id": 90, "segmentation": outline, "iscrowd": 1, "area": 5.5},
        {"image_id": 7, "id": 2, "caption": "a dog"},
        ANNOTATION | {"segmentation": [[0, 0, 2, 0, 2, 2], [1, 1, 2, 1, 2, 2, 1, 2]]},
        ANNOTATION | {"segmentation": [], "caption": "a cat"},
    ]
    found = read_coco(file(categories=categories, annotations=annotations))
    assert (found.categories.ids, found.categories.names) == ((3, 90), ("caf\u00e9", "dog"))
    assert (found.names, found.ids.tolist(), found.sides.tolist()) == (["a.png"], [7], [[6, 10]])
    assert found.ids.dtype == np.int32
    assert (found.number, found.identity, found.classes) == ([0, 2, 3], [70, 70, 70], [1, 0, 0])
    assert (found.crowd, found.area) == ([True, False, False], [5.5, 12.0, 12.0])
    assert found.boxes == [(1, 2, 3, 4)] * 3
    assert (found.outlines[0], [len(p) for p in found.outlines[1]], found.outlines[2]) == (outline, [6, 8], None)
    assert found.captions == {0: ["a dog", "a cat"]}


def test_key_points_are_the_centres_of_the_pixels_that_are_named(file):
    category = {"keypoints": ["nose", "tail"], "skeleton": [[2, 1]]}
    annotations = [ANNOTATION | {"keypoints": [4, 3, 2, 0, 0, 0]}, ANNOTATION]
    found = read_coco(file(category=category, annotations=annotations))
    assert (found.categories.points, found.categories.skeleton) == (("nose", "tail"), ((1, 0),))
    assert [points.tolist() for points in found.points] == [[[4.5, 3.5, 2], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]


def test_entries_are_counted_from_one():
    assert tell_annotation(Path("a.json"), 4, None) == "a.json, annotation 5"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"told\.json is no JSON .*restore it: expected a COCO file"),
        ('{"images": [', "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "holds a list; expected a COCO file"),
        ('{"annotations": []}', 'has no list called "images"'),
        ('{"images": []}', 'has no list called "annotations"'),
        ('{"images": [], "annotations": []}', "lists no pictures"),
        ('{"images": [3], "annotations": []}', "image 1: it is a int; expected a dictionary"),
    ],
)
def test_files_that_are_something_else(file, text, words):
    with pytest.raises(ValueError, match=words):
        read_coco(file(text))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": {"id": "7"}}, "image 1: its id is '7'; expected a whole number from 0 to 2,147,483,647"),
        ({"image": {"id": 2**31}}, "image 1: its id is 2147483648"),
        ({"images": [IMAGE, IMAGE]}, r"image 2 \(id 7\): image 1 has this id too"),
        ({"image": {"file_name": None}}, r"image 1 \(id 7\): its file_name is None"),
        ({"image": {"width": 0}}, r"image 1 \(id 7\): its width is 0; expected a number of pixels"),
        ({"image": {"height": None}}, "its height is None"),
        ({"category": {"id": "3"}}, "category 1: its id is '3'"),
        ({"categories": [CATEGORY, CATEGORY]}, "category 2: its id 3 is that of another category too"),
        ({"category": {"name": ""}}, "category 1: its name is ''"),
        (
            {"categories": [CATEGORY | {"keypoints": ["a"]}, {"id": 4, "name": "b", "keypoints": ["b"]}]},
            "category 2: its key points are others",
        ),
        ({"category": {"keypoints": ["a"], "skeleton": [[1, 2]]}}, "its skeleton does not join .*numbers from 1 to 1"),
        ({"annotations": [3]}, "annotation 1: it is a int"),
        (
            {"annotation": {"image_id": 8}},
            r"annotation 1 \(id 70\): its image_id is 8, and \"images\" has none .*remove",
        ),
        (
            {"annotation": {"category_id": 4}},
            r'\(id 70\): its category_id is 4, and "categories" has none with this id',
        ),
        ({"categories": []}, 'its category_id is 3, and "categories" has none'),
        ({"annotation": {"bbox": [1, 2, 3]}}, r"its bbox is \[1, 2, 3\]; expected \[x, y, width, height\]"),
        ({"annotation": {"bbox": [1, 2, 3, "4"]}}, r"its bbox is \[1, 2, 3, '4'\]"),
        ({"annotation": {"bbox": None}}, "its bbox is None"),
        ({"annotation": {"iscrowd": "no"}}, "its iscrowd is 'no'; expected 0 or 1"),
        ({"annotation": {"area": "5"}}, r"its area is \['5'\]; expected a number of pixels"),
        ({"annotation": {"caption": 3}}, "its caption is 3; expected text"),
        (
            {"annotation": {"segmentation": [[1, 1, 2, 2]]}},
            "polygon 1 of its segmentation has 2 points; an area needs three",
        ),
        ({"annotation": {"segmentation": [[1, 1, 2, 2, 3, 3, 4]]}}, r"polygon 1 of its segmentation has 3\.5 points"),
        ({"annotation": {"segmentation": [[1, 1, 2, 2, 3, float("nan")]]}}, "polygon 1 of its segmentation holds NaN"),
        ({"annotation": {"segmentation": [1, 1, 2, 2, 3, 3]}}, "polygon 1 of its segmentation is 1; expected a list"),
        ({"annotation": {"segmentation": "abc"}}, "its segmentation is neither polygons nor a run-length code"),
        (
            {"annotation": {"segmentation": {"size": [10, 6], "counts": [60]}}},
            r"its mask has the size \[10, 6\], its picture \[6, 10\], height and width",
        ),
        ({"annotation": {"segmentation": {"size": [6, 10]}}}, "its segmentation has no counts"),
        (
            {"category": {"keypoints": ["a"]}, "annotation": {"keypoints": [1, 2]}},
            r"its keypoints is \[1, 2\]; expected 1 times x, y and visibility",
        ),
        (
            {"category": {"keypoints": ["a"]}, "annotation": {"keypoints": [1, 2, 3]}},
            "a visibility of its keypoints is none of 0, 1 and 2",
        ),
    ],
)
def test_entries_that_are_not_sound_are_named(file, changes, words):
    with pytest.raises(ValueError, match=rf"told\.json, .*({words})|told\.json, ({words})"):
        read_coco(file(**changes))


@pytest.mark.skipif(not (PUBLISHED / "coco_people").is_dir(), reason="no coco_people in $CNNJAX_TEST_DATA")
def test_people_of_coco():
    file = PUBLISHED / "coco_people" / "test_coco.json"
    found, told = read_coco(file), json.loads(file.read_text())
    assert found.boxes == [tuple(one["bbox"]) for one in told["annotations"]]
    labelled = [int((points[:, 2] > 0).sum()) for points in found.points]
    assert labelled == [one["num_keypoints"] for one in told["annotations"]]
    assert len(found.categories.points) == 17
    assert found.categories.skeleton[0] == (15, 13)
    assert Counter(found.picture) == Counter(
        [image["id"] for image in told["images"]].index(one["image_id"]) for one in told["annotations"]
    )
