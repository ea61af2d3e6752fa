import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from cnnjax.data import ArraySource
from cnnjax.data.batches.resident import gather, read_all

PICTURES = np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2, 1)
SOURCE = ArraySource({"image": PICTURES, "label": np.arange(7) % 3})
QUIET = Console(file=io.StringIO())


def test_all_examples_of_a_small_source():
    examples = read_all(SOURCE, limit=7 * 8, console=QUIET)
    assert examples is not None
    np.testing.assert_array_equal(examples["image"], PICTURES)
    np.testing.assert_array_equal(examples["label"], np.arange(7) % 3)
    assert examples["valid"].tolist() == [True] * 7
    assert "id" not in examples


def test_all_examples_where_the_first_cannot_be_read():
    class Torn(ArraySource):
        def __getitem__(self, index):
            if index < 2:
                raise OSError("torn")
            return super().__getitem__(index)

    faults = []
    options = {"unreadable": "skip", "on_fault": faults.append, "console": QUIET}
    examples = read_all(Torn(SOURCE.arrays, SOURCE.info), limit=7 * 8, **options)
    assert examples["valid"].tolist() == [False, False, True, True, True, True, True]
    np.testing.assert_array_equal(examples["image"][2:], PICTURES[2:])
    assert [fault.index for fault in faults] == [0, 1]


def test_a_large_source_stays_where_it_is():
    assert read_all(SOURCE, limit=7 * 8 - 1, console=QUIET) is None


@pytest.mark.parametrize("on", [np.asarray, jnp.asarray])
def test_gathering_by_number(on):
    examples = {"image": on(PICTURES), "valid": on(np.array([True] * 6 + [False]))}
    batch = {"id": on(np.array([6, 1, 1], np.int32)), "valid": on(np.array([True, True, False]))}
    whole = gather(examples, batch)
    np.testing.assert_array_equal(whole["image"], PICTURES[[6, 1, 1]])
    assert whole["valid"].tolist() == [False, True, False]
    assert whole["id"].tolist() == [6, 1, 1]
    assert isinstance(whole["image"], jax.Array) == (on is jnp.asarray)


def test_a_batch_that_is_whole_stays_as_it_is():
    batch = {"id": np.arange(2), "image": PICTURES[:2]}
    assert gather({}, batch) == batch
    assert gather(None, batch) == batch
