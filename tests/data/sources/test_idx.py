import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from cnnjax.data import Source, open_source, splits
from tests.data.tiny_sources import PUBLISHED, images_of, pack_idx, write_idx


def test_idx_files_are_read(idx_folder):
    assert splits(f"idx:{idx_folder}") == ("train", "test")
    train, test = (open_source(f"idx:{idx_folder}", name) for name in ("train", "test"))
    assert (images_of(train), images_of(test)) == (list(range(20)), list(range(10)))
    assert train[13]["image"].shape == (3, 4, 1)
    assert train[13]["label"] == 3
    assert train[13]["label"].dtype == np.int32
    assert isinstance(train, Source)
    for file in idx_folder.glob("*.gz"):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert images_of(open_source("idx:mnist", "test", data_dir=idx_folder.parent)) == list(range(10))


def test_one_idx_split_is_divided(idx_folder):
    for file in idx_folder.glob("train*"):
        file.unlink()
    spelling = f"idx:{idx_folder}"
    assert splits(spelling) == ("train", "test", "all")
    assert images_of(open_source(spelling, "all[6:]")) == [6, 7, 8, 9]
    both = images_of(open_source(spelling, "train")) + images_of(open_source(spelling, "test"))
    assert sorted(both) == list(range(10))


def test_missing_and_empty_idx_folders(tmp_path, idx_folder):
    with pytest.raises(FileNotFoundError, match=r"no folder.*nowhere"):
        open_source(f"idx:{tmp_path / 'nowhere'}")
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_source("idx:")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"none of MNIST's files.*t10k-images-idx3-ubyte\.gz"):
        open_source(f"idx:{tmp_path / 'empty'}")
    (idx_folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="lacks train-labels-idx1-ubyte"):
        open_source(f"idx:{idx_folder}")


IMAGES = np.zeros((4, 3, 3), np.uint8)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"not gzip", "not an undamaged gzip file"),
        (gzip.compress(pack_idx(IMAGES))[:-12], "not an undamaged gzip file"),
        (
            gzip.compress(b"\0\0\x0d\x03" + pack_idx(IMAGES)[4:]),
            "begins with 00000d03; expected the IDX magic 00000803",
        ),
        (gzip.compress(b""), "expected the IDX magic"),
        (gzip.compress(pack_idx(IMAGES)[:-1]), "35 bytes after its header; expected 36"),
        (gzip.compress(pack_idx(IMAGES) + b"\0"), "37 bytes after its header; expected 36"),
        (gzip.compress(struct.pack(">4I", 0x803, 2**31, 2**31, 4)), "truncated"),
        (gzip.compress(pack_idx(IMAGES[:3])), "3 images but .*4 labels"),
    ],
    # Compressed bytes carry the time, which must not get into a test's name.
    ids=["no gzip", "cut gzip", "other type", "nothing in it", "too short", "too long", "huge sizes", "other length"],
)
def test_corrupt_idx_files(tmp_path, data, words):
    write_idx(tmp_path, "t10k", IMAGES, np.arange(4))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(data)
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz.*" + words):
        open_source(f"idx:{tmp_path}", "all")


def test_idx_labels_out_of_range(tmp_path):
    write_idx(tmp_path, "t10k", IMAGES, np.array([1, 2, 10, 3]))
    with pytest.raises(ValueError, match=r"example 2 of idx:.* has the label 10; expected 0 to 9"):
        open_source(f"idx:{tmp_path}", "all")


@pytest.mark.skipif(not (PUBLISHED / "mnist").is_dir(), reason="no mnist in $CNNJAX_TEST_DATA")
def test_mnist_t10k_as_published():
    source = open_source("idx:mnist", "all", data_dir=PUBLISHED)
    assert (len(source), source.info.shapes["image"]) == (10_000, (28, 28, 1))
    assert [int(source[i]["label"]) for i in range(10)] == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    labels = [int(source[i]["label"]) for i in range(10_000)]
    # The published counts of the ten digits in the test set.
    assert [labels.count(d) for d in range(10)] == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert len(open_source("idx:mnist", "all[8000:]", data_dir=PUBLISHED)) == 2000


def names_of(stem, prefix="", point="-", ending=".gz"):
    return [
        f"{prefix}{stem}-{kind}{point}{axes}-ubyte{ending}" for kind, axes in (("images", "idx3"), ("labels", "idx1"))
    ]


def write_as(folder, names, labels=(0, 1, 2, 3)):
    """Pictures of 2 x 3 that count up by rows."""
    folder.mkdir(exist_ok=True)
    pictures = np.arange(6 * len(labels)).reshape(-1, 2, 3)
    for name, array in zip(names, (pictures, np.array(labels)), strict=True):
        data = pack_idx(array)
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


@pytest.mark.parametrize(
    ("stem", "options", "split"),
    [
        ("train", {"point": "."}, "train"),
        ("t10k", {"point": ".", "ending": ""}, "test"),
        ("test", {"ending": ""}, "test"),
    ],
)
def test_other_spellings_of_mnists_names(tmp_path, stem, options, split):
    write_as(tmp_path, names_of(stem, **options))
    write_as(tmp_path, names_of("t10k" if split == "train" else "train"))
    assert open_source(f"idx:{tmp_path}", split)[1]["image"][..., 0].tolist() == [[6, 7, 8], [9, 10, 11]]


@pytest.mark.parametrize(
    ("name", "classes", "labels", "expected"),
    [
        ("letters", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", (1, 26), [0, 25]),
        ("balanced", "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt", (0, 46), [0, 46]),
        ("digits", "0123456789", (0, 9), [0, 9]),
    ],
)
def test_emnist_is_upright_and_its_classes_are_named(tmp_path, name, classes, labels, expected):
    for stem in ("train", "test"):
        write_as(tmp_path, names_of(stem, prefix=f"emnist-{name}-"), labels)
    source = open_source(f"idx:{tmp_path}", "test")
    assert "".join(source.info.classes) == classes
    assert source.column("label").tolist() == expected
    assert source[0]["image"][..., 0].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert source.info.remarks == ("EMNIST's pictures are turned upright",)


def test_one_of_several_sets_is_chosen(tmp_path):
    for name in ("letters", "digits"):
        write_as(tmp_path, names_of("train", prefix=f"emnist-{name}-"), (1, 2))
    with pytest.raises(ValueError, match=r"holds the files of emnist-digits, emnist-letters; .*/emnist-letters"):
        open_source(f"idx:{tmp_path}")
    assert open_source(f"idx:{tmp_path}/emnist-letters", "all").info.classes[0] == "A"
    with pytest.raises(FileNotFoundError, match="holds none"):
        open_source(f"idx:{tmp_path}/emnist-kanji")


@pytest.mark.parametrize("shape", [(4, 2, 3), (2**26, 2, 3)])
def test_a_small_file_of_many_zeros_is_refused_before_it_is_unpacked(tmp_path, shape):
    write_as(tmp_path, names_of("train"))
    with gzip.open(tmp_path / names_of("train")[0], "wb", compresslevel=1) as file:
        file.write(struct.pack(">4I", 0x803, *shape))
        for _ in range(2**4):
            file.write(bytes(2**20))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="bytes after its header; expected"):
            open_source(f"idx:{tmp_path}", "all")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
