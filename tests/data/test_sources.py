import numpy as np
import pytest

from cnnjax.data import ArraySource, Info
from cnnjax.data.sources import permutation


def test_permutation_sorts_raw_words():
    words = np.random.PCG64(np.random.SeedSequence(3, spawn_key=(2,))).random_raw(50).tolist()
    assert permutation(50, seed=3, stream=2).tolist() == sorted(range(50), key=words.__getitem__)


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
