"""The sampler against scipy.ndimage, which counts from the first centre, and targets that stay on their pixel."""

from functools import partial

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.ndimage

from cnnjax.data.augment import Targets, displace, warp
from tests.models.quick import run_unoptimised

generator = np.random.default_rng(0)
IMAGES = generator.uniform(size=(3, 7, 9, 2)).astype(np.float32)
MASKS = generator.integers(1, 9, (3, 7, 9)).astype(np.int32)
# A turn with a shear, an enlargement with a shift, and a perspective.
MATRICES = np.asarray(
    [
        [[0.9, 0.4, -1.0], [-0.3, 1.1, 2.0], [0, 0, 1]],
        [[1.7, 0, -2.3], [0, 1.4, 0.6], [0, 0, 1]],
        [[1.1, 0.2, -0.5], [0.1, 0.8, 1.0], [0.03, 0.01, 1]],
    ],
    np.float32,
)
FIELDS = np.stack(
    [scipy.ndimage.gaussian_filter(generator.normal(size=(7, 9, 2)), (1.5, 1.5, 0)) for _ in range(3)]
).astype(np.float32)


def run(function, *arguments, **options):
    return run_unoptimised(partial(function, **options), *arguments)


def sources(matrix):
    """(row, column), from the first pixel's centre, that end on each pixel."""
    row, column = np.meshgrid(np.arange(7) + 0.5, np.arange(9) + 0.5, indexing="ij")
    x, y, w = np.einsum("ij,jhw->ihw", np.linalg.inv(matrix.astype(np.float64)), [column, row, np.ones((7, 9))])
    return np.stack([y / w - 0.5, x / w - 0.5])


def by_scipy(image, places, fill):
    channels = [
        scipy.ndimage.map_coordinates(image[..., c].astype(np.float64), places, order=1, mode="grid-constant", cval=f)
        for c, f in enumerate(fill)
    ]
    return np.stack(channels, -1)


def test_warp_is_scipys_linear_interpolation():
    found = run(warp, IMAGES, MATRICES, fill=(0.25, 1.0))
    for image, matrix, result in zip(IMAGES, MATRICES, found, strict=True):
        np.testing.assert_allclose(result, by_scipy(image, sources(matrix), (0.25, 1.0)), atol=2e-5)


def test_bytes_are_rounded_and_masks_nearest():
    levels = np.round(IMAGES * 255).astype(np.uint8)
    found, targets = run(warp, levels, MATRICES, Targets(masks=MASKS))
    assert found.dtype == jnp.uint8
    assert targets.masks.dtype == jnp.int32
    for image, mask, matrix, result, moved in zip(levels, MASKS, MATRICES, found, targets.masks, strict=True):
        expected = by_scipy(image, sources(matrix), (0, 0))
        assert np.abs(np.asarray(result) - expected).max() < 0.501
        row, column = np.floor(sources(matrix) + 0.5).astype(int)
        inside = (row >= 0) & (row < 7) & (column >= 0) & (column < 9)
        np.testing.assert_array_equal(moved, np.where(inside, mask[row.clip(0, 6), column.clip(0, 8)], 0))


def test_nothing_moves_by_the_identity_and_whole_pixels_move_exactly():
    shift = np.eye(3, dtype=np.float32) + np.asarray([[0, 0, 2], [0, 0, -1], [0, 0, 0]], np.float32)
    found = np.asarray(run(warp, IMAGES, np.stack([np.eye(3, dtype=np.float32), shift, np.eye(3, dtype=np.float32)])))
    np.testing.assert_array_equal(found[[0, 2]], IMAGES[[0, 2]])
    np.testing.assert_array_equal(found[1, :6, 2:], IMAGES[1, 1:, :7])
    assert (found[1, 6] == 0).all()
    assert (found[1, :, :2] == 0).all()


def test_what_a_perspective_sees_from_behind_is_filled():
    matrix = np.asarray([[1, 0, 0], [0, 1, 0], [-0.25, 0, 1]], np.float32)  # the horizon is x = 4
    found = np.asarray(run(warp, np.ones_like(IMAGES), np.stack([matrix] * 3)))
    # x goes to x / (1 - x / 4): the source of u, u / (1 + u / 4), is within the picture for all u shown.
    np.testing.assert_allclose(found[:, 3:6, 1:], 1, atol=1e-5)
    beyond = np.asarray(run(warp, np.ones_like(IMAGES), np.stack([np.linalg.inv(matrix)] * 3)))
    # Seen back, only u below 4 has a source.
    assert (beyond[:, :, 4:] == 0).all()
    np.testing.assert_allclose(beyond[:, 0, 1], 1, atol=1e-5)


def test_displace_is_scipys_and_points_stay_on_what_they_mark():
    points = generator.uniform(2, 5, (3, 6, 2)).astype(np.float32)
    found, targets = run(displace, IMAGES, FIELDS, Targets(keypoints=points, masks=MASKS))
    row, column = np.meshgrid(np.arange(7.0), np.arange(9.0), indexing="ij")
    for image, field, result, was, now in zip(IMAGES, FIELDS, found, points, targets.keypoints, strict=True):
        expected = by_scipy(image, np.stack([row + field[..., 1], column + field[..., 0]]), (0, 0))
        np.testing.assert_allclose(result, expected, atol=2e-5)
        # Back from where it went, by the field as scipy interpolates it.
        places = np.asarray(now)[:, ::-1].T - 0.5
        back = [scipy.ndimage.map_coordinates(field[..., axis], places, order=1, mode="nearest") for axis in (0, 1)]
        np.testing.assert_allclose(np.asarray(now) + np.stack(back, -1), was, atol=1e-4)


def test_a_marked_pixel_stays_under_its_point_its_box_and_its_mask():
    pictures = np.zeros((3, 24, 24, 1), np.float32)
    pictures[:, 9:12, 13:16] = 1
    targets = Targets(
        boxes=np.tile(np.float32([13, 9, 16, 12]), (3, 1, 1)),
        masks=pictures[..., 0] > 0,
        keypoints=np.full((3, 1, 2), [14.5, 10.5], np.float32),
    )
    scaled = MATRICES * np.float32([[1, 1, 2], [1, 1, 2], [0.3, 0.3, 1]])
    found, moved = run(warp, pictures, scaled, targets)
    where = np.arange(24) + 0.5
    for picture, box, mask, point in zip(found[..., 0], moved.boxes, moved.masks, moved.keypoints, strict=True):
        centre = (picture.sum(0) @ where / picture.sum(), picture.sum(1) @ where / picture.sum())
        np.testing.assert_allclose(point[0], centre, atol=0.25)
        rows, columns = np.nonzero(np.asarray(mask))
        around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(box[0], around, atol=1.0)


def test_what_does_not_fit(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    images = jnp.asarray(IMAGES)
    with pytest.raises(ValueError, match=r"matrices have shape \(2, 3, 3\); expected \(3, 3, 3\)"):
        warp(images, jnp.asarray(MATRICES[:2]))
    with pytest.raises(ValueError, match=r"fields have shape \(3, 9, 7, 2\); expected \(3, 7, 9, 2\)"):
        displace(images, jnp.asarray(FIELDS.swapaxes(1, 2)))
    with pytest.raises(ValueError, match="fill=-1"):
        warp(images, jnp.asarray(MATRICES), fill=-1.0)
