import pickle

import numpy as np
import pytest

from cnnjax.data import open_source, read_example
from cnnjax.data.sources.mask_source import read_labels
from tests.data.tiny_sources import write_labels, write_picture


@pytest.fixture
def source(tmp_path):
    write_picture(tmp_path / "images/a.png", 2, 3)
    write_labels(tmp_path / "instances/a.png", [[0, 4, 4], [1, 0, 0]])
    return open_source(f"masks:{tmp_path}", "all").source


def test_an_example_by_its_index(source):
    assert (len(source), source.column("masks"), source.column("label")) == (1, None, None)
    assert repr(source).startswith("masks:/")
    np.testing.assert_array_equal(source[0]["masks"], source[-1]["masks"])
    with pytest.raises(IndexError, match="index 1 of masks"):
        source[1]


def test_workers_get_it_by_pickle(source):
    again = read_example(pickle.loads(pickle.dumps(source)), 0)
    for name, values in read_example(source, 0).items():
        np.testing.assert_array_equal(values, again[name])


def test_more_objects_than_when_it_was_opened(source, tmp_path):
    write_labels(tmp_path / "instances/a.png", [[1, 2, 3], [4, 0, 0]])
    with pytest.raises(ValueError, match="it has 4 objects now, more than 2 slots; open the data anew"):
        read_example(source, 0)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a\.png: 1 bytes are no label map"):
        read_labels(tmp_path / "a.png")
