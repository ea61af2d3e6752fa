"""Channel statistics against NumPy's over the whole array, class weights against scikit-learn's."""

import json

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import ArraySource, Info
from cnnjax.data.statistics import channel_statistics
from tests.data.tiny_sources import encode

IMAGES = np.random.default_rng(0).integers(0, 200, (50, 4, 5, 3)).astype(np.uint8)


def test_all_pictures():
    mean, deviation = channel_statistics(ArraySource({"image": IMAGES}))
    np.testing.assert_allclose(mean, (IMAGES / 255).mean((0, 1, 2)))
    np.testing.assert_allclose(deviation, (IMAGES / 255).std((0, 1, 2)))


def test_a_limit_takes_evenly_spaced_pictures():
    mean, _ = channel_statistics(ArraySource({"image": IMAGES}), limit=8)
    chosen = IMAGES[[0, 7, 14, 21, 28, 35, 42, 49]]
    np.testing.assert_allclose(mean, (chosen / 255).mean((0, 1, 2)))


def test_a_constant_channel_has_deviation_one():
    images = IMAGES.copy()
    images[..., 1] = 7
    _, deviation = channel_statistics(ArraySource({"image": images}))
    assert deviation[1] == 1.0


class Encoded:
    """PNGs of several sizes, and how often one of them was read; without a fingerprint unless one is given."""

    def __init__(self, pictures, fingerprint=""):
        self.pictures, self.reads = [encode(Image.fromarray(p), "PNG") for p in pictures], 0
        self.info = Info("encoded", "all", {"image": (None, None, 3)}, (), fingerprint)

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        self.reads += 1
        return {"image": self.pictures[index]}


def test_every_pixel_of_encoded_pictures_of_any_size_counts_the_same():
    pictures = [IMAGES[0], IMAGES[1, :2], IMAGES[2, :, :3], IMAGES[3, ..., 0]]
    pixels = np.concatenate([p.reshape(-1, 3) for p in pictures[:3]] + [np.repeat(pictures[3].reshape(-1, 1), 3, 1)])
    mean, deviation = channel_statistics(Encoded(pictures))
    np.testing.assert_allclose(mean, (pixels / 255).mean(0))
    np.testing.assert_allclose(deviation, (pixels / 255).std(0))


def broken_only():
    source = Encoded(IMAGES[:1])
    source.pictures[0] = b"broken"
    return source


def test_what_cannot_be_measured_is_an_error():
    broken = Encoded(IMAGES[:2])
    broken.pictures[1] = b"broken"
    with pytest.raises(ValueError, match=r"example 1 of encoded .* cannot be read.*6 bytes do not decode"):
        channel_statistics(broken)
    mean, _ = channel_statistics(broken, skip_unreadable=True)
    np.testing.assert_allclose(mean, (IMAGES[0] / 255).mean((0, 1)))
    with pytest.raises(ValueError, match=r"none of 1 pictures of encoded \(all\) has pixels"):
        channel_statistics(broken_only(), skip_unreadable=True)
    with pytest.raises(ValueError, match="arrays has no element 'image', only label"):
        channel_statistics(ArraySource({"label": np.arange(3)}))
    with pytest.raises(ValueError, match="limit is 0"):
        channel_statistics(Encoded(IMAGES[:2]), limit=0)


def test_they_are_worked_out_once_for_a_fingerprint_and_a_limit(cache_folder):
    first = channel_statistics(Encoded(IMAGES, "mark"))
    again = Encoded(IMAGES[:0], "mark")
    assert channel_statistics(again) == first
    assert again.reads == 0
    for source, limit in ((Encoded(IMAGES, "mark"), 8), (Encoded(IMAGES, "other"), 2048), (Encoded(IMAGES), 2048)):
        channel_statistics(source, limit=limit)
        assert source.reads == min(limit, 50)
    assert len(list(cache_folder.iterdir())) == 3


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"mean": 1, "deviation": 1}',
        '{"mean": [], "deviation": []}',
        '{"mean": [1.0], "deviation": [1.0, 1.0]}',
        '{"mean": [NaN, 0.5, 0.5], "deviation": [1.0, 1.0, 1.0]}',
        '{"mean": [0.5, 0.5, 0.5], "deviation": [1.0, 0.0, 1.0]}',
        '{"mean": ["a", 0.5, 0.5], "deviation": [1.0, 1.0, 1.0]}',
    ],
)
def test_a_corrupt_cache_is_made_anew(cache_folder, data):
    first = channel_statistics(Encoded(IMAGES[:4], "mark"))
    (kept,) = cache_folder.iterdir()
    kept.write_text(data)
    assert channel_statistics(Encoded(IMAGES[:4], "mark")) == first
    assert json.loads(kept.read_text())["mean"] == list(first[0])
