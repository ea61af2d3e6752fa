"""Augmentation: every picture by its own draw, nothing lost but what leaves the frame."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.data import augment

KEY = jax.random.key(3)
IMAGES = np.random.default_rng(0).integers(1, 255, (64, 6, 5, 2)).astype(np.uint8)


def test_shift_is_a_crop_of_the_padded_picture():
    moved = np.asarray(jax.jit(lambda key, x: augment.shift(key, x, pixels=2))(KEY, IMAGES))
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
    corners = []
    for image, frame in zip(moved, padded, strict=True):
        found = [(y, x) for y in range(5) for x in range(5) if np.array_equal(frame[y : y + 6, x : x + 5], image)]
        assert len(found) == 1
        corners += found
    # All 25 places are drawn from: with 64 pictures at least 15 are nearly certain.
    assert len(set(corners)) >= 15
    assert moved.dtype == np.uint8


def test_flip_mirrors_about_half_each_by_its_own_draw():
    flipped = np.asarray(augment.flip(KEY, jnp.asarray(IMAGES)))
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, IMAGES, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(flipped, IMAGES, strict=True)]
    assert np.logical_xor(mirrored, same).all()
    assert 16 <= sum(mirrored) <= 48


def test_on_images_touches_nothing_else_and_draws_differ_by_key():
    change = augment.on_images(lambda key, x: augment.shift(key, x, pixels=2), augment.flip)
    batch = {"image": jnp.asarray(IMAGES), "label": jnp.arange(64)}
    one, again, other = (change(jax.random.key(seed), batch) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one["label"], batch["label"])
    np.testing.assert_array_equal(one["image"], again["image"])
    assert (np.asarray(one["image"]) != np.asarray(other["image"])).any()


def test_standardize_is_numpys():
    mean, deviation = (IMAGES / 255).mean((0, 1, 2)), (IMAGES / 255).std((0, 1, 2))
    result = augment.standardize(
        {"image": jnp.asarray(IMAGES)}, mean=tuple(map(float, mean)), deviation=tuple(map(float, deviation))
    )
    np.testing.assert_allclose(result["image"], (IMAGES / 255 - mean) / deviation, rtol=1e-4, atol=1e-5)


def test_negative_shift():
    with pytest.raises(ValueError, match="pixels=-1"):
        augment.shift(KEY, jnp.asarray(IMAGES), pixels=-1)
