"""Scenes as a source: by index, by split, by spelling, in batches."""

import pickle

import numpy as np
import pytest

from cnnjax.data import eval_batches, open_source, splits
from cnnjax.data.scenes import SceneSource
from cnnjax.data.sources.source import check_source

SOURCE = SceneSource(4, size=(24, 32), objects=3)


def test_an_example_is_what_info_says_and_always_the_same():
    check_source(SOURCE)
    example, again = SOURCE[2], pickle.loads(pickle.dumps(SOURCE))[2]
    assert {name: array.shape for name, array in example.items()} == dict(SOURCE.info.shapes)
    for name, array in example.items():
        np.testing.assert_array_equal(array, again[name])
    assert SOURCE.info.classes == ("circle", "rectangle", "triangle")
    assert SOURCE.column("classes") is None
    assert (example["image"] != SOURCE[1]["image"]).any()
    for other in (SceneSource(4, "test", size=(24, 32), objects=3), SceneSource(4, seed=1, size=(24, 32), objects=3)):
        assert (other[2]["image"] != example["image"]).any()
        assert other.info.fingerprint != SOURCE.info.fingerprint
    with pytest.raises(IndexError, match="index 4 of 4 scenes"):
        SOURCE[4]


def test_the_spelling_has_three_splits():
    assert splits("scenes:11:16") == ("train", "val", "test")
    train, val = (open_source("scenes:11:16", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (11, 3)
    assert train.info.shapes["image"] == (16, 16, 3)
    assert open_source("scenes:11").info.shapes["image"] == (96, 96, 3)
    # By its name a run's data is opened again.
    again = open_source(val.info.name, "val")
    assert (again.info.name, again.info.fingerprint) == ("scenes:11:16", val.info.fingerprint)
    spelled = SceneSource(3, "val", size=(16, 16), spelling="scenes:11:16")
    assert spelled.info.fingerprint == SceneSource(3, "val", size=(16, 16)).info.fingerprint
    assert (train[0]["image"] != val[0]["image"]).any()
    for spelling in ("scenes", "scenes:0", "scenes:few", "scenes:1:2:3"):
        with pytest.raises(ValueError, match="expected scenes:COUNT or scenes:COUNT:SIDE"):
            open_source(spelling)


def test_batches_have_all_elements():
    (batch,) = list(eval_batches(SOURCE, batch_size=4))
    for name in SOURCE.info.shapes:
        np.testing.assert_array_equal(batch[name][3], SOURCE[3][name])


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (3, -1)])
def test_what_is_no_source(count, seed):
    with pytest.raises(ValueError, match=f"count={count} and seed={seed}"):
        SceneSource(count, seed=seed)
