"""The table of many masks' runs: each as if it were alone."""

import numpy as np
import pytest

from cnnjax.functional import masks
from cnnjax.functional.masks.runs import intervals, read_runs, regions, write_codes

generator = np.random.default_rng(1)
SEVERAL = [
    (generator.random(shape) < share).astype(np.uint8)
    for shape, share in (((5, 7), 0.3), ((1, 1), 0.0), ((40, 33), 0.02), ((6, 2), 1.0), ((0, 3), 0.0), ((3, 90), 0.9))
]


def codes():
    return [masks.encode_rle(mask) for mask in SEVERAL]


def test_many_at_once_are_the_same_as_one_by_one():
    runs = read_runs(codes())
    assert runs.first[-1] == len(runs.lengths)
    assert write_codes(runs) == codes()
    assert regions(runs).areas.tolist() == [int(mask.sum()) for mask in SEVERAL]
    for mask, box in zip(SEVERAL, regions(runs).boxes, strict=True):
        rows, columns = np.nonzero(mask)
        expected = np.zeros(4)
        if len(rows):
            expected = np.array([columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1])
        np.testing.assert_array_equal(box, expected)


def test_intervals_hold_the_ones():
    where = intervals(read_runs(codes()))
    for mask, begin, end in zip(SEVERAL, where.first[:-1], where.first[1:], strict=True):
        pixels = np.zeros(mask.size, np.uint8)
        for start, stop in zip(where.starts[begin:end], where.ends[begin:end], strict=True):
            pixels[start:stop] = 1
        np.testing.assert_array_equal(pixels, mask.ravel(order="F"))


def test_text_and_lists_are_read_together():
    code = masks.encode_rle(SEVERAL[0])
    lengths = read_runs([code]).lengths.tolist()
    assert min(np.diff(lengths[1::2])) < 0
    runs = read_runs([code, {"size": code["size"], "counts": lengths}, code])
    assert runs.lengths.tolist() == 3 * lengths


def test_none_is_a_table_too():
    runs = read_runs([])
    empty = regions(runs)
    assert (runs.first.tolist(), runs.sizes.shape, empty.boxes.shape, empty.areas.shape) == ([0], (0, 2), (0, 4), (0,))
    assert write_codes(runs) == []


def test_the_message_says_which():
    good = masks.encode_rle(SEVERAL[0])
    with pytest.raises(ValueError, match="truths 2: runs of 35 pixels in all came, 36 were expected"):
        read_runs([good, good, {**good, "size": [6, 6]}], "truths")
    with pytest.raises(ValueError, match="truths 1: a character above"):
        read_runs([good, {**good, "counts": "~"}], "truths")
