import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from cnnjax.data import open_source, splits
from cnnjax.data.sources.source import read_example
from tests.data.tiny_sources import PUBLISHED


@pytest.mark.parametrize("name", ["tiny", "columns"])
def test_tfds_examples_are_renamed_and_their_pictures_decode(tfds_root, name):
    source = open_source(f"tfds:{name}", "train", data_dir=tfds_root)
    assert "tensorflow" not in sys.modules
    assert splits(f"tfds:{name}", data_dir=tfds_root) == ("train", "test")
    assert source.info.classes == ("cat", "dog", "eel")
    assert source.info.shapes == {"image": (None, None, 3), "label": (), "number": (), "tfds_id": (), "box": (4,)}
    assert source[0]["image"].startswith(b"\x89PNG")
    examples = [read_example(source, i) for i in range(len(source))]
    assert sorted(int(e["number"]) for e in examples) == list(range(20))
    assert source.column("label").tolist() == [int(e["number"]) % 3 for e in examples]
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
    with pytest.raises(
        FileNotFoundError, match=r"prepared there: columns:9\.0\.0, single:9\.0\.0, tiny:10\.0\.0, tiny:9\.0\.0"
    ):
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
        read_example(replace(source, records=Damaged()), 7)


def test_a_lost_record_is_no_example(tfds_root):
    """Where a record cannot be read, TFDS gives None for its picture."""
    source = open_source("tfds:tiny", data_dir=tfds_root).source
    records = [source.records[0] | {"picture": None}]
    with pytest.raises(ValueError, match=r"example 0 of tfds:tiny .* its image is None"):
        read_example(replace(source, records=records), 0)


def test_a_damaged_parquet_shard_is_found_at_open(tfds_root, tmp_path):
    copy = shutil.copytree(tfds_root / "columns" / "9.0.0", tmp_path / "columns" / "9.0.0")
    (shard,) = copy.glob("columns-train*")
    whole = shard.read_bytes()
    shutil.copy(next(copy.glob("columns-test*")), shard)
    with pytest.raises(ValueError, match=rf"{shard.name} is truncated or damaged: it holds 5 records.*says 20"):
        open_source("tfds:columns", data_dir=copy)
    shard.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=rf"{shard.name} is truncated or damaged.*says 20"):
        open_source("tfds:columns", data_dir=copy)
    shard.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    with pytest.raises(ValueError, match=r"split 'train' cannot be read .*copy or prepare it again"):
        open_source("tfds:columns", data_dir=copy)


def test_the_fingerprint_is_that_of_the_files(tfds_root, tiny_copy):
    marks = [
        open_source(f"tfds:{name}", split, data_dir=root).source.info.fingerprint
        for name, split, root in (
            ("tiny:9.0.0", "train", tfds_root),
            ("tiny:9.0.0", "train", tiny_copy),
            ("tiny:9.0.0", "test", tfds_root),
            ("tiny:10.0.0", "train", tfds_root),
        )
    ]
    assert marks[0] == marks[1]
    assert len(set(marks)) == 3
    info = tiny_copy / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"description": "another"}))
    assert open_source("tfds:tiny", data_dir=tiny_copy).source.info.fingerprint != marks[0]


@pytest.mark.skipif(not (PUBLISHED / "tfds" / "cifar10").is_dir(), reason="no tfds/cifar10 in $CNNJAX_TEST_DATA")
def test_cifar10_as_it_lies_on_disk():
    for split, count in (("train", 50_000), ("test", 10_000)):
        source = open_source("tfds:cifar10", split, data_dir=PUBLISHED)
        assert len(source) == count
        assert source.info.classes[3] == "cat"
        for index in (0, count // 2, count - 1):
            record = source.source.records[index]
            assert read_example(source, index)["image"].shape == (32, 32, 3)
            # The set's own text names the class: "train_cat_2970".
            assert record["id"].decode().split("_")[1] == source.info.classes[source[index]["label"]]
