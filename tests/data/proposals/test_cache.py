"""Proposals in a folder: read and not computed, by pixels and settings, whatever became of the files."""

import hashlib

import numpy as np
import pytest

from cnnjax.data.proposals import cache, cached_proposals, selective_search

PICTURE = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
PICTURE[5:25, 10:35] = (250, 20, 20)
OPTIONS = {"most": 12, "smallest": 5}


@pytest.fixture
def calls(monkeypatch):
    """How often boxes are computed."""
    counted = []

    def search(picture, **options):
        counted.append(options)
        return selective_search(picture, **options)

    monkeypatch.setattr(cache, "selective_search", search)
    return counted


def test_boxes_are_computed_once_and_filled_up(tmp_path, calls):
    expected = selective_search(PICTURE, **OPTIONS)
    assert 0 < len(expected) <= 12
    for _ in range(2):
        boxes, count = cached_proposals(PICTURE, tmp_path / "new" / "folder", **OPTIONS)
        assert (boxes.shape, boxes.dtype, count) == ((12, 4), np.float32, len(expected))
        np.testing.assert_array_equal(boxes[:count], expected)
        assert not boxes[count:].any()
    assert len(calls) == 1
    (file,) = (tmp_path / "new" / "folder").iterdir()
    np.testing.assert_array_equal(np.load(file), expected)


def test_pictures_without_boxes(tmp_path, calls):
    for _ in range(2):
        boxes, count = cached_proposals(PICTURE[:4, :4], tmp_path)
        assert (boxes.shape, count) == ((2000, 4), 0)
        assert not boxes.any()
    assert len(calls) == 1


@pytest.mark.parametrize(
    "changed",
    [{"most": 11}, {"smallest": 6}, {"width": 30}, {"seed": 1}, {"mode": "quality"}],
    ids=lambda one: next(iter(one)),
)
def test_other_settings_are_other_files(tmp_path, calls, changed):
    cached_proposals(PICTURE, tmp_path, **OPTIONS)
    boxes, count = cached_proposals(PICTURE, tmp_path, **{**OPTIONS, **changed})
    np.testing.assert_array_equal(boxes[:count], selective_search(PICTURE, **{**OPTIONS, **changed}))
    assert len(calls) == len(list(tmp_path.iterdir())) == 2


def test_other_pixels_and_shapes_are_other_files(tmp_path, calls):
    other = PICTURE.copy()
    other[0, 0, 0] ^= 1
    for picture in (PICTURE, other, PICTURE.reshape(40, 30, 3), np.asfortranarray(PICTURE), np.flip(other).copy()):
        cached_proposals(picture, tmp_path, **OPTIONS)
    # The layout in memory is no other picture.
    assert len(calls) == 4


def test_spelled_out_defaults_and_numpy_numbers_are_the_same_file(tmp_path, calls, unchecked_types):
    cached_proposals(PICTURE, tmp_path, **OPTIONS)
    cached_proposals(PICTURE, str(tmp_path), most=np.int64(12), smallest=5, width=500, seed=0, mode="fast")
    assert len(calls) == 1


def sealed(data):
    return data + hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:60],
        lambda data: data[:150] + bytes([data[150] ^ 1]) + data[151:],
        lambda data: bytes(len(data)),
        lambda data: sealed(b"no array"),
        lambda data: sealed(b""),
        lambda data: sealed(data[:140]),
    ],
    ids="empty cut header flipped zeros text sealed-empty sealed-cut".split(),
)
def test_a_damaged_file_is_computed_anew(tmp_path, calls, damage):
    expected = cached_proposals(PICTURE, tmp_path, **OPTIONS)
    (file,) = tmp_path.iterdir()
    sound = file.read_bytes()
    file.write_bytes(damage(sound))
    boxes, count = cached_proposals(PICTURE, tmp_path, **OPTIONS)
    np.testing.assert_array_equal(boxes, expected[0])
    assert count == expected[1]
    assert len(calls) == 2
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [sound]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        cached_proposals(PICTURE, tmp_path, **OPTIONS)
    assert not list(tmp_path.iterdir())


def test_the_door(tmp_path):
    with pytest.raises(TypeError, match="unknown option 'min_size'; expected those of selective_search: mode, most"):
        cached_proposals(PICTURE, tmp_path, min_size=20)
    with pytest.raises(ValueError, match="most=0"):
        cached_proposals(PICTURE, tmp_path, most=0)
    assert not list(tmp_path.iterdir())
