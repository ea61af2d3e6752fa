"""Label maps with weights: parted objects, weights by the formula, and what moves along."""

import pickle

import numpy as np
import pytest

from cnnjax.data import ArraySource, Info, ReadPictures
from cnnjax.data.pictures.instances import separation_weights
from cnnjax.data.sources.separated import Separated, parted
from cnnjax.data.sources.source import read_example

LABELS = np.zeros((2, 9, 12), np.int32)
LABELS[:, 1:5, 1:5], LABELS[:, 1:5, 7:11], LABELS[:, 5:8, 1:5] = 1, 2, 3


def source(labels="instances"):
    made = ArraySource({"image": np.zeros((2, 9, 12, 1), np.uint8), "masks": LABELS}, Info("cells", "train", {}))
    object.__setattr__(made, "info", Info(**{**vars(made.info), "labels": labels}))
    return made


def test_objects_are_parted_where_they_touch():
    found = parted(LABELS[0])
    expected = LABELS[0].copy()
    # Objects 1 and 3 touch between rows 4 and 5; 1 and 2 have a gap of two columns.
    expected[4:6, 1:5] = 0
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(parted(LABELS[0].T), expected.T)


def test_the_second_plane_has_the_weights():
    separated = Separated(source(), weight=7.0, width=3.0)
    example = separated[1]
    assert example["masks"].dtype == np.float32
    np.testing.assert_array_equal(example["masks"][..., 0], parted(LABELS[1]))
    expected = separation_weights(parted(LABELS[1]), w0=7.0, sigma=3.0, class_balance=(1.0, 1.0))
    np.testing.assert_array_equal(example["masks"][..., 1], expected)
    # By hand: between 1 and 2, in column 5, the centres are 1 and 2 pixels away.
    np.testing.assert_allclose(example["masks"][2, 5, 1], 1 + 7 * np.exp(-9 / 18), rtol=1e-6)
    assert separated.info.shapes["masks"] == (9, 12, 2)
    assert separated.info.fingerprint not in ("", source().info.fingerprint)
    assert Separated(source(), weight=8.0).info.fingerprint != Separated(source()).info.fingerprint


def test_weights_move_with_their_picture():
    separated = Separated(source())
    moved = read_example(separated, 0, read=ReadPictures((18, 24), "resize"))["masks"]
    np.testing.assert_array_equal(moved, np.repeat(np.repeat(separated[0]["masks"], 2, axis=0), 2, axis=1))


def test_it_is_a_source_like_the_one_it_is_of():
    separated = Separated(source())
    assert len(separated) == 2
    np.testing.assert_array_equal(separated.column("masks"), LABELS)
    assert separated.column("label") is None
    assert separated.where(0) == ""
    assert "cells (train): 2 examples" in repr(separated)
    copy = pickle.loads(pickle.dumps(separated))
    np.testing.assert_array_equal(copy[0]["masks"], separated[0]["masks"])


def test_semantic_masks_are_refused():
    with pytest.raises(ValueError, match="the masks of cells do not tell objects apart"):
        Separated(source("semantic"))
