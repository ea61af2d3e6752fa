import gzip
import struct

import numpy as np
import pytest

from cnnjax.data import Source, open_source, splits
from tests.data.tiny_sources import SHARED, images_of, pack_idx, write_idx


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


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="shared/data/mnist is not here")
def test_mnist_t10k_as_published():
    source = open_source("idx:mnist", "all", data_dir=SHARED)
    assert (len(source), source.info.shapes["image"]) == (10_000, (28, 28, 1))
    assert [int(source[i]["label"]) for i in range(10)] == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    labels = [int(source[i]["label"]) for i in range(10_000)]
    # The published counts of the ten digits in the test set.
    assert [labels.count(d) for d in range(10)] == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert len(open_source("idx:mnist", "all[8000:]", data_dir=SHARED)) == 2000
