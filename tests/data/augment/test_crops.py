"""Crops and mirrors against NumPy and Pillow, and by their distribution."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from PIL import Image

from cnnjax.data.augment import Targets, crop_and_resize, flip, pad_and_crop, random_resized_crop
from tests.models.quick import run_unoptimised

KEY = jax.random.key(3)
generator = np.random.default_rng(0)
IMAGES = generator.integers(1, 255, (64, 6, 5, 3)).astype(np.uint8)
# A point, its box and its mask on one pixel of each picture, (x, y) = (1, 2).
MARKED = Targets(
    boxes=np.tile(np.float32([1, 2, 2, 3]), (64, 1, 1)),
    masks=np.tile(np.arange(30).reshape(6, 5) == 11, (64, 1, 1)),
    keypoints=np.tile(np.float32([1.5, 2.5]), (64, 1, 1)),
)


def pixels_under(images, targets):
    """What each picture shows under its point; None where the point has left it."""
    found = []
    for image, ((x, y),) in zip(np.asarray(images), np.asarray(targets.keypoints), strict=True):
        inside = 0 <= x < image.shape[1] and 0 <= y < image.shape[0]
        found.append(image[int(y), int(x)] if inside else None)
    return found


def test_shifts_are_crops_of_the_padded_picture():
    moved = run_unoptimised(lambda key, x: pad_and_crop(key, x, pixels=2), KEY, IMAGES)
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
    corners = []
    for image, frame in zip(moved, padded, strict=True):
        found = [(y, x) for y in range(5) for x in range(5) if np.array_equal(frame[y : y + 6, x : x + 5], image)]
        assert len(found) == 1
        corners += found
    # All 25 places are drawn from: with 64 pictures at least 15 are nearly certain.
    assert len(set(corners)) >= 15
    assert moved.dtype == np.uint8


def test_what_moves_along_with_a_shift():
    moved, targets = run_unoptimised(lambda *a: pad_and_crop(*a, pixels=2, fill=1.0), KEY, IMAGES, MARKED)
    boxes, masks = np.asarray(targets.boxes[:, 0]), np.asarray(targets.masks)
    for image, shown, box, mask in zip(IMAGES, pixels_under(moved, targets), boxes, masks, strict=True):
        if shown is None:
            assert (box[2:] <= box[:2]).any()
            assert not mask.any()
        else:
            np.testing.assert_array_equal(shown, image[2, 1])
            assert np.argwhere(mask).tolist() == [[box[1], box[0]]]
    assert (np.asarray(moved) == 255).any()


@pytest.mark.parametrize(("direction", "axis"), [("horizontal", 1), ("vertical", 0)])
def test_flip_mirrors_about_half_each_by_its_own_draw(direction, axis):
    flipped, targets = run_unoptimised(lambda *a: flip(*a, direction=direction), KEY, IMAGES, MARKED)
    mirrored = [np.array_equal(a, np.flip(b, axis)) for a, b in zip(flipped, IMAGES, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(flipped, IMAGES, strict=True)]
    assert np.logical_xor(mirrored, same).all()
    assert 16 <= sum(mirrored) <= 48
    np.testing.assert_array_equal(np.stack(pixels_under(flipped, targets)), IMAGES[:, 2, 1])
    for box, mask in zip(np.asarray(targets.boxes[:, 0]), np.asarray(targets.masks), strict=True):
        assert np.argwhere(mask).tolist() == [[box[1], box[0]]]
        assert (box[2:] - box[:2] == 1).all()


def test_flips_of_probability_zero_and_one_and_of_other_types():
    maps = jnp.asarray(IMAGES.astype(np.int32))
    np.testing.assert_array_equal(flip(KEY, maps, probability=1.0), IMAGES[:, :, ::-1])
    np.testing.assert_array_equal(flip(KEY, maps, probability=0.0), IMAGES)


def test_crop_and_resize_is_pillows():
    pictures = generator.integers(0, 256, (4, 20, 30, 3)).astype(np.uint8)
    windows = np.asarray([[0, 0, 30, 20], [3, 5, 27, 17], [10, 2, 15, 9], [29, 19, 30, 20]], np.float32)
    points = np.stack([windows[:, :2], windows[:, 2:]], 1)
    masks = generator.integers(0, 9, (4, 20, 30)).astype(np.uint8)
    targets = Targets(masks=masks, keypoints=points, boxes=windows[:, None])
    found, targets = run_unoptimised(lambda *a: crop_and_resize(*a, size=(8, 12)), pictures, windows, targets)
    assert found.dtype == jnp.uint8
    for picture, mask, window, result, sampled in zip(pictures, masks, windows, found, targets.masks, strict=True):
        part = Image.fromarray(picture).crop(tuple(window.astype(int)))
        expected = np.asarray(part.resize((12, 8), Image.Resampling.BILINEAR), int)
        assert np.abs(np.asarray(result, int) - expected).max() <= 1
        nearest = Image.fromarray(mask).crop(tuple(window.astype(int))).resize((12, 8), Image.Resampling.NEAREST)
        np.testing.assert_array_equal(sampled, nearest)
    np.testing.assert_allclose(targets.keypoints, np.tile(np.float32([[0, 0], [12, 8]]), (4, 1, 1)), atol=1e-4)
    np.testing.assert_allclose(targets.boxes, np.tile(np.float32([0, 0, 12, 8]), (4, 1, 1)), atol=1e-4)


def crops(shape, **options):
    """The windows (x_min, y_min, x_max, y_max) of 500 crops, read off what the map did to two points."""
    corners = np.tile(np.float32([[0, 0], [shape[1], shape[0]]]), (500, 1, 1))
    images = np.zeros((500, *shape, 1), np.float32)
    transform = partial(random_resized_crop, size=(1, 1), **options)
    _, targets = run_unoptimised(transform, KEY, images, Targets(keypoints=corners))
    low, high = np.moveaxis(targets.keypoints, 1, 0)
    sides = np.asarray(shape[::-1]) / (high - low)
    return np.concatenate([-low * sides, (1 - low) * sides], 1)


def test_random_resized_crops_follow_inceptions_rule():
    windows = crops((60, 80))
    np.testing.assert_allclose(windows, np.round(windows), atol=0.02)
    windows = np.round(windows)
    wide, tall = (windows[:, 2:] - windows[:, :2]).T
    assert (windows >= 0).all()
    assert (windows[:, 2:] <= [80, 60]).all()
    share, aspect = wide * tall / 4800, wide / tall
    assert 0.075 < share.min() < 0.12
    assert share.max() > 0.85
    assert 0.72 < aspect.min() < 0.78
    assert 1.28 < aspect.max() < 1.39
    assert abs(np.median(np.log(aspect[share < 0.5]))) < 0.08
    # Small shares are drawn as often as others, 10 % below 0.172, and fit more often.
    assert 0.08 < (share < 0.172).mean() < 0.2
    # Places are uniform: the room left of a crop is half of all, in the mean.
    room = 80 - wide
    assert abs((windows[:, 0] / np.maximum(room, 1))[room > 5].mean() - 0.5) < 0.05


def test_where_no_crop_fits_the_middle_is_taken():
    np.testing.assert_allclose(crops((60, 20), area=(1.0, 1.0))[0], [0, 16, 20, 43], atol=0.02)  # 20 / 0.75 = 26.7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: pad_and_crop(KEY, x, pixels=-1), "pixels=-1"),
        (lambda x: flip(KEY, x, probability=1.5), "probability=1.5; expected 0 to 1"),
        (lambda x: flip(KEY, x, direction="diagonal"), "direction='diagonal'"),
        (lambda x: random_resized_crop(KEY, x, size=(0, 3)), r"size=\(0, 3\)"),
        (lambda x: random_resized_crop(KEY, x, size=(3, 3), area=(0.5, 1.2)), "area=.* within 1e-06 to 1"),
        (lambda x: random_resized_crop(KEY, x, size=(3, 3), aspect=(2.0, 1.0)), "aspect="),
        (lambda x: crop_and_resize(x, jnp.zeros((64, 2)), size=(3, 3)), r"expected \(64, 4\)"),
    ],
)
def test_what_is_out_of_range(monkeypatch, call, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        call(jnp.asarray(IMAGES))


def test_windows_beyond_the_picture_show_the_canvas_as_pillow_resizes_it():
    pictures = generator.integers(0, 256, (4, 9, 12, 3)).astype(np.uint8)
    masks = generator.integers(1, 9, (4, 9, 12)).astype(np.uint8)
    windows = np.asarray([[-6, -4, 25, 17], [-3, 2, 7, 20], [5, -9, 30, 4], [40, 40, 52, 49]], np.float32)
    transform = partial(crop_and_resize, size=(7, 10), fill=(0.2, 0.4, 0.6))
    found, targets = run_unoptimised(transform, pictures, windows, Targets(masks=masks))
    for picture, mask, window, result, sampled in zip(pictures, masks, windows, found, targets.masks, strict=True):
        canvas = np.zeros((109, 112, 3), np.uint8) + np.uint8([51, 102, 153])
        canvas[50:59, 50:62] = picture
        part = Image.fromarray(canvas).crop(tuple(window.astype(int) + 50))
        expected = np.asarray(part.resize((10, 7), Image.Resampling.BILINEAR), int)
        assert np.abs(np.asarray(result, int) - expected).max() <= 1
        beyond = Image.fromarray(np.pad(mask, 50)).crop(tuple(window.astype(int) + 50))
        np.testing.assert_array_equal(sampled, beyond.resize((10, 7), Image.Resampling.NEAREST))
