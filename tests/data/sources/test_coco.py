import json
import pickle

import numpy as np
import pytest

from cnnjax.data import open_source, read_example, splits
from cnnjax.settings import Objects
from tests.data.tiny_sources import PUBLISHED, write_picture


@pytest.fixture
def data(tmp_path):
    """Three pictures of several sizes, listed against their order, with three objects and a gap in the categories."""
    for name, height, width in (("a", 6, 10), ("b", 8, 4), ("deep/c", 5, 5)):
        write_picture(tmp_path / f"images/{name}.png", height, width)

    def write(name="told.json", **changes):
        told = {
            "images": [
                {"id": 30, "file_name": "deep/c.png", "height": 5, "width": 5},
                {"id": 10, "file_name": "a.png", "height": 6, "width": 10},
                {"id": 20, "file_name": "b.png", "height": 8, "width": 4},
            ],
            "categories": [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}],
            "annotations": [
                {
                    "id": 1,
                    "image_id": 10,
                    "category_id": 9,
                    "bbox": [1, 2, 3, 4],
                    "segmentation": [[1, 2, 4, 2, 4, 6, 1, 6]],
                },
                {
                    "id": 2,
                    "image_id": 20,
                    "category_id": 2,
                    "bbox": [0, 0, 4, 8],
                    "segmentation": [[0, 0, 4, 0, 4, 8, 0, 8]],
                },
                {
                    "id": 3,
                    "image_id": 10,
                    "category_id": 2,
                    "bbox": [0.5, 0, 9.5, 5.25],
                    "iscrowd": 1,
                    "area": 60,
                    "segmentation": {"size": [6, 10], "counts": [0, 60]},
                },
            ],
        } | changes
        (tmp_path / name).write_text(json.dumps(told))
        return f"coco:{tmp_path}/images:{tmp_path}/{name}"

    return write


def test_boxes_of_pictures_in_the_order_of_the_file(data):
    source = open_source(data(), "all")
    assert (source.info.classes, source.info.class_ids) == (("cat", "dog"), (2, 9))
    examples = [read_example(source, index) for index in range(3)]
    assert {name: (values.shape, values.dtype.name) for name, values in examples[1].items()} == {
        "image": ((6, 10, 3), "uint8"),
        "picture": ((), "int32"),
        "boxes": ((2, 4), "float32"),
        "classes": ((2,), "int32"),
        "crowd": ((2,), "bool"),
        "area": ((2,), "float32"),
        "present": ((2,), "bool"),
    }
    assert source.info.shapes == {
        **{name: values.shape for name, values in examples[0].items()},
        "image": (None, None, 3),
    }
    assert [int(one["picture"]) for one in examples] == [30, 10, 20]
    assert [int(one["present"].sum()) for one in examples] == [0, 2, 1]
    assert examples[1]["boxes"].tolist() == [[1, 2, 4, 6], [0.5, 0, 10, 5.25]]
    assert [examples[1][name].tolist() for name in ("classes", "crowd", "area")] == [[1, 0], [False, True], [12, 60]]
    assert [examples[2][name].tolist() for name in ("classes", "area")] == [[0, 0], [32, 0]]
    assert source.column("picture").tolist() == [30, 10, 20]
    assert source.column("classes").tolist() == [[0, 0], [1, 0], [0, 0]]
    assert source.where(1).endswith(r"images/a.png (" + source.where(1).split(" (", 1)[1])
    assert source.where(1).endswith("told.json, image 2 (id 10))")


def test_masks_are_read_where_they_are_asked_for(data):
    stack = open_source(data(), "all", objects=Objects(masks="stack", slots=3))
    assert (stack.info.shapes["masks"], stack.info.labels) == ((None, None, 3), "")
    masks = read_example(stack, 1)["masks"]
    square = np.zeros((6, 10), np.uint8)
    square[2:6, 1:4] = 1
    np.testing.assert_array_equal(masks, np.stack([square, np.ones_like(square), np.zeros_like(square)], -1))
    labels = open_source(data(), "all", objects=Objects(masks="map"))
    assert (labels.info.shapes["masks"], labels.info.labels) == ((None, None), "instances")
    np.testing.assert_array_equal(read_example(labels, 1)["masks"], np.where(square, 1, 2))
    assert not read_example(labels, 0)["masks"].any()
    # Workers get sources by pickle.
    np.testing.assert_array_equal(read_example(pickle.loads(pickle.dumps(labels)), 1)["masks"], np.where(square, 1, 2))


def test_an_object_without_an_outline_has_no_mask(data):
    spelling = data(annotations=[{"image_id": 10, "category_id": 9, "bbox": [1, 2, 3, 4]}])
    assert open_source(spelling, "all")[1]["present"].tolist() == [True]
    words = r"annotation 1: it has no segmentation, and masks='map' came \(1 without"
    with pytest.raises(ValueError, match=words):
        open_source(spelling, "all", objects=Objects(masks="map"))


def test_an_outline_that_cannot_be_decoded_is_named_when_it_is_read(data):
    bad = {
        "id": 5,
        "image_id": 10,
        "category_id": 9,
        "bbox": [1, 2, 3, 4],
        "segmentation": {"size": [6, 10], "counts": "zz"},
    }
    source = open_source(data(annotations=[bad]), "all", objects=Objects(masks="map"))
    with pytest.raises(
        ValueError, match=r"a\.png \(.*told\.json, image 2 .*annotation 1 \(id 5\): its segmentation is no"
    ):
        read_example(source, 1)


def test_captions_are_a_column(data):
    captions = [
        {"id": n, "image_id": picture, "caption": text}
        for n, picture, text in ((1, 20, "x"), (2, 10, "y"), (3, 20, "z"))
    ]
    spelling = data(annotations=captions, categories=[])
    source = open_source(spelling, "all")
    assert source.column("captions").tolist() == [(), ("y",), ("x", "z")]
    assert set(source[0]) == set(source.info.shapes) == {"image", "picture"}
    assert open_source(spelling, "all[1:]").column("captions").tolist() == [("y",), ("x", "z")]
    with pytest.raises(ValueError, match="has captions only, and masks='map' came"):
        open_source(spelling, "all", objects=Objects(masks="map"))


def test_a_file_without_annotations_has_pictures_without_objects(data):
    source = open_source(data(annotations=[]), "all")
    assert (source[0]["boxes"].shape, source[0]["present"].any()) == ((1, 4), False)


def test_a_star_stands_for_the_split(data, tmp_path):
    one = [{"id": 1, "image_id": 10, "category_id": 9, "bbox": [1, 2, 3, 4]}]
    data("told_train2017.json")
    data("told_val2017.json", annotations=one)
    (tmp_path / "train2017").symlink_to("images")
    (tmp_path / "val2017").symlink_to("images")
    for images in ("images", "*"):
        spelling = f"coco:{images}:told_*.json"
        assert splits(spelling, data_dir=tmp_path) == ("train", "val", "test")
        train, val = (open_source(spelling, split, data_dir=tmp_path) for split in ("train", "val"))
        assert (train.column("present").sum(), val.column("present").sum()) == (3, 1)
        assert train.info.shapes == val.info.shapes
    data("told_val2017.json", categories=[{"id": 9, "name": "dog"}], annotations=one)
    with pytest.raises(ValueError, match=r"told_val2017\.json has other categories than .*told_train2017\.json"):
        open_source(spelling, "train", data_dir=tmp_path)
    data("told_valid.json")
    with pytest.raises(ValueError, match="both stand for the split 'val'"):
        open_source(spelling, "train", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("spelling", "error", "words"),
    [
        ("coco:images", ValueError, "names no pictures or no file; expected coco:IMAGES:JSON"),
        ("coco::told.json", ValueError, "names no pictures or no file"),
        ("coco:*:told.json", ValueError, "names no pictures or no file"),
        ("coco:images:absent.json", FileNotFoundError, r"there is no file '.*absent\.json'"),
        ("coco:absent:told.json", FileNotFoundError, "there is no folder '.*absent'"),
        ("coco:images:absent_*.json", FileNotFoundError, r"there is no file .*absent_\*\.json"),
    ],
)
def test_spellings_that_lead_nowhere(data, tmp_path, spelling, error, words):
    data()
    with pytest.raises(error, match=words):
        open_source(spelling, "all", data_dir=tmp_path)


def test_what_the_file_says_must_be_there_and_fit(data, tmp_path):
    one = {"id": 10, "height": 6, "width": 10}
    for name, error, words in (
        (
            "z.png",
            FileNotFoundError,
            r"told\.json, image 1 \(id 10\): the picture 'z\.png' is missing .*put it there, or remove",
        ),
        ("../a.png", ValueError, r"image 1 \(id 10\): the picture '\.\./a\.png' is not inside the folder"),
    ):
        with pytest.raises(error, match=words):
            open_source(data(images=[one | {"file_name": name}], annotations=[]), "all")
    source = open_source(data(images=[one | {"file_name": "b.png"}], annotations=[]), "all")
    with pytest.raises(ValueError, match=r"the picture has 8 rows of 4 pixels, its annotation .*says 6 rows of 10"):
        read_example(source, 0)


def test_boxes_are_refused_left_out_or_cut_by_choice(data):
    boxes = [[1, 2, 3, 4], [1, 2, 0, 4], [1, 2, -1, 4], [8, 2, 4, 1], [float("nan"), 0, 1, 1], [0, 0, 10.004, 6]]
    told = [{"id": n, "image_id": 10, "category_id": 9, "bbox": box, "area": n} for n, box in enumerate(boxes)]
    spelling = data(annotations=told)
    words = r"told\.json, annotation 2 \(id 1\): the box x 1, y 2, width 0, height 4 is empty \(3 more boxes"
    with pytest.raises(ValueError, match=words):
        open_source(spelling, "all")
    dropped = open_source(spelling, "all", objects=Objects(invalid="drop"))
    assert dropped[1]["area"].tolist() == [0, 5]
    assert dropped[1]["boxes"].tolist() == [[1, 2, 4, 6], [0, 0, 10, 6]]
    cut = open_source(spelling, "all", objects=Objects(invalid="cut"))
    assert cut[1]["boxes"].tolist() == [[1, 2, 4, 6], [8, 2, 10, 3], [0, 0, 10, 6]]
    assert [remark.split(":")[0] for remark in cut.info.remarks] == ["left out 3 objects", "cut at the border 1 object"]


def test_more_objects_than_slots(data):
    words = r"told\.json, image 2 \(id 10\): a\.png has 2 objects, and there are slots=1; pass slots=2"
    with pytest.raises(ValueError, match=words):
        open_source(data(), "all", objects=Objects(slots=1))


def test_the_fingerprint_is_of_pictures_and_annotations(data):
    first = open_source(data(), "all").info.fingerprint
    assert open_source(data(), "all", objects=Objects(slots=9, masks="map")).info.fingerprint == first
    assert open_source(data(annotations=[]), "all").info.fingerprint != first


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.skipif(not (PUBLISHED / "coco_people").is_dir(), reason="no coco_people in $CNNJAX_TEST_DATA")
def test_masks_of_people_are_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    told = json.loads((PUBLISHED / "coco_people/test_coco.json").read_text())
    source = open_source(
        "coco:coco_people:coco_people/test_coco.json", "all", data_dir=PUBLISHED, objects=Objects(masks="stack")
    )
    assert source.info.points[:2] == ("nose", "left_eye")
    for index, image in enumerate(told["images"]):
        example = read_example(source, index)
        own = [one for one in told["annotations"] if one["image_id"] == image["id"]]
        assert (int(example["picture"]), int(example["present"].sum())) == (image["id"], len(own))
        for slot, one in enumerate(own):
            outline, sides = one["segmentation"], (image["height"], image["width"])
            if isinstance(outline, list):
                code = coco.merge(coco.frPyObjects(outline, *sides))
            else:
                code = coco.frPyObjects(outline, *sides) if isinstance(outline["counts"], list) else outline
            np.testing.assert_array_equal(example["masks"][..., slot], coco.decode(code))
            x, y, width, height = one["bbox"]
            np.testing.assert_allclose(example["boxes"][slot], [x, y, x + width, y + height], atol=0.5)
        seen = example["visibility"] > 0
        assert seen.sum() == sum(one["num_keypoints"] for one in own)
        assert (example["keypoints"][seen] % 1 == 0.5).all()
