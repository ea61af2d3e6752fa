"""Colours against Pillow's enhancers and the standard library's colour circle, and by their distribution."""

import colorsys
from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from cnnjax.data.augment import Targets, brightness, colour_jitter, contrast, grayscale, hue, saturation
from cnnjax.data.augment.colour import turn_hue
from tests.models.quick import run_unoptimised

KEY = jax.random.key(2)
generator = np.random.default_rng(0)
IMAGES = generator.integers(0, 256, (3, 6, 5, 3)).astype(np.uint8)
ENHANCERS = {
    brightness: ImageEnhance.Brightness,
    contrast: ImageEnhance.Contrast,
    saturation: ImageEnhance.Color,
}


@pytest.mark.parametrize("transform", ENHANCERS, ids=lambda transform: transform.__name__)
def test_a_fixed_factor_is_pillows_and_types_stay(transform):
    for factor in (0.3, 1.7):
        change = partial(transform, strength=(factor, factor))
        found, unit = run_unoptimised(lambda x, f, c=change: (c(KEY, x), c(KEY, f)), IMAGES, np.float32(IMAGES / 255))
        assert found.dtype == np.uint8
        assert unit.dtype == np.float32
        for image, result, floating in zip(IMAGES, found, unit, strict=True):
            expected = np.asarray(ENHANCERS[transform](Image.fromarray(image)).enhance(factor), int)
            # Pillow cuts what we round, of the picture, its grey and its mean: for the contrast two levels.
            assert np.abs(result.astype(int) - expected).max() <= 2
            assert np.abs(floating * 255 - expected).max() <= 2.5


@pytest.mark.parametrize("turns", [-0.3, 0.1, 0.5])
def test_hue_is_the_standard_librarys(turns):
    unit = np.float32(IMAGES[:1] / 255)
    unit[0, 0] = 0.4  # no colour, no hue
    found = run_unoptimised(turn_hue, unit, np.full((1, 1, 1, 1), turns, np.float32))
    for before, after in zip(unit.reshape(-1, 3).astype(float), found.reshape(-1, 3), strict=True):
        place, share, value = colorsys.rgb_to_hsv(*before)
        np.testing.assert_allclose(after, colorsys.hsv_to_rgb((place + turns) % 1, share, value), atol=1e-5)


def test_grayscale_takes_colours_from_its_share_of_pictures():
    images = np.repeat(IMAGES[:1], 200, 0)
    found = run_unoptimised(partial(grayscale, probability=0.3), KEY, images)
    grey = np.asarray(Image.fromarray(IMAGES[0]).convert("L"), int)
    turned = 0
    for result in found:
        if not np.array_equal(result, IMAGES[0]):
            assert np.abs(result - grey[..., None]).max() <= 1
            turned += 1
    assert 35 <= turned <= 85


def test_jitter_draws_each_factor_and_the_order_for_each_picture():
    """A flat picture, so that contrast does nothing; brightness and saturation commute while nothing is cut."""
    colour = np.float32([0.5, 0.4, 0.3])
    images = np.broadcast_to(colour, (300, 2, 2, 3))
    change = partial(colour_jitter, brightness=0.4, contrast=0.0, saturation=0.5, hue=0.0)
    found = run_unoptimised(change, KEY, images)
    grey = np.float32([0.299, 0.587, 0.114])
    bright = found[:, 0, 0] @ grey / (colour @ grey)
    colourful = (found[:, 0, 0, 0] - found[:, 0, 0, 2]) / 0.2 / bright
    for factors, reach in ((bright, 0.4), (colourful, 0.5)):
        assert 1 - reach - 1e-4 <= factors.min() < 1 - 0.9 * reach
        assert 1 + 0.9 * reach < factors.max() <= 1 + reach + 1e-4
    assert abs(np.corrcoef(bright, colourful)[0, 1]) < 0.2


def test_jitter_is_one_of_the_orders_of_four_and_all_come_up():
    image = np.float32(IMAGES[:1] / 255)
    options = {"brightness": (1.4, 1.4), "contrast": (1.5, 1.5), "saturation": (0.4, 0.4), "hue": (0.2, 0.2)}

    def grey(x):
        return (x @ [0.299, 0.587, 0.114])[..., None]

    def turned(x):
        hsv = [colorsys.rgb_to_hsv(*pixel) for pixel in x.reshape(-1, 3)]
        return np.reshape([colorsys.hsv_to_rgb((h + 0.2) % 1, s, v) for h, s, v in hsv], x.shape)

    steps = {
        "b": lambda x: np.clip(1.4 * x, 0, 1),
        "c": lambda x: np.clip(grey(x).mean() + 1.5 * (x - grey(x).mean()), 0, 1),
        "s": lambda x: np.clip(grey(x) + 0.4 * (x - grey(x)), 0, 1),
        "h": turned,
    }
    outcomes = {"": image[0].astype(float)}
    for _ in range(4):
        outcomes = {o + name: step(x) for o, x in outcomes.items() for name, step in steps.items() if name not in o}
    results = run_unoptimised(partial(colour_jitter, **options), KEY, np.repeat(image, 120, 0))
    seen = set()
    for result in results:
        apart = {order: np.abs(result - expected).max() for order, expected in outcomes.items()}
        order = min(apart, key=apart.get)
        assert apart[order] < 1e-4
        seen.add(order)
    assert len(seen) > 18  # of 24


def test_grey_pictures_and_targets():
    grey = jnp.asarray(IMAGES[..., :1])
    targets = Targets(keypoints=jnp.ones((3, 1, 2)))

    def changed(images):
        unaffected = [hue(KEY, images, turns=0.4), saturation(KEY, images, strength=0.9), grayscale(KEY, images)]
        return unaffected, brightness(KEY, images, strength=(0.5, 0.5)), contrast(KEY, images, targets, strength=0.5)

    unaffected, darker, (_, same) = run_unoptimised(changed, grey)
    for result in unaffected:
        np.testing.assert_array_equal(result, grey)
    np.testing.assert_allclose(darker, np.asarray(grey, float) / 2, atol=0.51)
    np.testing.assert_array_equal(same.keypoints, targets.keypoints)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: brightness(KEY, x, strength=(-0.1, 1.0)), "strength=.* within 0 to inf"),
        (lambda x: contrast(KEY, x, strength=-1.0), "strength=-1.0"),
        (lambda x: hue(KEY, x, turns=0.6), "turns=0.6; .* within -0.5 to 0.5"),
        (lambda x: colour_jitter(KEY, x, saturation=float("nan")), "saturation=nan"),
        (lambda x: grayscale(KEY, x, probability=-0.5), "probability=-0.5"),
        (lambda x: saturation(KEY, x[..., :2], strength=0.5), "2 channels; expected 1, grey, or 3"),
    ],
)
def test_what_is_no_range(monkeypatch, call, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        call(jnp.asarray(IMAGES))
