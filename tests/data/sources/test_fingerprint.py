"""Fingerprints against hashlib over the bytes written out by hand."""

import hashlib

import numpy as np
import pytest

from cnnjax.data.sources.fingerprint import fingerprint


def test_texts_bytes_and_arrays_are_hashed_one_after_another():
    array = np.array([[1, 2], [3, 258]], np.int16)
    written = b"text 3\n\xc3\xa4b" + b"bytes 2\nxy" + b"array <i2 (2, 2) 8\n\x01\x00\x02\x00\x03\x00\x02\x01"
    assert fingerprint("äb", b"xy", array) == hashlib.sha256(written).hexdigest()


def test_machines_and_memory_do_not_count():
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    for same in (array.astype(">i4"), np.asfortranarray(array), np.repeat(array, 2, axis=1)[:, ::2]):
        assert fingerprint(same) == fingerprint(array)


def test_shapes_kinds_and_boundaries_count():
    array = np.arange(12, dtype=np.uint8)
    marks = [
        fingerprint(array),
        fingerprint(array.reshape(3, 4)),
        fingerprint(array.astype(np.int8)),
        fingerprint(array.tobytes()),
        fingerprint("ab", "c"),
        fingerprint("a", "bc"),
        fingerprint(b"ab", b"c"),
        fingerprint(np.array(1)),
        fingerprint(np.empty((0, 3))),
        fingerprint(),
    ]
    assert len(set(marks)) == len(marks)


def test_python_objects_have_none():
    with pytest.raises(ValueError, match="dtype object has no fingerprint"):
        fingerprint(np.array([None]))
