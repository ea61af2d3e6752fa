"""Changes of pictures by hand: exact where pixels move by whole numbers, and in their promised amounts elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.analysis import challenges, changes
from cnnjax.data.augment.matrices import transform_points

KEY = jax.random.key(0)
PICTURES = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 8, 12, 2)).astype(np.float32))


def apply(change, severity, pictures=PICTURES):
    return np.asarray(change.apply(KEY, pictures, severity))


def test_shifts_by_whole_and_half_pixels():
    moved = apply(changes.shift(2.0), 2.0)
    np.testing.assert_allclose(moved[:, :, 2:], PICTURES[:, :, :-2], atol=1e-5)
    np.testing.assert_array_equal(moved[:, :, :2], 0)
    half = apply(changes.shift(0.5), 0.5)
    np.testing.assert_allclose(half[:, :, 1:], (PICTURES[:, :, 1:] + PICTURES[:, :, :-1]) / 2, atol=1e-5)
    rolled = apply(changes.circular_shift(3.0), 3.0)
    np.testing.assert_array_equal(rolled, np.roll(PICTURES, 3, 2))
    quarter = apply(changes.circular_shift(0.25), 0.25)
    np.testing.assert_allclose(quarter, 0.75 * PICTURES + 0.25 * np.roll(PICTURES, 1, 2), atol=1e-6)


def test_turns_mirrors_and_scales():
    square = PICTURES[:, :, :8]
    # Against the clock, as NumPy turns.
    np.testing.assert_allclose(apply(changes.rotation(90.0), 90.0, square), np.rot90(square, 1, (1, 2)), atol=1e-5)
    np.testing.assert_array_equal(apply(changes.mirror(), 1.0), PICTURES[:, :, ::-1])
    flat = jnp.full((1, 8, 8, 1), 0.7)
    smaller = apply(changes.scale(0.5), 0.5, flat)[0, ..., 0]
    assert np.allclose(smaller[2:6, 2:6], 0.7)
    assert smaller.sum() == pytest.approx(0.7 * 16, rel=0.05)


def test_a_turned_plane_keeps_its_axis_and_is_foreshortened():
    matrix = changes.viewpoint(60.0).matrix(60.0, 8, 12)
    points = jnp.asarray([[[6.0, 0.0], [6.0, 8.0], [12.0, 4.0], [0.0, 4.0]]])
    top, bottom, right, left = np.asarray(transform_points(matrix, points))[0]
    np.testing.assert_allclose([top, bottom], [[6, 0], [6, 8]], atol=1e-4)
    # 6 to the right of the axis: 6 cos 60 at the depth 24 + 6 sin 60, seen from 24 away.
    np.testing.assert_allclose(right, [6 + 3 * 24 / (24 + 6 * np.sin(np.pi / 3)), 4], atol=1e-3)
    np.testing.assert_allclose(left, [6 - 3 * 24 / (24 - 6 * np.sin(np.pi / 3)), 4], atol=1e-3)


def test_light_noise_and_blocks():
    np.testing.assert_allclose(apply(changes.illumination(0.5), 0.5), PICTURES / 2)
    assert apply(changes.illumination(4.0), 4.0).max() == 1
    grey = jnp.full((4, 32, 32, 3), 0.5)
    noisy = apply(changes.noise(0.1), 0.1, grey)
    assert noisy.std() == pytest.approx(0.1, rel=0.05)
    blocks = apply(changes.pixelation(4.0), 4.0)
    means = np.asarray(PICTURES).reshape(3, 2, 4, 3, 4, 2).mean((2, 4))
    np.testing.assert_allclose(blocks, means.repeat(4, 1).repeat(4, 2), rtol=1e-5)


def test_covered_and_cluttered_pictures():
    covered = apply(changes.covering(0.25), 0.25)
    changed = (covered != PICTURES).any(-1)
    assert changed.sum((1, 2)).tolist() == [4 * 6] * 3  # a quarter of 8 x 12
    assert np.unique(covered[changed]).tolist() == [0.5]
    for mask in changed:
        rows, columns = np.nonzero(mask)
        assert (np.ptp(rows), np.ptp(columns)) == (3, 5)
    solid = jnp.arange(3.0)[:, None, None, None] * jnp.ones((1, 8, 12, 1)) / 2
    cluttered = apply(changes.clutter(1.0), 1.0, solid)
    assert [(picture != own).sum() for picture, own in zip(cluttered, solid, strict=True)] == [2 * 3] * 3
    np.testing.assert_array_equal(apply(changes.covering(0.0), 0.0), PICTURES)


def test_deformations_have_the_promised_size():
    ramp = jnp.broadcast_to(jnp.arange(64.0)[None, None, :, None] / 64, (8, 64, 64, 1))
    bent = apply(changes.deformation(1.5), 1.5, ramp)
    moved = 64 * (bent - ramp)[:, 8:-8, 8:-8]
    assert moved.std() == pytest.approx(1.5, rel=0.25)


@pytest.mark.parametrize(
    ("change", "severity", "message"),
    [
        (changes.pixelation(0.0), 0.0, "pixelation by 0.0; expected a number of pixels above 0"),
        (changes.covering(2.0), 2.0, "occlusion of 2.0; expected a share of the area"),
        (changes.clutter(1.0), 1.0, "one picture came; clutter is cut from others"),
    ],
    ids=["pixelation", "occlusion", "clutter"],
)
def test_severities_that_cannot_be(change, severity, message):
    with pytest.raises(ValueError, match=message):
        apply(change, severity, PICTURES[:1])


def test_all_challenges_of_the_lecture_notes_are_there():
    found = challenges(32)
    assert [change.name for change in found] == [
        *("shift", "rotation", "scale", "reflection", "viewpoint", "illumination"),
        *("deformation", "occlusion", "clutter", "pixelation", "noise"),
    ]
    for change in found:
        assert len(set(change.severities)) == len(change.severities) >= 1
        changed = apply(change, change.severities[-1])
        assert changed.shape == PICTURES.shape
        assert np.isfinite(changed).all()
        assert not np.allclose(changed, PICTURES)
    assert max(challenges(224)[0].severities) > max(found[0].severities)
