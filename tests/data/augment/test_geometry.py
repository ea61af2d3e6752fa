"""Random maps against Pillow and scipy at fixed settings, and by their distribution."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from cnnjax.data.augment import Targets, affine, elastic, perspective, rotation, scale, shear, translation
from tests.models.quick import run_unoptimised

KEY = jax.random.key(1)
generator = np.random.default_rng(0)
PICTURE = (scipy.ndimage.gaussian_filter(generator.uniform(size=(24, 16)), 1.5) * 900).astype(np.uint8)
IMAGES = jnp.asarray(np.stack([PICTURE] * 3)[..., None])
# Far more points than pictures, each where it is told apart: how a map moved is read off them.
POINTS = jnp.asarray(np.stack([[[8, 12], [12, 12], [8, 16]]] * 300), jnp.float32)
BLANK = jnp.zeros((300, 24, 16, 1))


def by_pillow(matrix):
    """`matrix` moves points; Pillow asks where pixels come from."""
    coefficients = np.linalg.inv(matrix)[:2].ravel()
    moved = Image.fromarray(PICTURE).transform(
        (16, 24), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    return np.asarray(moved, int)


def inner(picture):
    """Without what Pillow, which repeats the outermost half pixel, decides otherwise at the border of the fill."""
    return picture[4:-4, 4:-4]


@pytest.mark.parametrize(
    ("transform", "matrix"),
    [
        (lambda x: rotation(KEY, x, degrees=(20.0, 20.0)), None),
        (lambda x: translation(KEY, x, share=(0.25, 0.25)), [[1, 0, 4], [0, 1, 6], [0, 0, 1]]),
        (lambda x: scale(KEY, x, factors=(1.5, 1.5)), [[1.5, 0, -4], [0, 1.5, -6], [0, 0, 1]]),
        (
            lambda x: shear(KEY, x, degrees=(10.0, 10.0)),
            np.asarray([[1, 0, 8], [0, 1, 12], [0, 0, 1]])
            @ [[1, 0, 0], [np.tan(np.pi / 18), 1, 0], [0, 0, 1]]
            @ [[1, np.tan(np.pi / 18), 0], [0, 1, 0], [0, 0, 1]]
            @ [[1, 0, -8], [0, 1, -12], [0, 0, 1]],
        ),
    ],
    ids=["rotation", "translation", "scale", "shear"],
)
def test_fixed_settings_are_pillows(transform, matrix):
    found = run_unoptimised(transform, IMAGES).astype(int)
    expected = (
        np.asarray(Image.fromarray(PICTURE).rotate(20, Image.Resampling.BILINEAR), int)
        if matrix is None
        else by_pillow(np.asarray(matrix, float))
    )
    for picture in found[..., 0]:
        assert np.abs(inner(picture) - inner(expected)).max() <= 1


def maps(transform):
    """The linear part (batch, 2, 2) and the shift of the centre (batch, 2) of the maps that moved the points."""
    _, moved = run_unoptimised(transform, KEY, BLANK, Targets(keypoints=POINTS))
    points = moved.keypoints
    linear = np.stack([points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]], -1) / 4
    return linear, points[:, 0] - [8, 12]


def test_each_image_has_a_draw_of_its_own_within_the_ranges():
    linear, shifts = maps(partial(affine, degrees=30.0, share=(-0.25, 0.5), factors=(0.5, 2.0)))
    factors = np.sqrt(np.linalg.det(linear))
    angles = np.rad2deg(np.arctan2(linear[:, 0, 1], linear[:, 0, 0]))
    assert len(np.unique(angles)) == 300
    assert -30 <= angles.min() < -28
    assert 28 < angles.max() <= 30
    assert 0.5 <= factors.min() < 0.53
    assert 1.9 < factors.max() <= 2.0001
    assert abs(np.median(factors) - 1) < 0.15  # as many halve as double
    for axis, length in ((0, 16), (1, 24)):
        assert -0.25 * length <= shifts[:, axis].min() < -0.22 * length
        assert 0.47 * length < shifts[:, axis].max() <= 0.5 * length
    drawn = np.stack([angles, np.log(factors), *shifts.T])
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.2


def test_perspective_pulls_corners_inwards_each_by_itself():
    corners = jnp.asarray(np.stack([[[0, 0], [16, 0], [16, 24], [0, 24]]] * 300), jnp.float32)
    _, moved = run_unoptimised(partial(perspective, share=0.5), KEY, BLANK, Targets(keypoints=corners))
    pulls = np.abs(np.asarray(moved.keypoints) - np.asarray(corners)) / [8, 12]
    assert pulls.min() >= -1e-4
    assert 0.48 < pulls.max() <= 0.5001
    drawn = pulls.reshape(300, 8).T
    assert np.abs(np.corrcoef(drawn) - np.eye(8)).max() < 0.25
    np.testing.assert_allclose(drawn.mean(1), 0.25, atol=0.04)


def test_elastic_fields_have_the_stated_size_and_bend_targets_too():
    """How far points moved, all over the picture: the field's deviation is 0.163 alpha / sigma."""
    where = np.stack(np.meshgrid(np.arange(1, 24, 5.0), np.arange(1, 24, 5.0)), -1).reshape(1, -1, 2)
    points = jnp.asarray(np.repeat(where, 60, 0), jnp.float32)
    pictures = jnp.zeros((60, 24, 24, 1))
    _, moved = run_unoptimised(partial(elastic, alpha=20.0, sigma=3.0), KEY, pictures, Targets(keypoints=points))
    steps = np.asarray(moved.keypoints) - np.asarray(points)
    assert abs(steps.mean()) < 0.1
    np.testing.assert_allclose(steps.std(axis=(0, 1)), 0.163 * 20 / 3, rtol=0.12)
    # As large at the border as in the middle.
    np.testing.assert_allclose(steps[:, 0].std() / steps[:, 12].std(), 1, atol=0.35)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: rotation(KEY, x, degrees=-5.0), "degrees=-5.0"),
        (lambda x: translation(KEY, x, share=1.5), "within -1 to 1"),
        (lambda x: scale(KEY, x, factors=(0.0, 1.0)), "factors="),
        (lambda x: shear(KEY, x, degrees=(0.0, 90.0)), "within -80 to 80"),
        (lambda x: perspective(KEY, x, share=0.7), "share=0.7; expected 0 to 0.6"),
        (lambda x: elastic(KEY, x, alpha=-1.0), "alpha=-1.0"),
        (lambda x: elastic(KEY, x, sigma=0.0), "sigma=0.0"),
        (lambda x: rotation(KEY, x[0], degrees=5.0), "expected \\(batch, height, width, channels\\)"),
    ],
)
def test_what_is_no_range(monkeypatch, call, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        call(IMAGES)
