"""Tone curves against Pillow's, in bytes and in float32."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps

from cnnjax.data.augment import Targets, autocontrast, equalize, invert, posterize, solarize
from tests.models.quick import run_unoptimised

KEY = jax.random.key(0)
generator = np.random.default_rng(0)
# Dark, flat in one channel, of few levels, too small for a curve, and all levels.
IMAGES = np.stack(
    [
        generator.integers(10, 90, (30, 40, 3)),
        generator.integers(0, 256, (30, 40, 3)) * [1, 0, 1] + [0, 7, 0],
        generator.choice([3, 90, 91, 200], (30, 40, 3), p=[0.1, 0.2, 0.2, 0.5]),
        generator.normal(128, 40, (30, 40, 3)).clip(0, 255),
    ]
).astype(np.uint8)


@pytest.mark.parametrize(
    ("transform", "by_pillow", "apart"),
    [
        (invert, ImageOps.invert, 0),
        (solarize, ImageOps.solarize, 0),
        (partial(solarize, threshold=0.3), partial(ImageOps.solarize, threshold=0.3 * 255), 0),
        (partial(posterize, bits=3), partial(ImageOps.posterize, bits=3), 0),
        (autocontrast, ImageOps.autocontrast, 1),  # cut there, rounded here
        (equalize, ImageOps.equalize, 0),
    ],
    ids=["invert", "solarize", "solarize at 0.3", "posterize", "autocontrast", "equalize"],
)
def test_pillows_curves(transform, by_pillow, apart):
    found, unit = run_unoptimised(lambda x, f: (transform(KEY, x), transform(KEY, f)), IMAGES, np.float32(IMAGES / 255))
    assert found.dtype == np.uint8
    assert unit.dtype == np.float32
    for image, result, floating in zip(IMAGES, found, unit, strict=True):
        expected = np.asarray(by_pillow(Image.fromarray(image)), int)
        assert np.abs(result.astype(int) - expected).max() <= apart
        assert np.abs(floating * 255 - expected).max() <= apart + 1e-3


def test_equalize_leaves_channels_with_too_few_pixels():
    small = generator.integers(0, 256, (1, 5, 6, 2)).astype(np.uint8)
    np.testing.assert_array_equal(run_unoptimised(partial(equalize, KEY), small), small)


def test_targets_stay_and_bad_options():
    targets = Targets(keypoints=jnp.ones((4, 1, 2)))
    images = jnp.asarray(IMAGES)
    assert invert(KEY, images, targets)[1] is targets
    with pytest.raises(ValueError, match=r"threshold=1\.5; expected 0 to 1"):
        solarize(KEY, images, threshold=1.5)
    with pytest.raises(ValueError, match="bits=0; expected 1 to 8"):
        posterize(KEY, images, bits=0)
