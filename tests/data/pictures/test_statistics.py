"""Channel statistics against NumPy's over the whole array, class weights against scikit-learn's."""

import json

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import ArraySource, Info
from cnnjax.data.pictures.statistics import channel_statistics
from tests.data.tiny_sources import NoColumns, encode

IMAGES = np.random.default_rng(0).integers(0, 200, (50, 4, 5, 3)).astype(np.uint8)


def test_all_pictures():
    found = channel_statistics(ArraySource({"image": IMAGES}))
    assert (found.dtype, found.low, found.high) == ("uint8", 0, 255)
    np.testing.assert_allclose(found.mean, (IMAGES / 255).mean((0, 1, 2)))
    np.testing.assert_allclose(found.deviation, (IMAGES / 255).std((0, 1, 2)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (255, 0), (4, -2), (1e-3, 1), (1e-9, 0)])
def test_floats_count_on_their_own_scale(dtype, scale, shift):
    images = (scale * IMAGES / 255 + shift).astype(dtype)
    found = channel_statistics(ArraySource({"image": images}))
    plain = images.astype(np.float64)
    assert (found.dtype, found.low, found.high) == ("float32", plain.min(), plain.max())
    np.testing.assert_allclose(found.mean, plain.mean((0, 1, 2)), rtol=1e-9)
    expected = plain.std((0, 1, 2))
    # In half precision so small values are all zero.
    np.testing.assert_allclose(found.deviation, np.where(expected > 0, expected, 1), rtol=1e-6)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64])
def test_other_numbers_are_refused_with_the_cure(dtype):
    with pytest.raises(
        ValueError, match=rf"the pixels of example 0 of arrays \(all\) are {np.dtype(dtype)}; expected uint8"
    ):
        channel_statistics(ArraySource({"image": IMAGES.astype(dtype)}))


def test_pictures_without_channels_and_pixels_that_are_not_finite_are_told():
    with pytest.raises(
        ValueError, match=r"example 0 of arrays \(all\) has the shape \(4, 5\); expected .* images\[..., None\]"
    ):
        channel_statistics(ArraySource({"image": IMAGES[..., 0]}))
    images = IMAGES.astype(np.float32)
    images[2, 1, 1, 1] = np.nan
    with pytest.raises(ValueError, match=r"example 2 of arrays \(all\) cannot be read: its picture holds NaN or inf"):
        channel_statistics(ArraySource({"image": images}))


def test_pictures_of_one_source_are_alike():
    class Mixed(NoColumns):
        info = Info("mixed", "all", {})

        def __init__(self, *pictures):
            self.pictures = pictures

        def __len__(self):
            return len(self.pictures)

        def __getitem__(self, index):
            return {"image": self.pictures[index]}

    with pytest.raises(
        ValueError, match=r"mixed mixes pictures of 3 channels of uint8 and of 1 channels of uint8 \(example 1"
    ):
        channel_statistics(Mixed(IMAGES[0], IMAGES[0, ..., :1]))
    with pytest.raises(ValueError, match="of 3 channels of uint8 and of 3 channels of float32"):
        channel_statistics(Mixed(IMAGES[0], IMAGES[0] / 255))


def test_a_limit_takes_evenly_spaced_pictures():
    mean = channel_statistics(ArraySource({"image": IMAGES}), limit=8).mean
    chosen = IMAGES[[0, 7, 14, 21, 28, 35, 42, 49]]
    np.testing.assert_allclose(mean, (chosen / 255).mean((0, 1, 2)))


def test_a_constant_channel_has_deviation_one():
    images = IMAGES.copy()
    images[..., 1] = 7
    assert channel_statistics(ArraySource({"image": images})).deviation[1] == 1.0


class Encoded(NoColumns):
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
    found = channel_statistics(Encoded(pictures))
    np.testing.assert_allclose(found.mean, (pixels / 255).mean(0))
    np.testing.assert_allclose(found.deviation, (pixels / 255).std(0))


def broken_only():
    source = Encoded(IMAGES[:1])
    source.pictures[0] = b"broken"
    return source


def test_what_cannot_be_measured_is_an_error():
    broken = Encoded(IMAGES[:2])
    broken.pictures[1] = b"broken"
    with pytest.raises(ValueError, match=r"example 1 of encoded .* cannot be read.*6 bytes do not decode"):
        channel_statistics(broken)
    mean = channel_statistics(broken, skip_unreadable=True).mean
    np.testing.assert_allclose(mean, (IMAGES[0] / 255).mean((0, 1)))
    with pytest.raises(ValueError, match=r"none of 1 pictures of encoded \(all\) has pixels"):
        channel_statistics(broken_only(), skip_unreadable=True)
    with pytest.raises(ValueError, match=r"example 0 of arrays \(all\) has no element 'image', only label"):
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
        '{"dtype": "uint8", "low": 0, "high": 255, "mean": [], "deviation": []}',
        '{"mean": [0.5, 0.5, 0.5], "deviation": [1.0, 1.0, 1.0]}',
        '{"dtype": "int8", "low": 0, "high": 1, "mean": [0.5], "deviation": [1.0]}',
        '{"dtype": "uint8", "low": 0, "high": 255, "mean": [1.0], "deviation": [1.0, 1.0]}',
        '{"dtype": "uint8", "low": 0, "high": 255, "mean": [NaN, 0.5, 0.5], "deviation": [1.0, 1.0, 1.0]}',
        '{"dtype": "uint8", "low": 0, "high": 255, "mean": [0.5, 0.5, 0.5], "deviation": [1.0, 0.0, 1.0]}',
        '{"dtype": "uint8", "low": 0, "high": 255, "mean": ["a", 0.5, 0.5], "deviation": [1.0, 1.0, 1.0]}',
    ],
)
def test_a_corrupt_cache_is_made_anew(cache_folder, data):
    first = channel_statistics(Encoded(IMAGES[:4], "mark"))
    (kept,) = cache_folder.iterdir()
    kept.write_text(data)
    assert channel_statistics(Encoded(IMAGES[:4], "mark")) == first
    assert json.loads(kept.read_text())["mean"] == list(first.mean)
