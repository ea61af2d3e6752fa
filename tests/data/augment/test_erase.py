"""What is covered: how much, where, how often, and by what."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.data.augment import Targets, cutout, random_erasing
from cnnjax.data.augment.erase import inside
from tests.models.quick import run_unoptimised

KEY = jax.random.key(6)
GREY = np.full((400, 12, 16, 3), 100, np.uint8)


def rectangle(covered):
    """Top, left, height and width of what is covered, which is all of a rectangle."""
    rows, columns = (np.flatnonzero(covered.any(axis)) for axis in (1, 0))
    assert covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    return rows[0], columns[0], len(rows), len(columns)


def test_inside_are_the_pixels_whose_centres_are():
    found = inside(3, 4, jnp.asarray([[0.0, 1.0], [-2.0, 3.4]]), jnp.asarray([[2.0, 3.0], [1.6, 9.0]]))
    first, second = np.zeros((2, 3, 4), bool)
    first[:2, 1:3] = True
    second[:2, 3] = True
    np.testing.assert_array_equal(found[..., 0], [first, second])


def test_cutout_covers_a_square_about_any_pixel():
    found = run_unoptimised(partial(cutout, side=5, fill=(0.0, 1.0, 0.5)), KEY, GREY)
    places = set()
    for picture in found:
        covered = (picture != 100).any(-1)
        np.testing.assert_array_equal(picture[covered], np.broadcast_to([0, 255, 128], picture[covered].shape))
        top, left, tall, wide = rectangle(covered)
        # A side that is cut tells the other end of the square.
        centre = (top + tall - 3 if top == 0 else top + 2, left + wide - 3 if left == 0 else left + 2)
        assert tall == min(centre[0] + 2, 11) - max(centre[0] - 2, 0) + 1
        assert wide == min(centre[1] + 2, 15) - max(centre[1] - 2, 0) + 1
        places.add(centre)
    # 400 draws of 192 places leave about an eighth of them out.
    assert len(places) > 140
    assert {row for row, _ in places} == set(range(12))
    assert {column for _, column in places} == set(range(16))


def test_erasing_covers_its_share_of_pictures_by_noise():
    found = run_unoptimised(partial(random_erasing, probability=0.7, area=(0.1, 0.4)), KEY, GREY)
    covered = (found != 100).any(-1)
    changed = covered.any((1, 2))
    assert 0.6 < changed.mean() < 0.8
    sizes = []
    for picture, mask in zip(found[changed], covered[changed], strict=True):
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        sizes.append((len(rows), len(columns)))
        # Of noise, one pixel in 256 ** 3 is as it was.
        assert mask.sum() == len(rows) * len(columns)
        assert np.unique(picture[mask]).size > mask.sum() / 3
    tall, wide = np.transpose(sizes)
    share = tall * wide / 192
    assert 0.08 < share.min() < 0.13
    assert 0.36 < share.max() < 0.43
    assert (tall / wide).min() < 0.45
    assert (tall / wide).max() > 2
    noise = found[covered]
    assert abs(noise.mean() - 127.5) < 3
    assert len(np.unique(noise)) == 256


def test_erasing_by_a_colour_in_float32():
    pictures = np.full((2, 8, 8, 1), 0.25, np.float32)
    change = partial(random_erasing, probability=1.0, area=(0.25, 0.25), aspect=(1.0, 1.0), fill=1.0)
    found = run_unoptimised(change, KEY, pictures)
    for picture in found[..., 0]:
        assert rectangle(picture == 1)[2:] == (4, 4)
        assert ((picture == 1) | (picture == 0.25)).all()


def test_targets_stay_and_bad_options():
    targets = Targets(keypoints=jnp.ones((2, 1, 2)))
    images = jnp.zeros((2, 8, 8, 1))
    assert cutout(KEY, images, targets, side=2)[1] is targets
    for call, message in (
        (lambda: cutout(KEY, images, side=0), "side=0; expected 1 or more"),
        (lambda: random_erasing(KEY, images, probability=2.0), "probability=2"),
        (lambda: random_erasing(KEY, images, area=(0.0, 0.5)), "area="),
        (lambda: random_erasing(KEY, images, aspect=(2.0, 0.5)), "in order"),
        (lambda: random_erasing(KEY, images, fill=2.0), "fill=2.0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
