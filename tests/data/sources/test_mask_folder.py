import numpy as np
import pytest
from PIL import Image

from cnnjax.data import open_source, read_example, splits
from cnnjax.data.sources import mask_folder
from cnnjax.settings import Objects
from tests.data.tiny_sources import PUBLISHED, write_labels, write_picture


@pytest.fixture
def folder(tmp_path):
    """Writes pictures of 3 rows of 4 with label maps, and says how they are spelled."""

    def write(*maps, kind="masks", palette=False, split=""):
        for number, labels in enumerate(maps):
            write_picture(tmp_path / split / f"images/{number}.png", 3, 4)
            write_labels(tmp_path / split / kind / f"{number}.png", labels, palette=palette)
        return f"masks:{tmp_path}"

    return write


def labels(*values):
    """A map of 3 rows of 4, zero but for these."""
    return np.array([*values, *[0] * (12 - len(values))]).reshape(3, 4)


@pytest.mark.parametrize("palette", [False, True])
def test_semantic_labels(folder, tmp_path, palette):
    spelling = folder(labels(1, 2), labels(), labels(3), palette=palette)
    source = open_source(spelling, "all")
    assert source.info.classes == ("background", "class 1", "class 2", "class 3")
    assert (source.info.labels, source.info.ignored, source.info.remarks) == ("semantic", None, ())
    assert source.info.shapes == {"image": (None, None, 3), "masks": (None, None)}
    example = read_example(source, 0)
    assert (example.keys(), example["masks"].dtype) == ({"image", "masks"}, np.int32)
    np.testing.assert_array_equal(example["masks"], labels(1, 2))
    assert source.where(0) == f"{tmp_path}/images/0.png ({tmp_path}/masks/0.png)"
    (tmp_path / "classes.txt").write_text("sky\nsea\nsand\nship\nsun\n")
    assert open_source(spelling, "all").info.classes == ("sky", "sea", "sand", "ship", "sun")
    (tmp_path / "classes.txt").write_text("sky\nsea\nsand\n")
    words = r"masks/2\.png has the label 3, and .*classes\.txt names 3 classes, 0 to 2; add a line"
    with pytest.raises(ValueError, match=words):
        open_source(spelling, "all")


def test_black_and_white_masks_are_of_two_classes(folder, tmp_path):
    spelling = folder(labels(255, 255), labels())
    source = open_source(spelling, "all")
    assert (source.info.classes, source.info.ignored) == (("background", "class 1"), None)
    assert source.info.remarks == ("masks hold 0 and 255 only: 255 is read as 1, 'class 1'",)
    np.testing.assert_array_equal(source[0]["masks"], labels(1, 1))
    (tmp_path / "classes.txt").write_text("sky\nsea\n")
    assert open_source(spelling, "all")[0]["masks"].max() == 1


def test_255_beside_other_labels_is_no_class(folder, tmp_path):
    spelling = folder(labels(1, 255), labels(2))
    source = open_source(spelling, "all")
    assert (source.info.classes, source.info.ignored) == (("background", "class 1", "class 2"), 255)
    assert "the label 255 is taken for pixels of no class" in source.info.remarks[0]
    np.testing.assert_array_equal(source[0]["masks"], labels(1, 255))
    (tmp_path / "classes.txt").write_text("\n".join(f"c{number}" for number in range(256)))
    assert open_source(spelling, "all").info.ignored is None


def test_instance_labels(folder):
    spelling = folder(labels(700, 700, 0, 0, 3, 700), labels(), kind="instances")
    source = open_source(spelling, "all")
    assert (source.info.classes, source.info.labels) == (("background", "object"), "instances")
    assert source.info.shapes == {
        "image": (None, None, 3),
        "boxes": (2, 4),
        "classes": (2,),
        "area": (2,),
        "present": (2,),
        "masks": (None, None),
    }
    example = read_example(source, 0)
    np.testing.assert_array_equal(example["masks"], labels(2, 2, 0, 0, 1, 2))
    assert example["boxes"].tolist() == [[0, 1, 1, 2], [0, 0, 2, 2]]
    assert [example[name].tolist() for name in ("classes", "area", "present")] == [[1, 1], [1, 3], [True, True]]
    empty = read_example(source, 1)
    assert (empty["present"].any(), empty["boxes"].shape, empty["masks"].any()) == (False, (2, 4), False)
    stack = open_source(spelling, "all", objects=Objects(slots=3, masks="stack"))
    assert (stack.info.shapes["masks"], stack.info.labels) == ((None, None, 3), "")
    np.testing.assert_array_equal(stack[0]["masks"].argmax(-1) + stack[0]["masks"].any(-1), labels(2, 2, 0, 0, 1, 2))
    assert "masks" not in open_source(spelling, "all", objects=Objects(masks="none"))[0]
    words = r"images/0\.png has 2 objects, and there are slots=1; pass slots=2"
    with pytest.raises(ValueError, match=words):
        open_source(spelling, "all", objects=Objects(slots=1))


def test_all_splits_have_the_classes_and_slots_of_the_whole(folder):
    folder(labels(1), split="train")
    spelling = folder(labels(1, 2, 3), split="test")
    assert splits(spelling) == ("train", "test")
    assert open_source(spelling, "train").info.classes[-1] == "class 3"


@pytest.fixture
def files(tmp_path):
    """Two pictures in folders of their own: one of two objects that overlap, one of none."""
    for name, masks in (("x", (labels(9, 9), labels(0, 9, 9, 9))), ("y", ())):
        write_picture(tmp_path / name / f"images/{name}.png", 3, 4)
        (tmp_path / name / "masks").mkdir()
        for number, mask in enumerate(masks):
            write_labels(tmp_path / name / f"masks/{number}.png", mask)
    return f"masks:{tmp_path}"


def test_a_file_for_each_object(files, tmp_path):
    source = open_source(files, "all")
    example = read_example(source, 0)
    np.testing.assert_array_equal(example["masks"], labels(1, 1, 2, 2))
    assert example["boxes"].tolist() == [[0, 0, 2, 1], [1, 0, 4, 1]]
    assert example["area"].tolist() == [2, 3]
    assert read_example(source, 1)["present"].tolist() == [False, False]
    assert source.where(0) == f"{tmp_path}/x/images/x.png ({tmp_path}/x/masks/0.png and 1 more)"
    stack = open_source(files, "all", objects=Objects(masks="stack"))[0]["masks"]
    np.testing.assert_array_equal(stack, np.stack([labels(1, 1), labels(0, 1, 1, 1)], -1))


def test_a_file_without_a_pixel_is_refused_or_left_out(files, tmp_path):
    write_labels(tmp_path / "x/masks/1.png", labels())
    with pytest.raises(ValueError, match=r"x/masks/1\.png has no pixel; expected those of an object: remove it, or"):
        open_source(files, "all")
    source = open_source(files, "all", objects=Objects(invalid="drop"))
    assert source.info.remarks == ("left out 1 masks without a pixel, of x/images/x.png",)
    assert source[0]["present"].tolist() == [True]


def test_masks_must_fit_their_pictures(folder, files, tmp_path):
    write_picture(tmp_path / "x/images/x.png", 4, 3)
    words = r"x/masks/0\.png has 3 rows of 4 pixels, its picture .*x\.png 4 rows of 3; expected the same"
    with pytest.raises(ValueError, match=words):
        open_source(files, "all")


def test_a_picture_that_its_orientation_turns_is_compared_as_it_is_seen(folder, tmp_path):
    spelling, picture = folder(labels(1)), Image.new("RGB", (3, 4))
    exif = picture.getexif()
    exif[0x0112] = 6
    (tmp_path / "images/0.png").unlink()
    picture.save(tmp_path / "images/0.jpg", exif=exif)
    assert read_example(open_source(spelling, "all"), 0)["image"].shape == (3, 4, 3)
    Image.new("RGB", (4, 3)).save(tmp_path / "images/0.jpg", exif=exif)
    with pytest.raises(ValueError, match="4 rows of 3; expected the same"):
        open_source(spelling, "all")


def test_a_damaged_picture_is_said_when_it_is_read_and_a_damaged_mask_at_once(folder, tmp_path):
    spelling = folder(labels(1), labels(1))
    (tmp_path / "images/0.png").write_bytes(b"not a picture")
    source = open_source(spelling, "all")
    with pytest.raises(ValueError, match=r"cannot be read from .*images/0\.png"):
        read_example(source, 0)
    (tmp_path / "masks/1.png").write_bytes(b"not a mask")
    with pytest.raises(ValueError, match=r"masks/1\.png: 10 bytes are no label map"):
        open_source(spelling, "all")


def test_a_mask_that_changed_since_is_an_error_of_its_example(folder, tmp_path):
    source = open_source(folder(labels(1), labels(2)), "all")
    write_labels(tmp_path / "masks/0.png", labels(3))
    with pytest.raises(ValueError, match=r"masks/0\.png\): its mask has the label 3; expected 0 to 2"):
        read_example(source, 0)
    write_labels(tmp_path / "masks/0.png", labels(1).T)
    with pytest.raises(ValueError, match=r"masks/0\.png has \(4, 3\) pixels now, and had \(3, 4\); open the data anew"):
        read_example(source, 0)


@pytest.mark.parametrize(
    ("kind", "classes", "objects", "words"),
    [
        ("masks", None, Objects(slots=3), "has labels of classes, not of objects, and Objects.* came; leave out"),
        ("masks", None, Objects(masks="stack"), "has labels of classes"),
        ("instances", "a\nb\nc", Objects(), r"classes\.txt has 3 lines; expected two"),
    ],
)
def test_options_that_do_not_fit(folder, tmp_path, kind, classes, objects, words):
    spelling = folder(labels(1), kind=kind)
    if classes:
        (tmp_path / "classes.txt").write_text(classes)
    with pytest.raises(ValueError, match=words):
        open_source(spelling, "all", objects=objects)


def test_masks_are_looked_through_once(folder, tmp_path, monkeypatch):
    spelling = folder(labels(1), labels(2))
    first = open_source(spelling, "all").info

    def fail(*_):
        raise AssertionError("looked again")

    monkeypatch.setattr(mask_folder, "_look", fail)
    assert open_source(spelling, "all").info == first
    write_labels(tmp_path / "masks/0.png", labels(4))
    with pytest.raises(AssertionError, match="looked again"):
        open_source(spelling, "all")


def test_what_was_kept_and_is_damaged_is_looked_for_anew(folder, cache_folder):
    spelling = folder(labels(1), labels(2))
    first = open_source(spelling, "all").info
    kept = list(cache_folder.glob("masks-*.npy"))
    assert kept
    for file in kept:
        file.write_bytes(b"damaged")
    assert open_source(spelling, "all").info == first


def test_the_fingerprint_is_of_pictures_and_masks(folder, tmp_path):
    first = open_source(folder(labels(1)), "all").info.fingerprint
    assert open_source(folder(labels(1)), "all").info.fingerprint == first
    write_labels(tmp_path / "masks/0.png", np.arange(12).reshape(3, 4))
    assert open_source(f"masks:{tmp_path}", "all").info.fingerprint != first


@pytest.mark.skipif(not (PUBLISHED / "nuclei").is_dir(), reason="no nuclei in $CNNJAX_TEST_DATA")
def test_label_maps_of_nuclei_are_their_coco_file():
    """The same objects in two formats, decoded by other code: pictures, boxes, areas and every pixel of the masks."""
    maps = open_source("masks:nuclei", "test", data_dir=PUBLISHED)
    spelling = "coco:nuclei/*/images:nuclei/instances_*.json"
    told = open_source(spelling, "test", data_dir=PUBLISHED, objects=Objects(masks="map"))
    assert (len(maps), len(told), maps.info.shapes["boxes"]) == (50, 50, told.info.shapes["boxes"])
    assert maps.info.shapes["boxes"] == (101, 4)
    for index in range(50):
        ours, theirs = read_example(maps, index), read_example(told, index)
        for name in ("image", "boxes", "area", "present", "masks"):
            np.testing.assert_array_equal(ours[name], theirs[name])
            assert ours[name].dtype == theirs[name].dtype
        np.testing.assert_array_equal(ours["classes"], theirs["present"])
