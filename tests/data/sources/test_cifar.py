import numpy as np
import pytest

from cnnjax.data import open_source, splits
from cnnjax.data.sources.cifar import _LAYOUTS
from tests.data.tiny_sources import images_of


def record(*labels, value=0):
    """Labels, then planes of red, green and blue; row 0 of red counts up from 100, the rest is `value`."""
    planes = np.full((3, 32, 32), value, np.uint8)
    planes[0, 0] = 100 + np.arange(32)
    planes[2, 31, 0] = 255
    return bytes(labels) + planes.tobytes()


@pytest.fixture
def ten(tmp_path):
    for batch in range(1, 6):
        data = [record(2 * batch - 2 + i, value=10 * batch + i) for i in range(2)]
        (tmp_path / f"data_batch_{batch}.bin").write_bytes(b"".join(data))
    (tmp_path / "test_batch.bin").write_bytes(record(7))
    return tmp_path


@pytest.fixture
def hundred(tmp_path):
    (tmp_path / "train.bin").write_bytes(record(19, 99, value=5) + record(0, 3))
    (tmp_path / "test.bin").write_bytes(record(1, 0))
    return tmp_path


def test_cifar10(ten):
    spelling = f"cifar:{ten}"
    assert splits(spelling) == ("train", "test")
    train = open_source(spelling)
    assert train.info.shapes == {"image": (32, 32, 3), "label": ()}
    assert [int(train[i]["image"][5, 5, 1]) for i in range(10)] == [10 * b + i for b in range(1, 6) for i in range(2)]
    image = train[0]["image"]
    assert image[0, :, 0].tolist() == list(range(100, 132))
    assert (image[31, 0].tolist(), image[0, 0].tolist()) == ([10, 10, 255], [100, 10, 10])
    assert train.column("label").tolist() == list(range(10))
    assert train.info.classes[3] == "cat"
    test = open_source("cifar:.", "test", data_dir=ten)
    assert (len(test), test[0]["label"], test[0]["label"].dtype) == (1, 7, np.int32)


def test_cifar100_has_fine_and_coarse_labels(hundred):
    train = open_source(f"cifar:{hundred}")
    assert train.column("label").tolist() == [99, 3]
    assert [int(train[i]["coarse_label"]) for i in range(2)] == [19, 0]
    assert train[0]["coarse_label"].dtype == np.int32
    assert (train.info.classes[99], train.info.classes[3], len(train.info.classes)) == ("worm", "bear", 100)
    assert images_of(open_source(f"cifar:{hundred}", "test")) == [100]


def test_published_names_are_different_and_sorted():
    for layout, count in zip(_LAYOUTS, (10, 100), strict=True):
        assert len(set(layout.names)) == count
        assert list(layout.names) == sorted(layout.names)


def test_names_are_those_of_the_file(ten):
    (ten / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    assert open_source(f"cifar:{ten}").info.classes == tuple("abcdefghij")
    (ten / "batches.meta.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"batches\.meta\.txt holds 2 different names; expected 10"):
        open_source(f"cifar:{ten}")


def test_missing_files(ten):
    (ten / "data_batch_3.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"batches of the train split but lacks data_batch_3\.bin"):
        open_source(f"cifar:{ten}")
    for batch in (1, 2, 4, 5):
        (ten / f"data_batch_{batch}.bin").unlink()
    assert splits(f"cifar:{ten}") == ("train", "test", "all")
    (ten / "cifar-10-batches-bin").mkdir()
    (ten / "test_batch.bin").rename(ten / "cifar-10-batches-bin" / "test_batch.bin")
    with pytest.raises(FileNotFoundError, match=r"holds none of CIFAR's.*open cifar:.*/cifar-10-batches-bin instead"):
        open_source(f"cifar:{ten}")
    (ten / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    (ten / "data_batch_1").touch()
    with pytest.raises(FileNotFoundError, match="data_batch_1 is of the version for Python, which is not read"):
        open_source(f"cifar:{ten}")


@pytest.mark.parametrize("data", [b"", record(1)[:-1], record(1) + b"x"])
def test_truncated_files(ten, data):
    (ten / "test_batch.bin").write_bytes(data)
    with pytest.raises(ValueError, match=rf"test_batch\.bin has {len(data)} bytes; expected a multiple of 3073"):
        open_source(f"cifar:{ten}", "test")


def test_labels_out_of_range(ten, hundred):
    (ten / "test_batch.bin").write_bytes(record(9) + record(10))
    with pytest.raises(ValueError, match=r"example 1 of cifar:.* \(test\) has the label 10; expected 0 to 9"):
        open_source(f"cifar:{ten}", "test")
    (ten / "test_batch.bin").unlink()
    (hundred / "test.bin").write_bytes(record(20, 5))
    with pytest.raises(
        ValueError, match=r"example 0 of the coarse labels of cifar:.* has the label 20; expected 0 to 19"
    ):
        open_source(f"cifar:{hundred}", "test")
