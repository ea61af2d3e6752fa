import numpy as np
import pytest

from cnnjax.data import open_source, read_example, splits
from cnnjax.settings import Objects
from tests.data.tiny_sources import PUBLISHED, write_picture, write_xml

FLAGS = "<difficult>1</difficult>"


def write_challenge(root):
    """Six pictures of 6 rows of 10; 1 to 3 to train on, 4 to validate on, 5 to test; 6 is in no list, and damaged."""
    boxes = [
        [("dog", 1, 1, 10, 6), ("cat", 2, 3, 4, 5)],
        [],
        [("dog", 2, 2, 3, 3)],
        [("cat", 1, 1, 1, 1)],
        [("eel", 3, 3, 5, 6)],
    ]
    for number, objects in enumerate(boxes):
        write_picture(root / f"JPEGImages/00{number + 1}.jpg", 6, 10)
        write_xml(root / f"Annotations/00{number + 1}.xml", (6, 10), *objects, flags=FLAGS if number == 2 else "")
    (root / "JPEGImages/006.jpg").write_bytes(b"")
    lists = root / "ImageSets/Main"
    lists.mkdir(parents=True)
    for name, text in {
        "train": "001\n002\n003\n",
        "val": "004\n",
        "trainval": "001 1\n002 -1\n003  0\n004\n",
        "test": "005.jpg\n\n",
        "dog_train": "001 1\n",
    }.items():
        (lists / f"{name}.txt").write_text(text)
    return f"voc:{root}"


def test_the_challenges_layout(tmp_path):
    spelling = write_challenge(tmp_path)
    assert splits(spelling) == ("train", "val", "test", "trainval")
    train, test = (open_source(spelling, split) for split in ("train", "test"))
    assert train.info.classes == test.info.classes == ("cat", "dog", "eel")
    assert (
        train.info.shapes
        == {
            "image": (None, None, 3),
            "boxes": (2, 4),
            "classes": (2,),
            "difficult": (2,),
            "truncated": (2,),
            "present": (2,),
        }
        == test.info.shapes
    )
    example = read_example(train, 0)
    assert {name: (values.shape, values.dtype.name) for name, values in example.items()} == {
        "image": ((6, 10, 3), "uint8"),
        "boxes": ((2, 4), "float32"),
        "classes": ((2,), "int32"),
        "difficult": ((2,), "bool"),
        "truncated": ((2,), "bool"),
        "present": ((2,), "bool"),
    }
    assert example["boxes"].tolist() == [[0, 0, 10, 6], [1, 2, 4, 5]]
    assert example["classes"].tolist() == [1, 0]
    nothing = read_example(train, 1)
    assert (nothing["present"].any(), nothing["boxes"].any()) == (False, False)
    assert read_example(train, 2)["difficult"].tolist() == [True, False]
    assert read_example(open_source(spelling, "val"), 0)["boxes"][0].tolist() == [0, 0, 1, 1]
    assert (len(open_source(spelling, "trainval")), len(test)) == (4, 1)
    assert test.where(0) == f"{tmp_path}/JPEGImages/005.jpg ({tmp_path}/Annotations/005.xml)"
    assert test.info.remarks == ("the split test has no examples of cat, dog",)


def test_columns_are_those_of_all_pictures(tmp_path):
    train = open_source(write_challenge(tmp_path), "train[1:]")
    assert train.column("classes").tolist() == [[0, 0], [1, 0]]
    assert train.column("present").tolist() == [[False, False], [True, False]]
    assert train.column("boxes").shape == (2, 2, 4)
    assert (train.column("image"), train.column("label"), train.column("masks")) == (None, None, None)


@pytest.mark.parametrize(
    ("pictures", "annotations"), [("images", "annotations"), ("", ""), ("Images", "Annotations"), ("valid", "valid")]
)
def test_other_layouts(tmp_path, pictures, annotations):
    for name in ("a", "b", "c", "d", "e"):
        write_picture(tmp_path / pictures / f"{name}.PNG", 6, 10)
        write_xml(tmp_path / annotations / f"{name}.xml", (6, 10), ("dog", 1, 1, 2, 3))
    (tmp_path / "README.txt").write_text("not an annotation")
    whole, train, test = (open_source(f"voc:{tmp_path}", split) for split in ("all", "train", "test"))
    assert (len(whole), len(train), len(test), whole.info.classes) == (5, 4, 1, ("dog",))


def test_splits_as_folders_with_folders(tmp_path):
    for split, count in (("train", 2), ("Test", 1)):
        for number in range(count):
            write_picture(tmp_path / split / f"images/deep/{number}.png", 6, 10)
            write_xml(
                tmp_path / split / f"annotations/deep/{number}.xml", (6, 10), *[("dog", 1, 1, 2, 3)] * (count + number)
            )
    assert splits(f"voc:{tmp_path}") == ("train", "test")
    train, test = (open_source(f"voc:{tmp_path}", split) for split in ("train", "test"))
    assert (len(train), len(test), train.info.shapes["boxes"]) == (2, 1, (3, 4))


def simple(root, *objects, sides=(6, 10)):
    """One picture of 6 rows of 10."""
    write_picture(root / "images/a.png", 6, 10)
    write_xml(root / "annotations/a.xml", sides, *objects)
    return f"voc:{root}"


def test_classes_may_be_given(tmp_path):
    spelling = simple(tmp_path, ("dog", 1, 1, 2, 2))
    (tmp_path / "classes.txt").write_text("eel\ndog\n\n")
    source = open_source(spelling, "all")
    assert (source.info.classes, source[0]["classes"][0]) == (("eel", "dog"), 1)
    (tmp_path / "classes.txt").write_text("eel\ncat\n")
    words = r"annotations/a\.xml, object 1 \(dog\): .*classes\.txt has no class 'dog', only eel, cat; add it there"
    with pytest.raises(ValueError, match=words):
        open_source(spelling, "all")
    for text, words in (
        ("eel\neel\n", "line 2: the class 'eel' is already on line 1"),
        ("eel\n\ncat", "line 2 is empty"),
    ):
        (tmp_path / "classes.txt").write_text(text)
        with pytest.raises(ValueError, match=words):
            open_source(spelling, "all")


def test_boxes_are_refused_left_out_or_cut_by_choice(tmp_path):
    spelling = simple(tmp_path, ("dog", 1, 1, 2, 2), ("cat", 5, 5, 4, 6), ("dog", 0, 1, 14, 3))
    words = r"a\.xml, object 2 \(cat\): the box xmin 5, ymin 5, xmax 4, ymax 6 is empty \(1 more.*correct it"
    with pytest.raises(ValueError, match=words):
        open_source(spelling, "all")
    dropped = open_source(spelling, "all", objects=Objects(invalid="drop"))
    assert (dropped[0]["boxes"].tolist(), dropped.info.classes) == ([[0, 0, 2, 2]], ("dog",))
    assert "left out 2 objects: " in dropped.info.remarks[0]
    assert "object 3 (dog): the box xmin 0, ymin 1, xmax 14, ymax 3 reaches out of its picture" in repr(dropped)
    cut = open_source(spelling, "all", objects=Objects(invalid="cut"))
    assert cut[0]["boxes"].tolist() == [[0, 0, 2, 2], [0, 0, 10, 3]]
    assert [remark[:20] for remark in cut.info.remarks] == ["left out 1 object: /", "cut at the border 1 "]
    with pytest.raises(ValueError, match=r"xmin nan, ymin 1, xmax 2, ymax 2 is not finite"):
        open_source(simple(tmp_path, ("dog", "nan", 1, 2, 2)), "all")


def test_slots_can_be_given_and_must_do(tmp_path):
    spelling = simple(tmp_path, ("dog", 1, 1, 2, 2), ("dog", 1, 1, 2, 3))
    assert open_source(spelling, "all", objects=Objects(slots=5))[0]["boxes"].shape == (5, 4)
    words = r"images/a\.png has 2 objects, and there are slots=1; pass slots=2 \(--objects.slots 2\)"
    with pytest.raises(ValueError, match=words):
        open_source(spelling, "all", objects=Objects(slots=1))
    with pytest.raises(ValueError, match="has boxes and no masks, and masks='map' came"):
        open_source(spelling, "all", objects=Objects(masks="map"))


def test_a_picture_of_another_size_than_its_annotation(tmp_path):
    source = open_source(simple(tmp_path, sides=(10, 6)), "all")
    words = (
        r"images/a\.png \(.*a\.xml\): the picture has 6 rows of 10 pixels, its annotation .* says 10 rows of 6; correct"
    )
    with pytest.raises(ValueError, match=words):
        read_example(source, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: write_picture(root / "images/b.png", 6, 10), r"images/b\.png has no annotation; expected a file"),
        (
            lambda root: write_xml(root / "annotations/b.xml", (6, 10)),
            r"annotations/b\.xml is the annotation of no picture; .*\(1 without a picture in all",
        ),
        (
            lambda root: write_picture(root / "images/a.jpg", 6, 10),
            r"several picture files of one name, images/a\.jpg",
        ),
        (lambda root: (root / "annotations/a.xml").write_text("<a"), r"annotations/a\.xml is no XML"),
        (lambda root: write_xml(root / "annotations/a.xml", None), r"annotations/a\.xml tells no size"),
        (lambda root: (root / "Images").mkdir(), "has the folders Images, images; expected one of them"),
    ],
)
def test_what_does_not_fit_together_is_named(tmp_path, change, words):
    spelling = simple(tmp_path, ("dog", 1, 1, 2, 2))
    change(tmp_path)
    with pytest.raises(ValueError, match=words):
        open_source(spelling, "all")


def test_lists_must_name_pictures_that_are_there(tmp_path):
    spelling = write_challenge(tmp_path)
    train = tmp_path / "ImageSets/Main/train.txt"
    for text, words in (
        ("001\n007\n", r"has no picture called '007', which .*train\.txt lists"),
        ("006\n", r"JPEGImages/006\.jpg has no annotation, which .*train\.txt lists"),
        ("001\n001\n", r"train\.txt lists '001' twice"),
    ):
        train.write_text(text)
        with pytest.raises(ValueError, match=words):
            open_source(spelling, "train")
    train.write_text("")
    with pytest.raises(ValueError, match="has no pictures for the split train"):
        open_source(spelling, "train")


def test_folders_of_something_else_are_told_what_is_expected(tmp_path):
    write_challenge(tmp_path / "VOC2007")
    with pytest.raises(
        ValueError, match=r"no pictures with XML files \(did you mean 'voc:.*VOC2007'\?\); expected JPEG"
    ):
        open_source(f"voc:{tmp_path}")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        open_source(f"voc:{tmp_path / 'absent'}")


def test_links_out_of_the_folder_are_refused(tmp_path):
    spelling = simple(tmp_path / "data", ("dog", 1, 1, 2, 2))
    write_picture(tmp_path / "b.png", 6, 10)
    (tmp_path / "data/images/b.png").symlink_to(tmp_path / "b.png")
    write_xml(tmp_path / "data/annotations/b.xml", (6, 10))
    with pytest.raises(ValueError, match=r"leads outside .*follow_links"):
        open_source(spelling, "all")
    assert len(open_source(spelling, "all", follow_links=True)) == 2


def test_the_fingerprint_is_of_pictures_and_objects(tmp_path):
    def mark(*objects):
        return open_source(simple(tmp_path, *objects), "all").info.fingerprint

    first = mark(("dog", 1, 1, 2, 2))
    assert mark(("dog", 1, 1, 2, 2)) == first
    assert len({first, mark(("dog", 1, 1, 2, 3)), mark(("cat", 1, 1, 2, 2)), mark()}) == 4
    write_picture(tmp_path / "more/images/a.png", 6, 10)
    write_xml(tmp_path / "more/annotations/a.xml", (6, 10), ("dog", 1, 1, 2, 2))
    assert open_source(f"voc:{tmp_path / 'more'}", "all").info.fingerprint == first


def test_an_annotation_that_changes_is_read_anew(tmp_path):
    spelling = simple(tmp_path, ("dog", 1, 1, 2, 2))
    open_source(spelling, "all")
    simple(tmp_path, ("dog", 1, 1, 3, 3))
    assert open_source(spelling, "all")[0]["boxes"].tolist() == [[0, 0, 3, 3]]


@pytest.mark.skipif(not (PUBLISHED / "raccoon").is_dir(), reason="no raccoon in $CNNJAX_TEST_DATA")
def test_photographs_of_raccoons():
    source = open_source("voc:raccoon", "all", data_dir=PUBLISHED)
    assert (len(source), source.info.classes, source.info.remarks) == (200, ("raccoon",), ())
    assert int(source.column("present").sum()) == 217
    one = next(index for index in range(200) if "raccoon-1.jpg" in source.where(index))
    example = read_example(source, one)
    # Its XML says 81, 88, 522, 408.
    assert example["boxes"].tolist() == [[80, 87, 522, 408], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert example["image"].shape == (417, 650, 3)
    assert len({read_example(source, index)["image"].shape for index in range(0, 200, 10)}) > 10
    assert np.asarray(source.column("boxes")).shape == (200, 3, 4)
