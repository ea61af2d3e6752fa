import os
import shutil

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import open_source, splits
from cnnjax.data.sources import folder
from cnnjax.data.sources.source import read_example
from tests.data.tiny_sources import age, write_pictures


def labelled(source):
    """Labels and the grey that fills each picture."""
    examples = [read_example(source, i) for i in range(len(source))]
    return [(int(e["label"]), int(e["image"].flat[0])) for e in examples]


@pytest.fixture
def classes(tmp_path):
    """Two classes in the order of their names, one of them nested, pictures of three formats and a grey one."""
    root = tmp_path / "pets"
    write_pictures(root / "dog", b=21, a=20)
    write_pictures(root / "cat" / "black", c=11)
    Image.new("L", (4, 4), 10).save(root / "cat" / "z.BMP")
    Image.new("RGB", (4, 4), (12,) * 3).save(root / "cat" / "y.GIF")
    (root / "README.txt").write_text("two kinds of pets")
    return root


@pytest.fixture
def imagenet(tmp_path):
    """Three classes in train, two of them in val; a test folder without labels."""
    root = tmp_path / "imagenet"
    for name, value in (("n03", 3), ("n01", 1), ("n02", 2)):
        write_pictures(root / "train" / name, p=value, q=value + 10)
    for name, value in (("n03", 3), ("n01", 1)):
        write_pictures(root / "val" / name, r=value + 20)
    return root


def test_folders_of_classes(classes):
    spelling = f"folder:{classes}"
    assert splits(spelling) == ("train", "test", "all")
    source = open_source(spelling, "all")
    assert (source.info.name, source.info.classes) == (spelling, ("cat", "dog"))
    assert source.info.shapes == {"image": (None, None, 3), "label": ()}
    assert labelled(source) == [(0, 11), (0, 12), (0, 10), (1, 20), (1, 21)]
    assert read_example(source, 2)["image"].shape == (4, 4, 3)
    assert source.where(0) == str(classes / "cat" / "black" / "c.png")
    assert source.column("label").tolist() == [0, 0, 0, 1, 1]
    assert labelled(open_source("folder:pets", "all[3:]", data_dir=classes.parent)) == [(1, 20), (1, 21)]


def test_the_division_is_stratified(tmp_path):
    for name, count in (("a", 20), ("b", 10)):
        write_pictures(tmp_path / "pets" / name, **{f"p{i}": i for i in range(count)})
    train, test = (open_source(f"folder:{tmp_path / 'pets'}", split) for split in ("train", "test"))
    assert np.bincount(train.column("label")).tolist() == [16, 8]
    assert np.bincount(test.column("label")).tolist() == [4, 2]


def test_folders_of_splits(imagenet):
    spelling = f"folder:{imagenet}"
    assert splits(spelling) == ("train", "val", "test")
    train, val, test = (open_source(spelling, split) for split in ("train", "val", "test"))
    assert labelled(train) == [(0, 1), (0, 11), (1, 2), (1, 12), (2, 3), (2, 13)]
    # Classes are the union, so labels mean the same in every split.
    assert labelled(val) == labelled(test) == [(0, 21), (2, 23)]
    assert train.info.classes == val.info.classes == ("n01", "n02", "n03")
    assert val.info.fingerprint == test.info.fingerprint
    write_pictures(imagenet / "test" / "n02", s=5)
    assert labelled(open_source(spelling, "test")) == [(1, 5)]


def test_a_split_without_classes_is_an_error_when_it_is_opened(imagenet):
    write_pictures(imagenet / "test", s=5)
    assert splits(f"folder:{imagenet}") == ("train", "val", "test")
    assert len(open_source(f"folder:{imagenet}", "val")) == 2
    with pytest.raises(ValueError, match=rf"{imagenet} has no pictures .* for the split test;.*another split"):
        open_source(f"folder:{imagenet}", "test")


def test_one_split_is_divided(imagenet):
    shutil.rmtree(imagenet / "val")
    assert splits(f"folder:{imagenet}") == ("train", "test", "all")
    assert len(open_source(f"folder:{imagenet}", "all")) == 6


def test_a_class_may_be_called_like_a_split(tmp_path):
    for name, value in (("train", 1), ("bus", 2)):
        write_pictures(tmp_path / "vehicles" / name, p=value)
    source = open_source(f"folder:{tmp_path / 'vehicles'}", "all")
    assert source.info.classes == ("bus", "train")
    write_pictures(tmp_path / "vehicles" / "train" / "steam", p=3)
    with pytest.raises(ValueError, match=r"has the folders bus beside train, which has folders of classes.*move"):
        open_source(f"folder:{tmp_path / 'vehicles'}")


@pytest.fixture
def indexings(monkeypatch):
    """Counts how often folders are indexed."""
    made, build = [], folder._build
    monkeypatch.setattr(folder, "_build", lambda root, links: made.append(root) or build(root, links))
    return made


def changes(root):
    """What is done to a folder; each makes its index stale."""
    yield lambda: write_pictures(root / "cat" / "black", new=13)
    yield lambda: (root / "dog" / "b.png").unlink()
    yield lambda: (root / "dog" / "a.png").rename(root / "dog" / "c.png")
    yield lambda: write_pictures(root / "eel", p=30)
    yield lambda: (root / "cat" / "black").rename(root / "cat" / "white")
    yield lambda: os.utime(root)


def test_the_index_is_kept_until_a_folder_changes(classes, indexings, cache_folder):
    spelling = f"folder:{classes}"
    age(classes)
    first = open_source(spelling, "all")
    assert [path.suffix for path in cache_folder.iterdir()] == [".npz"]
    again = open_source(spelling, "all")
    assert len(indexings) == 1
    assert labelled(again) == labelled(first)
    assert again.info == first.info
    for change in changes(classes):
        change()
        age(classes / "..")
        indexings.clear()
        open_source(spelling, "all")
        open_source(spelling, "all")
        assert len(indexings) == 1


def test_a_folder_put_in_the_place_of_another_is_seen(classes, indexings):
    age(classes)
    open_source(f"folder:{classes}")
    copy = shutil.copytree(classes, classes.parent / "copy")
    write_pictures(copy / "dog", b=22)
    age(copy)
    times = {path: path.stat().st_mtime_ns for path in [classes, *classes.rglob("*")]}
    classes.rename(classes.parent / "old")
    copy.rename(classes)
    for path, at in times.items():
        os.utime(path, ns=(at, at))
    assert labelled(open_source(f"folder:{classes}", "all"))[-1] == (1, 22)
    assert len(indexings) == 2


def test_a_folder_that_changed_just_now_is_not_trusted_to_be_seen_changing(classes, indexings, cache_folder):
    open_source(f"folder:{classes}")
    open_source(f"folder:{classes}")
    assert len(indexings) == 2
    assert not cache_folder.exists()


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-30], lambda data: b"", lambda data: data[:200] + b"x" + data[201:]]
)
def test_a_damaged_index_is_made_anew(classes, indexings, cache_folder, damage):
    age(classes)
    first = open_source(f"folder:{classes}", "all")
    (kept,) = cache_folder.iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    assert open_source(f"folder:{classes}", "all").info == first.info
    assert len(indexings) == 2


def test_an_index_of_another_version_is_made_anew(classes, indexings, monkeypatch):
    age(classes)
    open_source(f"folder:{classes}")
    monkeypatch.setattr(folder, "_VERSION", folder._VERSION + 1)
    open_source(f"folder:{classes}")
    assert len(indexings) == 2


def test_indices_of_two_folders_are_not_confused(classes, imagenet):
    age(classes)
    age(imagenet)
    for _ in range(2):
        assert len(open_source(f"folder:{classes}", "all")) == 5
        assert len(open_source(f"folder:{imagenet}", "train")) == 6


def test_a_copy_is_the_same_data_and_a_changed_one_is_not(classes, tmp_path):
    def mark(root):
        return open_source(f"folder:{root}", "all").info.fingerprint

    copy = shutil.copytree(classes, tmp_path / "copy")
    age(copy)
    assert mark(copy) == mark(classes)
    (copy / "dog" / "b.png").rename(copy / "cat" / "b.png")
    moved = mark(copy)
    with open(copy / "cat" / "b.png", "ab") as file:
        file.write(b"longer")
    age(copy)
    os.utime(copy)
    assert len({mark(classes), moved, mark(copy)}) == 3


def test_bad_folders(tmp_path):
    root = tmp_path / "root"
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        open_source(f"folder:{root}")
    write_pictures(root, p=1)
    with pytest.raises(
        ValueError, match=rf"{root} has no pictures in folders of classes; expected .*{root}/cat/1\.jpg"
    ):
        open_source(f"folder:{root}")
    (root / "cat").mkdir()
    with pytest.raises(ValueError, match="has no pictures in folders of classes"):
        open_source(f"folder:{root}")
    write_pictures(root / "cat", p=1)
    with pytest.raises(ValueError, match="has one class only, 'cat'; expected at least two"):
        open_source(f"folder:{root}")
    for name in "abcdefg":
        (root / name).mkdir()
    with pytest.raises(ValueError, match="no pictures in the class folders a, b, c, d, e and 2 more; add pictures, or"):
        open_source(f"folder:{root}")


def test_an_empty_class_of_one_split_is_named(imagenet):
    (imagenet / "val" / "n02").mkdir()
    with pytest.raises(ValueError, match="no pictures in the class folders val/n02; add"):
        open_source(f"folder:{imagenet}", "train")
