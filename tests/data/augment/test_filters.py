"""Blur against scipy, sharpness against Pillow, noise by its distribution."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image, ImageEnhance

from cnnjax.data.augment import Targets, blur, noise, sharpness
from tests.models.quick import run_unoptimised

KEY = jax.random.key(4)
generator = np.random.default_rng(0)
IMAGES = generator.integers(0, 256, (3, 12, 9, 3)).astype(np.uint8)


def test_a_fixed_blur_is_scipys():
    unit = np.float32(IMAGES / 255)
    found, levels = run_unoptimised(
        lambda x, f: (blur(KEY, f, sigma=(1.3, 1.3)), blur(KEY, x, sigma=(1.3, 1.3))), IMAGES, unit
    )
    expected = scipy.ndimage.gaussian_filter(unit.astype(float), 1.3, mode="mirror", radius=4, axes=(1, 2))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(levels - expected * 255).max() < 0.501


def test_blurs_are_drawn_one_by_one_over_the_range():
    """A bright line's brightness, 1 / (sigma sqrt(2 pi)) where weights are wide enough to be an integral."""
    lines = np.zeros((200, 21, 21, 1), np.float32)
    lines[:, :, 10] = 1
    found = run_unoptimised(partial(blur, sigma=(1.0, 2.0)), KEY, lines)
    sigmas = 1 / (found[:, 10, 10, 0] * np.sqrt(2 * np.pi))
    assert 0.98 < sigmas.min() < 1.04
    assert 1.94 < sigmas.max() < 2.02
    assert abs(sigmas.mean() - 1.5) < 0.08


@pytest.mark.parametrize("factor", [0.0, 1.8])
def test_a_fixed_sharpness_is_pillows(factor):
    found = run_unoptimised(partial(sharpness, strength=(factor, factor)), KEY, IMAGES)
    for image, result in zip(IMAGES, found, strict=True):
        expected = np.asarray(ImageEnhance.Sharpness(Image.fromarray(image)).enhance(factor), int)
        assert np.abs(result.astype(int) - expected).max() <= 1


def test_noise_is_gaussian_and_each_picture_has_its_own():
    images = np.full((40, 10, 10, 3), 0.5, np.float32)
    added = run_unoptimised(partial(noise, deviation=(0.02, 0.1)), KEY, images) - 0.5
    deviations = added.std(axis=(1, 2, 3))
    assert 0.017 < deviations.min() < 0.04
    assert 0.08 < deviations.max() < 0.112
    scaled = (added / deviations[:, None, None, None]).reshape(40, -1)
    assert abs(scaled.mean()) < 0.03
    assert abs((scaled**4).mean() - 3) < 0.2
    assert np.abs(np.corrcoef(scaled) - np.eye(40)).max() < 0.3


def test_targets_stay_and_bad_options():
    targets = Targets(keypoints=jnp.ones((3, 1, 2)))
    images = jnp.asarray(IMAGES)
    assert sharpness(KEY, images, targets, strength=0.5)[1] is targets
    for call, message in (
        (lambda: blur(KEY, images, sigma=(0.0, 1.0)), r"sigma=\(0.0, 1.0\)"),
        (lambda: sharpness(KEY, images, strength=(2.0, 1.0)), "in order"),
        (lambda: noise(KEY, images, deviation=-0.1), "deviation=-0.1"),
        (lambda: noise(KEY, images, deviation=(0.0, 2.0)), "within 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
