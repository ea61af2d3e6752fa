"""Policies: every operation against Pillow's, and how often and how strongly each is drawn."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image, ImageEnhance, ImageOps

from cnnjax.data.augment import Targets, policies, rand_augment, trivial_augment
from tests.models.quick import run_unoptimised

KEY = jax.random.key(8)
generator = np.random.default_rng(0)
PICTURE = np.stack(
    [scipy.ndimage.gaussian_filter(generator.uniform(size=(24, 32)), 2) * 700 - 250 for _ in range(3)], -1
)
PICTURE = PICTURE.clip(0, 255).astype(np.uint8)
RANGES = policies.Ranges(30.0, 0.3, (8.0, 6.0), 0.9, 4)


def moved(*rows):
    """By the map of points about the centre, (16, 12), whose first two rows are given."""
    about = np.asarray([[1, 0, 16], [0, 1, 12], [0, 0, 1]])
    matrix = about @ [*rows, [0, 0, 1]] @ np.linalg.inv(about)
    return lambda image: image.transform(
        image.size, Image.Transform.AFFINE, np.linalg.inv(matrix)[:2].ravel(), Image.Resampling.BILINEAR
    )


# Each at 0.5 of the strongest, in its direction.
BY_PILLOW = {
    "identity": lambda image: image,
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "rotate": lambda image: image.rotate(15, Image.Resampling.BILINEAR),
    "solarize": partial(ImageOps.solarize, threshold=127.5),
    "colour": lambda image: ImageEnhance.Color(image).enhance(1.45),
    "posterize": partial(ImageOps.posterize, bits=6),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.45),
    "brightness": lambda image: ImageEnhance.Brightness(image).enhance(1.45),
    "sharpness": lambda image: ImageEnhance.Sharpness(image).enhance(1.45),
    "shear_x": moved([1, 0.15, 0], [0, 1, 0]),
    "shear_y": moved([1, 0, 0], [0.15, 1, 0]),
    "translate_x": moved([1, 0, 4], [0, 1, 0]),
    "translate_y": moved([1, 0, 0], [0, 1, 3]),
}


def test_each_operation_is_pillows_and_moves_its_points():
    assert tuple(BY_PILLOW) == policies.OPERATIONS
    images = np.repeat(PICTURE[None], 14, 0)
    points = np.tile(np.float32([[16, 12], [26, 12]]), (14, 1, 1))
    found, targets = run_unoptimised(
        partial(policies.apply_operations, ranges=RANGES),
        images,
        np.arange(14),
        np.full(14, 0.5, np.float32),
        Targets(keypoints=points),
    )
    for name, result in zip(policies.OPERATIONS, found, strict=True):
        expected = np.asarray(BY_PILLOW[name](Image.fromarray(PICTURE)), int)
        # Off the border, where Pillow's fill begins half a pixel later, and rounded where Pillow cuts.
        apart = np.abs(result - expected)[5:-5, 7:-7]
        assert apart.max() <= (0 if name in ("identity", "equalize", "solarize", "posterize") else 2), name
    steps = dict(zip(policies.OPERATIONS, targets.keypoints - points, strict=True))
    np.testing.assert_allclose(steps["translate_x"], [[4, 0], [4, 0]], atol=1e-4)
    np.testing.assert_allclose(steps["translate_y"], [[0, 3], [0, 3]], atol=1e-4)
    np.testing.assert_allclose(steps["shear_y"], [[0, 0], [0, 1.5]], atol=1e-4)
    turn = np.deg2rad(15)
    np.testing.assert_allclose(steps["rotate"], [[0, 0], [10 * np.cos(turn) - 10, -10 * np.sin(turn)]], atol=1e-4)
    for name in ("identity", "equalize", "colour"):
        np.testing.assert_array_equal(steps[name], 0)


def kinds(transform, points):
    """How 420 pictures and their points came out."""
    images = np.repeat(PICTURE[None], 420, 0)
    return run_unoptimised(transform, KEY, images, Targets(keypoints=np.tile(points, (420, 1, 1))))


def test_rand_augment_draws_each_operation_with_either_sign():
    found, targets = kinds(partial(rand_augment, number=1, magnitude=10.0), np.float32([[16, 12], [26, 12], [16, 22]]))
    steps = np.round(targets.keypoints - np.float32([[16, 12], [26, 12], [16, 22]]), 2)
    ways, counts = np.unique(steps.reshape(420, -1), axis=0, return_counts=True)
    # Standing still, and two directions of five geometric operations: a 28th of the pictures each.
    assert len(ways) == 11
    still = (ways == 0).all(1)
    assert 230 <= counts[still] <= 310
    assert counts[~still].min() >= 4
    assert counts[~still].max() <= 30
    assert steps.max() == pytest.approx(32 * 150 / 331, abs=0.01)  # the longest way, along x
    # Of the nine others four have two directions.
    assert len(np.unique(found[(steps == 0).all((1, 2))].reshape(-1, PICTURE.size), axis=0)) == 13


def test_trivial_augment_draws_strengths_up_to_its_own():
    _, targets = kinds(trivial_augment, np.float32([[16, 12], [26, 12]]))
    steps = targets.keypoints - np.float32([[16, 12], [26, 12]])
    along = np.abs(steps[(steps[:, 0, 1] == 0) & (steps[:, 0, 0] != 0), 0, 0])
    # Multiples of 32 / 30 up to 32.
    np.testing.assert_allclose(along * 30 / 32, np.round(along * 30 / 32), atol=1e-3)
    assert along.max() > 25
    assert len(np.unique(np.round(along, 2))) > 10


def test_float32_comes_out_on_256_levels_and_nothing_is_done_by_none():
    unit = np.float32(PICTURE[None] / 255)
    np.testing.assert_array_equal(rand_augment(KEY, jnp.asarray(unit), number=0), unit)
    change = partial(rand_augment, number=2, magnitude=5.0)
    found, levels = run_unoptimised(lambda x, f: (change(KEY, f), change(KEY, x)), PICTURE[None], unit)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found * 255, levels, atol=1e-4)
    assert (levels != PICTURE).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: rand_augment(KEY, x, number=-1), "number=-1"),
        (lambda x: rand_augment(KEY, x, magnitude=15.0), r"magnitude=15\.0; expected 0 to 10"),
        (lambda x: trivial_augment(KEY, x[..., :2]), "2 channels"),
    ],
)
def test_what_is_out_of_range(monkeypatch, call, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        call(jnp.asarray(PICTURE[None]))
