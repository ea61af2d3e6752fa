"""Channel statistics against NumPy's over the whole array."""

import numpy as np

from cnnjax.data import ArraySource
from cnnjax.data.statistics import channel_statistics

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
