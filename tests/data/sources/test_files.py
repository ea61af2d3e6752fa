import pickle

import numpy as np
import pytest
from PIL import Image

from cnnjax.data.pictures.decode import SUFFIXES
from cnnjax.data.sources.files import FileSource, Paths, describe
from cnnjax.data.sources.source import read_example
from tests.data.tiny_sources import write_pictures

NAMES = ["cat/1.png", "", "é/2.png", "bytes\udcff.png", "dog/3.png"]


def test_packed_paths_come_back():
    paths = Paths.pack(NAMES)
    assert [paths[i] for i in range(len(paths))] == NAMES
    assert paths.text.nbytes == len("cat/1.png" + "é/2.png" + "dog/3.png") + 1 + len("bytes.png") + 1
    for start in range(6):
        for stop in range(start, 6):
            part = paths.part(start, stop)
            assert [part[i] for i in range(len(part))] == NAMES[start:stop]
    assert len(Paths.pack([])) == 0


@pytest.fixture
def pictures(tmp_path):
    write_pictures(tmp_path / "cat", one=11, two=12)
    paths, elements = Paths.pack(["cat/two.png", "cat/one.png"]), {"label": np.array([1, 0], np.int32)}
    info = describe("mine", "train", ("a", "b"), paths, np.array([5, 6]), elements)
    return FileSource(tmp_path, paths, elements, info, "table.csv", np.array([2, 9]))


def test_files_are_read_when_they_are_asked_for(pictures, tmp_path):
    assert pictures[0]["image"] == (tmp_path / "cat" / "two.png").read_bytes()
    assert pictures.info.shapes == {"image": (None, None, 3), "label": ()}
    assert (pictures[-1]["label"], pictures[-1]["label"].dtype) == (0, np.int32)
    assert (pictures.column("label").tolist(), pictures.column("tags")) == ([1, 0], None)
    with pytest.raises(IndexError, match="index 2 of mine, which has 2 examples"):
        pictures[2]
    example = read_example(pickle.loads(pickle.dumps(pictures)), 1)
    np.testing.assert_array_equal(example["image"], np.full((2, 3, 3), 11))


def test_a_file_that_went_away_is_named_with_its_row(pictures, tmp_path):
    (tmp_path / "cat" / "one.png").unlink()
    with pytest.raises(ValueError, match=r"example 1 of mine .* from .*cat/one\.png \(table\.csv, row 9\): .*No such"):
        read_example(pictures, 1)


def test_fingerprints_are_of_paths_sizes_elements_and_classes():
    def mark(names=("a", "b"), sizes=(1, 2), classes=("x", "y"), **elements):
        elements = elements or {"label": np.array([0, 1])}
        return describe("name", "all", classes, Paths.pack(names), np.array(sizes), elements).fingerprint

    others = [mark(("a", "c")), mark(("ab", "")), mark(sizes=(1, 3)), mark(classes=("x", "z"))]
    others += [mark(label=np.array([1, 0])), mark(tags=np.array([0, 1]))]
    assert mark() == mark()
    assert len({mark(), *others}) == 7


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_that_counts_is_decoded(tmp_path, suffix):
    picture = Image.new("RGB", (6, 4), (250, 250, 250))
    form = {".avifs": "AVIF"}.get(suffix) or Image.registered_extensions()[suffix]
    picture.save(tmp_path / f"p{suffix}", form)
    paths = Paths.pack([f"p{suffix}"])
    source = FileSource(tmp_path, paths, {}, describe("mine", "all", (), paths, np.array([1]), {}))
    np.testing.assert_allclose(read_example(source, 0)["image"], np.full((4, 6, 3), 250), atol=3)


def test_a_file_that_is_too_large_for_a_picture_is_not_read(tmp_path):
    with open(tmp_path / "p.png", "wb") as file:
        file.truncate(2**40)
    paths = Paths.pack(["p.png"])
    source = FileSource(tmp_path, paths, {}, describe("mine", "all", (), paths, np.array([1]), {}))
    with pytest.raises(
        ValueError, match=r"p\.png: it has 1,099,511,627,776 bytes; expected a picture of at most 536,870,912"
    ):
        read_example(source, 0)
