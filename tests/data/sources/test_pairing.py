from pathlib import Path

import pytest

from cnnjax.data.sources.folder_listing import list_folder
from cnnjax.data.sources.pairing import (
    by_name,
    files_below,
    files_beside,
    named_folder,
    pair_by_name,
    split_folders,
    whole,
)


@pytest.fixture
def root(tmp_path):
    """Pictures and notes below two folders, and side by side."""
    for path in ("images/a.jpg", "images/deep/b.PNG", "notes/a.xml", "notes/deep/b.XML", "c.jpg", "c.xml", "c.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"12345")
    return tmp_path


def test_files_are_found_by_name_below_and_beside(root):
    top = list_folder(root, whole(root))
    images, notes = (named_folder(root, top, (name,)) for name in ("IMAGES", "Notes"))
    pictures = files_below(root, images, (".jpg", ".png"))
    assert pictures == {"a": [("images/a.jpg", 5)], "deep/b": [("images/deep/b.PNG", 5)]}
    annotations = files_below(root, notes, (".xml",))
    assert pair_by_name(root, pictures, annotations, "note") == [
        ("images/a.jpg", 5, "notes/a.xml"),
        ("images/deep/b.PNG", 5, "notes/deep/b.XML"),
    ]
    assert files_beside(root, whole(root), (".xml",)) == ({"c": [("c.jpg", 5)]}, {"c": [("c.xml", 5)]})
    assert named_folder(root, top, ("labels",)) is None
    (root / "Images").mkdir()
    with pytest.raises(ValueError, match="has the folders Images, images; expected one of them"):
        named_folder(root, list_folder(root, whole(root)), ("images",))


def test_folders_of_splits(root):
    for name in ("Training", "valid", "other"):
        (root / name).mkdir()
    found = split_folders(root, list_folder(root, whole(root)))
    assert {split: folder.path for split, folder in found.items()} == {"train": "Training", "val": "valid"}
    (root / "dev").mkdir()
    with pytest.raises(ValueError, match="which both stand for the split 'val'"):
        split_folders(root, list_folder(root, whole(root)))


def files(*names):
    return by_name([(name, 1) for name in names], whole(Path("/")))


@pytest.mark.parametrize(
    ("pictures", "others", "names", "words"),
    [
        ("a.jpg b.jpg", "a.xml", None, r"b\.jpg has no note; expected a file called 'b' but for the suffix"),
        (
            "a.jpg",
            "a.xml b.xml c.xml",
            None,
            r"b\.xml is the note of no picture; expected one called 'b' .*\(2 without",
        ),
        ("a.jpg a.png", "a.xml", None, r"several picture files of one name, a\.jpg, a\.png"),
        ("a.jpg", "a.xml a.txt", None, r"several note files of one name, a\.txt, a\.xml"),
        ("a.jpg", "a.xml", ["a", "a.jpg"], "list lists 'a' twice"),
        (
            "a.jpg",
            "a.xml b.xml",
            ["b"],
            r"no picture called 'b', which list lists of /b\.xml; expected one with a suffix",
        ),
        ("a.jpg", "a.xml", ["b"], "no picture called 'b', which list lists;"),
        ("a.jpg b.jpg", "a.xml", ["b"], r"b\.jpg has no note, which list lists; .*without objects where"),
    ],
)
def test_what_is_alone_or_twice_is_named(pictures, others, names, words, tmp_path):
    where = "list" if names else ""
    with pytest.raises(ValueError, match=words.replace(" of /", f" of {tmp_path}/")):
        pair_by_name(tmp_path, files(*pictures.split()), files(*others.split()), "note", names=names, where=where)


def test_a_list_takes_some_of_them_with_or_without_a_suffix(tmp_path):
    pictures, others = files("a.b.jpg", "c.jpg", "d.jpg"), files("a.b.xml", "c.xml", "e.xml")
    found = pair_by_name(tmp_path, pictures, others, "note", names=["c.jpg", "a.b"], where="list")
    assert [picture for picture, *_ in found] == ["c.jpg", "a.b.jpg"]
