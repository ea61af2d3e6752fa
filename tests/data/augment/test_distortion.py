"""SSD's distortion of colours by its steps in NumPy, and U-Net's elastic grid against Pillow and scipy."""

import colorsys
from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from cnnjax.data.augment import Targets, elastic_grid, photometric_distortion
from tests.models.quick import run_unoptimised

KEY = jax.random.key(4)
generator = np.random.default_rng(0)
LUMA = np.asarray([0.299, 0.587, 0.114])


def lit(picture):
    return np.clip(picture * 1.25, 0, 1)


def contrasted(picture):
    mean = (picture @ LUMA).mean()
    return np.clip(mean + 0.6 * (picture - mean), 0, 1)


def coloured(picture):
    grey = (picture @ LUMA)[..., None]
    return np.clip(grey + 1.4 * (picture - grey), 0, 1)


def turned(picture):
    hsv = (colorsys.rgb_to_hsv(*pixel) for pixel in picture.reshape(-1, 3))
    return np.asarray([colorsys.hsv_to_rgb((h + 0.2) % 1, s, v) for h, s, v in hsv]).reshape(picture.shape)


def test_each_picture_is_one_of_the_ways_through_the_steps():
    images = np.tile(generator.uniform(0.2, 0.9, (1, 4, 5, 3)).astype(np.float32), (400, 1, 1, 1))
    fixed = {"brightness": (1.25, 1.25), "contrast": (0.6, 0.6), "saturation": (1.4, 1.4), "hue": (0.2, 0.2)}
    targets = Targets(boxes=np.ones((400, 1, 4), np.float32))
    found, same = run_unoptimised(partial(photometric_distortion, **fixed), KEY, images, targets)
    np.testing.assert_array_equal(same.boxes, targets.boxes)
    ways = {}
    for way in range(32):
        light, contrast, colour, turn, second = (bool(way >> bit & 1) for bit in range(5))
        expected = lit(images[0]) if light else images[0]
        expected = contrasted(expected) if contrast and second else expected
        expected = coloured(expected) if colour else expected
        expected = turned(expected) if turn else expected
        expected = contrasted(expected) if contrast and not second else expected
        for number in np.flatnonzero(np.abs(found - expected).max((1, 2, 3)) < 2e-5):
            ways.setdefault(int(number), (light, contrast, colour, turn, second))
    assert len(ways) == 400
    # Each of the four for half of the pictures, independently.
    chosen = np.asarray(list(ways.values()), float)[:, :4]
    np.testing.assert_allclose(chosen.mean(0), 0.5, atol=0.09)
    assert np.abs(np.corrcoef(chosen.T) - np.eye(4)).max() < 0.2
    after = [second for light, contrast, colour, turn, second in ways.values() if contrast and colour]
    assert 0.3 < np.mean(after) < 0.7


def test_bytes_grey_pictures_and_no_chance():
    images = generator.integers(0, 256, (8, 4, 5, 3)).astype(np.uint8)
    np.testing.assert_array_equal(photometric_distortion(KEY, jnp.asarray(images), probability=0.0), images)
    changed = run_unoptimised(partial(photometric_distortion, probability=1.0), KEY, images)
    assert changed.dtype == np.uint8
    assert (changed != images).any((1, 2, 3)).all()
    again = run_unoptimised(partial(photometric_distortion, probability=1.0), jax.random.split(KEY, 8)[5:], images[5:])
    np.testing.assert_array_equal(again, changed[5:])
    assert run_unoptimised(photometric_distortion, KEY, images[..., :1]).shape == (8, 4, 5, 1)


def test_fields_are_small_pictures_of_vectors_resized_as_pillow_does():
    """Ramps of x and y, and points all over, tell the field; that of Pillow's is the one through its own 3x3 values."""
    height, width = 36, 48
    y, x = np.mgrid[:height, :width] + 0.5
    ramps = np.stack([x / width, y / height], -1).astype(np.float32)
    images = np.tile(ramps, (5, 1, 1, 1))
    masks = np.tile(np.arange(height * width).reshape(height, width), (5, 1, 1))
    places = np.tile(np.float32([[12, 9], [24, 18], [36, 27]]), (5, 1, 1))
    targets = Targets(masks=masks, keypoints=places)
    transform = partial(elastic_grid, deviation=1.5)
    found, moved = run_unoptimised(transform, KEY, images, targets)
    assert not np.allclose(found[0], found[1], atol=0.01)
    small = (Image.fromarray(node.reshape(3, 3)) for node in np.eye(9, dtype=np.float32))
    basis = np.stack([np.asarray(node.resize((width, height), Image.Resampling.BICUBIC)).ravel() for node in small], 1)
    spread = []
    for ramp, mask, points in zip(found, moved.masks, moved.keypoints, strict=True):
        # Inside of the border ramps show where each pixel comes from.
        inner = (ramp * [width, height] - np.stack([x, y], -1))[6:-6, 8:-8]
        for axis in (0, 1):
            part = [column.reshape(height, width)[6:-6, 8:-8].ravel() for column in basis.T]
            nodes, *_ = np.linalg.lstsq(np.stack(part, 1), inner[..., axis].ravel(), rcond=None)
            field = (basis @ nodes).reshape(height, width)
            np.testing.assert_allclose(field[6:-6, 8:-8], inner[..., axis], atol=2e-3)
            spread += list(nodes)
            # A point moves to where the field brings it from.
            at = scipy.ndimage.map_coordinates(field, points.T[::-1] - 0.5, order=1)
            np.testing.assert_allclose(points[:, axis] + at, places[0][:, axis], atol=5e-3)
        rows, columns = (ramp * [width, height]).astype(int)[6:-6, 8:-8, ::-1].reshape(-1, 2).T
        assert (mask[6:-6, 8:-8].ravel() == rows * width + columns).mean() > 0.995
    assert 1.2 < np.std(spread) < 1.8
    assert abs(np.mean(spread)) < 0.4


def test_boxes_ride_along_and_nothing_moves_without_deviation():
    images = generator.uniform(size=(3, 12, 16, 3)).astype(np.float32)
    targets = Targets(boxes=np.tile(np.float32([[2, 3, 8, 9], [0, 0, 0, 0]]), (3, 1, 1)))
    same, boxes = run_unoptimised(partial(elastic_grid, deviation=0.0), KEY, images, targets)
    np.testing.assert_allclose(same, images, atol=1e-6)
    np.testing.assert_allclose(boxes.boxes, targets.boxes, atol=1e-6)
    _, bent = run_unoptimised(partial(elastic_grid, deviation=1.0), KEY, images, targets)
    assert (np.abs(bent.boxes[:, 0] - targets.boxes[:, 0]) > 0.05).any(-1).all()
    np.testing.assert_array_equal(bent.boxes[:, 1], np.zeros((3, 4)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: photometric_distortion(KEY, x, probability=2.0), "probability=2.0"),
        (lambda x: photometric_distortion(KEY, x, hue=0.7), "hue=0.7"),
        (lambda x: photometric_distortion(KEY, x[..., :2]), "2 channels"),
        (lambda x: elastic_grid(KEY, x, deviation=-1.0), "deviation=-1.0"),
        (lambda x: elastic_grid(KEY, x, grid=0), "grid=0"),
    ],
)
def test_what_is_no_option(monkeypatch, call, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        call(np.zeros((2, 6, 6, 3), np.float32))
