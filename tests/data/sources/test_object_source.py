import numpy as np
import pytest
from PIL import Image

from cnnjax.data import Info, ReadPictures, read_example
from cnnjax.data.sources.files import FileSource, Paths
from cnnjax.data.sources.object_source import ObjectSource, describe_objects, open_annotated
from cnnjax.data.sources.object_table import Table
from tests.data.tiny_sources import encode, write_picture


@pytest.fixture
def source(tmp_path):
    """Two pictures, the second with an object that has a key point."""
    write_picture(tmp_path / "a.png", 4, 6)
    write_picture(tmp_path / "b.png", 2, 2)
    columns = {
        "boxes": np.array([[0, 0, 1, 2]], np.float32),
        "classes": np.array([1], np.int32),
        "keypoints": np.full((1, 3, 2), 0.5, np.float32),
        "visibility": np.full((1, 3), 2, np.int32),
    }
    info = Info("mine", "all", {"image": (None, None, 3)}, ("a", "b"))
    files = FileSource(tmp_path, Paths.pack(["a.png", "b.png"]), {"picture": np.array([5, 6], np.int32)}, info)
    table = Table.of(np.array([1]), 2, columns)
    sides = np.array([[4, 6], [2, 2]])
    return ObjectSource(
        files, table, 2, sides, ["note 1", "note 2"], info, texts={"captions": np.array([(), ()], object)}
    )


def test_an_example_is_filled_up(source, tmp_path):
    assert source.info.shapes == {
        "image": (None, None, 3),
        "boxes": (2, 4),
        "classes": (2,),
        "keypoints": (2, 3, 2),
        "visibility": (2, 3),
        "present": (2,),
    }
    example = read_example(source, 1)
    assert (example["picture"], example["present"].tolist(), example["classes"].tolist()) == (6, [True, False], [1, 0])
    assert example["keypoints"].shape == (2, 3, 2)
    assert source.where(1) == f"{tmp_path}/b.png (note 2)"
    assert source.where(-1) == source.where(1)
    assert source.column("present").tolist() == [[False, False], [True, False]]
    assert source.column("picture").tolist() == [5, 6]
    assert source.column("captions").shape[0] == 2
    assert source.column("other") is None
    assert "boxes 2x4" in repr(source)
    with pytest.raises(IndexError, match="index 2 of mine"):
        source[2]


def test_objects_move_with_their_picture(source):
    example = read_example(source, 1, read=ReadPictures(8, "letterbox"))
    assert example["boxes"].tolist() == [[0, 0, 4, 8], [0, 0, 0, 0]]
    assert example["keypoints"][0].tolist() == [[2, 2]] * 3
    assert example["present"].tolist() == [True, False]


def test_a_picture_must_have_the_size_that_its_annotation_says():
    plain = encode(Image.new("RGB", (6, 4)), "JPEG")
    assert open_annotated(plain, (4, 6), "note").whole()[0].shape == (4, 6, 3)
    with pytest.raises(
        ValueError, match=r"the picture has 4 rows of 6 pixels, its annotation \(note\) says 6 rows of 4; corr"
    ):
        open_annotated(plain, (6, 4), "note")
    picture = Image.new("RGB", (6, 4))
    exif = picture.getexif()
    exif[0x0112] = 6
    turned = encode(picture, "JPEG", exif=exif)
    assert open_annotated(turned, (6, 4), "note").sides == (6, 4)
    with pytest.raises(ValueError, match="its EXIF orientation turns it: turn its pixels and remove the tag"):
        open_annotated(turned, (4, 6), "note")


def test_the_fingerprint_is_of_all_parts(source):
    def mark(paths=("a", "b"), sizes=(1, 2), columns=source.table.columns, classes=("a",), parts=("x",)):
        table = Table(source.table.first, columns)
        info = Info("mine", "all", {}, classes)
        return describe_objects(info, Paths.pack(paths), np.array(sizes), table, *parts).fingerprint

    others = [
        mark(paths=("a", "c")),
        mark(sizes=(1, 3)),
        mark(columns={**source.table.columns, "classes": np.array([0], np.int32)}),
        mark(classes=("b",)),
        mark(parts=("y",)),
    ]
    assert mark() == mark()
    assert len({mark(), *others}) == 6
