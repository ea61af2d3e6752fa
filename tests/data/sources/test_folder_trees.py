"""Trees as people have them: which folders are splits, which are classes, and what is left out and said."""

import os

import pytest

from cnnjax.data import open_source, splits
from tests.data.tiny_sources import age, write_pictures


@pytest.fixture
def tree(tmp_path):
    """Makes a folder of these files, pictures where they are called .png, and says how it is spelled."""

    def make(*paths: str) -> str:
        for number, path in enumerate(paths):
            folder, name = os.path.split(path)
            if name.endswith(".png"):
                write_pictures(tmp_path / "pets" / folder, **{name.removesuffix(".png"): number})
            else:
                (tmp_path / "pets" / folder).mkdir(parents=True, exist_ok=True)
                (tmp_path / "pets" / path).touch()
        return f"folder:{tmp_path / 'pets'}"

    return make


def both(*folders):
    return [f"{folder}/{name}/{folder[0]}.png" for folder in folders for name in ("cat", "dog")]


@pytest.mark.parametrize(
    ("folders", "offered"),
    [
        (("Train", "Test"), ("train", "test")),
        (("training", "testing"), ("train", "test")),
        (("TRAIN", "Valid"), ("train", "val", "test")),
        (("train", "dev", "test"), ("train", "val", "test")),
        (("train", "validation"), ("train", "val", "test")),
    ],
)
def test_splits_by_their_usual_names(tree, folders, offered):
    spelling = tree(*both(*folders))
    assert splits(spelling) == offered
    for split in offered:
        source = open_source(spelling, split)
        assert (source.info.classes, len(source), source.info.remarks) == (("cat", "dog"), 2, ())
    if "val" in offered:
        for asked in ("val", "validation", "Dev[:1]"):
            assert open_source(spelling, asked).where(0) == open_source(spelling, "val").where(0)


def test_two_folders_of_one_split_are_an_error(tree):
    with pytest.raises(ValueError, match="has 'train' and 'training', which both stand for the split 'train'"):
        splits(tree(*both("train", "training", "test")))


def test_folders_that_look_like_splits_are_an_error(tree):
    spelling = tree("seg_train/seg_train/cat/1.png", "seg_test/seg_test/cat/1.png")
    with pytest.raises(ValueError, match="the folders seg_test, seg_train hold folders and look like splits; expected"):
        splits(spelling)


def test_classes_that_hold_folders_of_equal_names_are_remarked_upon(tree):
    (remark,) = open_source(tree(*both("north", "south")), "all").info.remarks
    assert remark.startswith("each of the classes north, south holds the folders cat, dog: if these are the classes, ")


@pytest.mark.parametrize(
    ("paths", "classes"),
    [
        (("test/1.png", "bus/1.png"), ("bus", "test")),
        (("c1/images/1.png", "c2/images/2.png"), ("c1", "c2")),
        (("cat/old/1.png", "cat/new/1.png", "dog/old/1.png", "dog/2.png"), ("cat", "dog")),
    ],
)
def test_classes_that_are_no_splits(tree, paths, classes):
    info = open_source(tree(*paths), "all").info
    assert (info.classes, info.remarks) == (classes, ())


def test_names_in_composed_and_decomposed_form_are_one_class(tree):
    spelling = tree("train/caf\u00e9/1.png", "train/the/1.png", "val/cafe\u0301/1.png", "val/the/1.png")
    for split in ("train", "val"):
        source = open_source(spelling, split)
        assert (source.info.classes, source.column("label").tolist()) == (("caf\u00e9", "the"), [0, 1])


def test_a_class_that_training_lacks_is_an_error(tree):
    spelling = tree("train/Cat/1.png", "train/Dog/1.png", "val/cat/1.png", "val/dog/1.png")
    with pytest.raises(ValueError, match=r"the split val has the classes cat, dog, of which train .* only of Cat, Dog"):
        open_source(spelling, "train")


def test_a_class_that_only_training_has_is_said(tree):
    spelling = tree("train/cat/1.png", "train/dog/1.png", "val/cat/2.png")
    assert open_source(spelling, "val").info.remarks == ("the split val has no examples of dog",)
    assert open_source(spelling, "train").info.remarks == ()


MIXED = (
    "cat/1.png",
    "cat/@eaDir/1.png/SYNO_THUMB.png",
    "cat/.ipynb_checkpoints/1.png",
    "dog/1.png",
    "dog/Thumbs.db",
    "dog/2.heic",
    "__MACOSX/cat/1.png",
    "annotations/1.xml",
    "outside.png",
)


def test_what_is_left_out_is_said_and_kept_in_the_index(tree, tmp_path):
    spelling = tree(*MIXED)
    age(tmp_path)
    for _ in range(2):
        source = open_source(spelling, "all")
        assert (len(source), source.info.classes) == (2, ("cat", "dog"))
        assert source.info.remarks == (
            "passed over: 4 hidden or of the system, 1 .heic, 1 .xml, 1 in no folder of a class",
            "no pictures in annotations, taken for annotations and left out",
        )
    assert "4 hidden or of the system" in repr(source)


def test_annotations_beside_splits_are_left_out(tree):
    spelling = tree(*both("train", "test"), "annotations/1.xml", "empty/.keep")
    assert splits(spelling) == ("train", "test")
    (remark,) = open_source(spelling).info.remarks
    assert remark == "no pictures in annotations, empty, taken for annotations and left out"


def test_a_class_of_pictures_that_are_not_read_is_no_annotation(tree):
    with pytest.raises(ValueError, match="no pictures in the class folders eel; add"):
        splits(tree("cat/1.png", "dog/1.png", "eel/1.heic"))


def test_one_folder_too_high(tree, tmp_path):
    with pytest.raises(ValueError, match=rf"one class only, 'all'; .*: open folder:{tmp_path}/pets/all"):
        splits(tree("all/cat/1.png", "all/dog/1.png"))


def test_a_class_whose_name_is_not_utf8_is_refused(tree, tmp_path):
    spelling = tree("cat/1.png")
    os.rename(tmp_path / "pets" / "cat", os.fsencode(tmp_path / "pets") + b"/caf\xe9")
    tree("dog/1.png")
    with pytest.raises(ValueError, match=r"the class folder b'caf\\xe9' is not UTF-8, .*; rename it"):
        splits(spelling)
    with pytest.raises(ValueError, match=r"data b'folder:/caf\\xe9' is not UTF-8"):
        splits(os.fsdecode(b"folder:/caf\xe9"))


def test_a_picture_whose_name_is_not_utf8_is_named_in_ascii(tree, tmp_path):
    spelling = tree("cat/1.png", "dog/1.png")
    os.rename(tmp_path / "pets/cat/1.png", os.fsencode(tmp_path / "pets/cat") + b"/\xe9.png")
    source = open_source(spelling, "all")
    assert source.where(0) == f"{tmp_path}/pets/cat/\\xe9.png"
    assert source[0]["image"].startswith(b"\x89PNG")


def test_links_are_followed_where_that_is_allowed(tree, tmp_path):
    spelling = tree("cat/1.png")
    write_pictures(tmp_path / "elsewhere", a=1)
    (tmp_path / "pets" / "dog").symlink_to(tmp_path / "elsewhere")
    age(tmp_path)
    for _ in range(2):
        assert len(open_source(spelling, "all", follow_links=True)) == 2
        with pytest.raises(ValueError, match=r"leads outside .*by follow_links \(--loading\.follow-links\)"):
            open_source(spelling, "all")
