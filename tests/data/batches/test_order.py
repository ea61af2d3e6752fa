import itertools

import numpy as np
import pytest

from cnnjax.data.batches.order import Order, Part, id_batches


def test_a_stream_without_a_seed_is_the_source_once():
    assert [Order(3).at(place) for place in range(5)] == [(0, True), (1, True), (2, True), (2, False), (2, False)]


def test_each_epoch_is_sorted_by_its_own_raw_words():
    for epoch in (0, 7):
        words = np.random.PCG64(np.random.SeedSequence(4, spawn_key=(epoch,))).random_raw(6).tolist()
        found = [Order(6, 4).at(6 * epoch + place) for place in range(6)]
        assert found == [(index, True) for index in sorted(range(6), key=words.__getitem__)]


def test_parts_are_contiguous_rows_of_the_global_batch():
    parts = [Part(6, 100, process, 3) for process in range(3)]
    assert [[part.place(2, row) for row in range(part.rows)] for part in parts] == [[112, 113], [114, 115], [116, 117]]


def test_id_batches_name_what_a_stream_holds():
    batches = list(id_batches(Order(5), Part(4)))
    assert [batch["id"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 4, 4, 4]]
    assert batches[1]["valid"].tolist() == [True, False, False, False]
    endless = list(itertools.islice(id_batches(Order(5, 1), Part(4, 3)), 4))
    assert np.concatenate([batch["id"] for batch in endless]).tolist() == [Order(5, 1).at(3 + i)[0] for i in range(16)]
    assert {batch["id"].dtype for batch in endless} == {np.dtype(np.int32)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((0,), "batch_size is 0"), ((3, 0, 0, 2), "multiple of process_count, 2"), ((4, -1), "start is -1")],
)
def test_parts_that_cannot_be(arguments, words):
    with pytest.raises(ValueError, match=words):
        Part(*arguments)
