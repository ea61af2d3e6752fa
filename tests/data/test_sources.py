import gzip
import json
import shutil
import struct
import sys
from dataclasses import replace

import numpy as np
import pytest
from tiny_sources import SHARED, pack_idx, write_idx

from cnnjax.data import ArraySource, Info, Source, open_source, splits
from cnnjax.data.sources import permutation


def images_of(source):
    return [int(source[i]["image"].flat[0]) for i in range(len(source))]


def test_digits_are_scikit_learns_at_32():
    from sklearn.datasets import load_digits

    digits, source = load_digits(), open_source("digits", "all")
    assert (len(source), source.info.classes) == (1797, tuple("0123456789"))
    assert source.info.shapes == {"image": (32, 32, 1), "label": ()}
    example = source[5]
    assert (example["image"].dtype, example["label"].dtype) == (np.uint8, np.int32)
    assert [int(source[i]["label"]) for i in range(1797)] == digits.target.tolist()
    # Averaged over their 4x4 patches, the upsampled pictures are close to the small ones.
    small = np.stack([source[i]["image"][..., 0].reshape(8, 4, 8, 4).mean((1, 3)) for i in range(100)])
    assert np.corrcoef(small.ravel(), digits.images[:100].ravel())[0, 1] > 0.97
    assert max(source[i]["image"].max() for i in range(20)) == 255


def test_the_fixed_split_covers_is_stratified_and_sorted():
    whole = open_source("digits", "all")
    parts = {name: open_source("digits", name) for name in ("train", "test")}
    taken = {name: part.indices.tolist() for name, part in parts.items()}
    assert sorted(taken["train"] + taken["test"]) == list(range(len(whole)))
    for indices in taken.values():
        assert indices == sorted(indices)
    labels = np.array([whole[i]["label"] for i in range(len(whole))])
    totals, tested = np.bincount(labels), np.bincount(labels[taken["test"]])
    np.testing.assert_array_less(np.abs(tested - totals / 5), 0.51)
    assert taken["test"] != [i for i in range(len(whole)) if i % 5 == 0]
    assert taken["test"] == open_source("digits", "test").indices.tolist()


def test_the_fixed_split_does_not_move():
    """Worked out once without cnnjax; a change would silently make old results incomparable."""
    indices = open_source("digits", "test").indices
    assert indices[:8].tolist() == [3, 6, 11, 14, 17, 20, 36, 39]
    assert (len(indices), indices.sum()) == (359, 303_911)


def test_permutation_sorts_raw_words():
    words = np.random.PCG64(np.random.SeedSequence(3, spawn_key=(2,))).random_raw(50).tolist()
    assert permutation(50, seed=3, stream=2).tolist() == sorted(range(50), key=words.__getitem__)


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


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", range(20)),
        ("train[:]", range(20)),
        ("train[:90%]", range(18)),
        ("train[90%:]", range(18, 20)),
        ("train[25%:8]", range(5, 8)),
        ("train[-3:]", range(17, 20)),
        ("train[:-10%]", range(18)),
        ("test[2:4]", range(2, 4)),
    ],
)
def test_slices(idx_folder, split, expected):
    source = open_source(f"idx:{idx_folder}", split)
    assert images_of(source) == list(expected)
    assert source.info.split == split


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("train[", "not a split expression"),
        ("train[5]", "not a split expression"),
        ("train+test", "not a split expression"),
        ("train[1.5%:]", "not a split expression"),
        ("", "not a split expression"),
        ("train[:21]", "out of range or empty.*20 examples"),
        ("train[-21:]", "out of range or empty"),
        ("train[:101%]", "not a split expression"),
        ("train[4:4]", "out of range or empty"),
        ("all", "no split 'all'; it offers train, test"),
        ("validation[:5]", "no split 'validation'"),
    ],
)
def test_bad_splits(idx_folder, split, words):
    with pytest.raises(ValueError, match=words):
        open_source(f"idx:{idx_folder}", split)


@pytest.mark.parametrize(
    ("spelling", "words"),
    [
        ("digit", "did you mean 'digits'"),
        ("tdfs:cifar10", "did you mean 'tfds:cifar10'"),
        ("voc", r"unknown data 'voc'; expected digits, tfds:NAME\[:VERSION\] or idx:FOLDER"),
        ("digits:8", "expected digits"),
    ],
)
def test_unknown_spellings(spelling, words):
    with pytest.raises(ValueError, match=words):
        open_source(spelling)
    with pytest.raises(ValueError, match=words):
        splits(spelling)


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


def test_arrays_from_a_notebook():
    source = ArraySource({"image": np.zeros((3, 8, 8, 3), np.uint8), "label": np.array([0, 1, 1])})
    assert len(source) == 3
    assert source.info.shapes == {"image": (8, 8, 3), "label": ()}
    assert source[1]["label"].dtype == np.int32
    with pytest.raises(ValueError, match=r"lengths \{'a': 2, 'b': 3\}"):
        ArraySource({"a": np.zeros(2), "b": np.zeros(3)})
    for arrays in ({}, {"a": np.array(1)}):
        with pytest.raises(ValueError, match="at least one array"):
            ArraySource(arrays)
    with pytest.raises(ValueError, match=r"example 1 of mine .*label -1"):
        ArraySource({"label": np.array([0, -1])}, Info("mine", "all", {}, ("a", "b")))
    with pytest.raises(IndexError):
        source[3]


def test_tfds_examples_are_decoded_and_renamed(tfds_root):
    source = open_source("tfds:tiny", "train", data_dir=tfds_root)
    assert "tensorflow" not in sys.modules
    assert splits("tfds:tiny", data_dir=tfds_root) == ("train", "test")
    assert source.info.classes == ("cat", "dog", "eel")
    assert source.info.shapes == {"image": (None, None, 3), "label": (), "number": (), "tfds_id": (), "box": (4,)}
    examples = [source[i] for i in range(len(source))]
    assert sorted(int(e["number"]) for e in examples) == list(range(20))
    for example in examples:
        number = int(example["number"])
        np.testing.assert_array_equal(example["image"], np.full((4 + 2 * (number % 2), 5, 3), number))
        assert example["image"].dtype == np.uint8
        assert (example["label"], example["label"].dtype) == (number % 3, np.int32)
        assert example["tfds_id"] == 100 + number
        assert example["box"].tolist() == [0, 0, 0.5, 1]
        assert set(example) == set(source.info.shapes)
    with pytest.raises(IndexError):
        source[20]


def test_tfds_versions_and_folders(tfds_root):
    for root in (tfds_root.parent, tfds_root / "tiny"):
        assert len(open_source("tfds:tiny", "test", data_dir=root)) == 5
    assert "10.0.0" in str(open_source("tfds:tiny", data_dir=tfds_root).source.records.data_source._paths[0])
    older = open_source("tfds:tiny:9.0.0", data_dir=tfds_root)
    assert "9.0.0" in str(older.source.records.data_source._paths[0])
    assert older.info.name == "tfds:tiny:9.0.0"


def test_one_tfds_split_is_divided(tfds_root):
    assert splits("tfds:single", data_dir=tfds_root) == ("train", "test", "all")
    whole, train, test = (open_source("tfds:single", name, data_dir=tfds_root) for name in ("all", "train", "test"))
    assert (len(whole), len(train), len(test)) == (50, 41, 9)
    labels = [int(test[i]["label"]) for i in range(9)]
    # Of 17, 17 and 16 examples of the three kinds, a fifth each.
    assert [labels.count(kind) for kind in range(3)] == [3, 3, 3]
    numbers = [int(part[i]["number"]) for part in (train, test) for i in range(len(part))]
    assert sorted(numbers) == list(range(50))


def test_unprepared_tfds_sets(tfds_root, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"did you mean 'tfds:tiny'.*`tfds build tiny1 --file_format=array_record`"
    ):
        open_source("tfds:tiny1", data_dir=tfds_root)
    with pytest.raises(FileNotFoundError, match=r"prepared there: single:9\.0\.0, tiny:10\.0\.0, tiny:9\.0\.0"):
        open_source("tfds:imagenet2012", data_dir=tfds_root)
    with pytest.raises(FileNotFoundError, match="prepared there"):
        open_source("tfds:tiny:8.0.0", data_dir=tfds_root)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_source("tfds:tiny", data_dir=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no split 'all'; it offers train, test"):
        open_source("tfds:tiny", "all", data_dir=tfds_root)


@pytest.fixture
def tiny_copy(tfds_root, tmp_path):
    return shutil.copytree(tfds_root / "tiny" / "9.0.0", tmp_path / "tiny" / "9.0.0")


def test_tfrecord_sets_are_refused(tiny_copy):
    info = tiny_copy / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(ValueError, match=r"tfrecord format.*`tfds build tiny --file_format=array_record`"):
        open_source("tfds:tiny", data_dir=tiny_copy)


def test_a_broken_info_file_is_named(tiny_copy):
    (tiny_copy / "dataset_info.json").write_text("{broken")
    with pytest.raises(ValueError, match=r"tiny.*no intact TFDS set.*tfds build tiny"):
        open_source("tfds:tiny", data_dir=tiny_copy)


@pytest.mark.parametrize("keep", [0, 1000, 70_000, -1])
def test_a_truncated_shard_is_found_at_open(tiny_copy, keep):
    (shard,) = tiny_copy.glob("tiny-train*")
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(ValueError, match=rf"{shard.name} is truncated or damaged.*says 20"):
        open_source("tfds:tiny", data_dir=tiny_copy)
    assert len(open_source("tfds:tiny", "test", data_dir=tiny_copy)) == 5


def test_a_shard_of_another_length_or_none_is_found_at_open(tiny_copy):
    (train,), (test,) = tiny_copy.glob("tiny-train*"), tiny_copy.glob("tiny-test*")
    shutil.copy(test, train)
    with pytest.raises(ValueError, match=r"holds 5 readable records, dataset_info\.json says 20"):
        open_source("tfds:tiny", data_dir=tiny_copy)
    train.unlink()
    with pytest.raises(FileNotFoundError, match=f"{train.name} is missing"):
        open_source("tfds:tiny", data_dir=tiny_copy)


def test_a_damaged_record_names_its_example(tfds_root):
    source = open_source("tfds:tiny", data_dir=tfds_root).source

    class Damaged:
        def __len__(self):
            return 20

        def __getitem__(self, index):
            return source.records[index] | {"picture": b"\x89PNG damaged"}

    with pytest.raises(ValueError, match=r"example 7 of tfds:tiny \(train\) cannot be read.*do not decode"):
        replace(source, records=Damaged())[7]


@pytest.mark.skipif(not (SHARED / "tfds" / "cifar10").is_dir(), reason="shared/data/tfds/cifar10 is not here")
def test_cifar10_as_it_lies_on_disk():
    for split, count in (("train", 50_000), ("test", 10_000)):
        source = open_source("tfds:cifar10", split, data_dir=SHARED)
        assert len(source) == count
        assert source.info.classes[3] == "cat"
        for index in (0, count // 2, count - 1):
            record = source.source.records[index]
            assert source[index]["image"].shape == (32, 32, 3)
            # The set's own text names the class: "train_cat_2970".
            assert record["id"].decode().split("_")[1] == source.info.classes[source[index]["label"]]


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="shared/data/mnist is not here")
def test_mnist_t10k_as_published():
    source = open_source("idx:mnist", "all", data_dir=SHARED)
    assert (len(source), source.info.shapes["image"]) == (10_000, (28, 28, 1))
    assert [int(source[i]["label"]) for i in range(10)] == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    labels = [int(source[i]["label"]) for i in range(10_000)]
    # The published counts of the ten digits in the test set.
    assert [labels.count(d) for d in range(10)] == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert len(open_source("idx:mnist", "all[8000:]", data_dir=SHARED)) == 2000
