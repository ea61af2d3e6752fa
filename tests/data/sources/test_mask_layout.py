import pytest

from cnnjax.data.sources.mask_layout import find_layout
from tests.data.tiny_sources import write_labels, write_picture

ZEROS = [[0, 0], [0, 1]]


def write(root, *paths):
    for path in paths:
        if "images" in path:
            write_picture(root / path, 2, 2)
        else:
            write_labels(root / path, ZEROS)


@pytest.mark.parametrize(
    ("folder", "kind"), [("masks", "semantic"), ("Labels", "semantic"), ("instances", "instances")]
)
def test_two_folders(tmp_path, folder, kind):
    write(tmp_path, "images/a.jpg", "images/deep/b.png", f"{folder}/a.png", f"{folder}/deep/b.tif")
    found = find_layout(tmp_path)
    assert (found.kind, list(found.splits)) == (kind, ["all"])
    assert [(one.picture, one.masks) for one in found.splits["all"]] == [
        ("images/a.jpg", (f"{folder}/a.png",)),
        ("images/deep/b.png", (f"{folder}/deep/b.tif",)),
    ]
    assert found.splits["all"][0].size == (tmp_path / "images/a.jpg").stat().st_size


@pytest.mark.parametrize(
    "paths", ["{split}/images/a.png {split}/masks/a.png", "images/{split}/a.png masks/{split}/a.png"]
)
def test_splits_above_or_below(tmp_path, paths):
    for split in ("Training", "test"):
        write(tmp_path, *paths.format(split=split).split())
    found = find_layout(tmp_path)
    assert (found.kind, {split: len(pairs) for split, pairs in found.splits.items()}) == (
        "semantic",
        {"train": 1, "test": 1},
    )


def test_a_folder_for_each_picture(tmp_path):
    write(tmp_path, "x/images/x.png", "x/masks/1.png", "x/masks/2.png", "y/images/y.png")
    (tmp_path / "y/masks").mkdir()
    found = find_layout(tmp_path)
    assert found.kind == "files"
    assert [(one.picture, one.masks) for one in found.splits["all"]] == [
        ("x/images/x.png", ("x/masks/1.png", "x/masks/2.png")),
        ("y/images/y.png", ()),
    ]


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ("", r"has no pictures with masks; expected the folders images and masks"),
        ("images/a.png", "has no pictures with masks"),
        ("images/a.png masks/b.png", r"images/a\.png has no mask; expected a file called 'a'"),
        ("images/a.png masks/a.png masks/b.png", r"masks/b\.png is the mask of no picture"),
        ("images/a.png masks/a.png instances/a.png", "has the folders instances, masks; expected one of them"),
        ("images/a.png masks/a.txt", "masks has no label maps; expected files with a suffix of .png"),
        ("train/images/a.png train/masks/a.png test/images/a.png test/instances/a.png", "splits are of several kinds"),
        ("images/train/a.png images/test/a.png masks/train/a.png", "images has the splits train, test and masks train"),
        ("x/images/a.png x/masks/1.png y/other.png", "y has no folders images and masks"),
        ("x/images/a.png x/images/b.png x/masks/1.png", r"x/images has the pictures x/images/a\.png, .*; expected one"),
        ("x/images/deep/1.txt x/masks/1.png", "x/images has no picture; expected one"),
    ],
)
def test_other_folders_are_told_what_is_expected(tmp_path, paths, words):
    for path in paths.split():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"1")
    with pytest.raises(ValueError, match=words):
        find_layout(tmp_path)
