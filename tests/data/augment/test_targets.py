"""Boxes, masks and key points: what moves, what is cut, what is empty, and what does not fit."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from cnnjax.data.augment.targets import Targets, check_targets, choose, joined, moved

IMAGES = jnp.zeros((1, 10, 20, 3))


def move(targets):
    """3 to the right, 2 down; masks rolled."""
    shift = jnp.asarray([3.0, 2.0])[None, None]
    return moved(targets, points=lambda p: p + shift, masks=lambda m: jnp.roll(m, (2, 3), (1, 2)), size=(10, 20))


def test_boxes_are_cut_at_the_border_and_empty_ones_stay_empty():
    boxes = [[1, 1, 4, 5], [15, 6, 19, 9], [0, 0, 0, 0], [5, 5, 4, 6], [18, 1, 20, 2], [np.nan, 1, 2, 3]]
    found = np.asarray(move(Targets(boxes=jnp.asarray([boxes], jnp.float32))).boxes[0])
    np.testing.assert_array_equal(found[:4], [[4, 3, 7, 7], [18, 8, 20, 10], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert found[4].tolist() == [0, 0, 0, 0]  # outside now, and so padding
    assert np.isnan(found[5]).any()


def test_a_box_that_turns_is_the_one_around_its_corners():
    def turn(points):  # by 45 degrees about (10, 5)
        x, y = points[..., 0] - 10, points[..., 1] - 5
        return jnp.stack([10 + (x + y) * 2**-0.5, 5 + (y - x) * 2**-0.5], -1)

    box = Targets(boxes=jnp.asarray([[[9.0, 4.0, 11.0, 6.0]]]))
    found = moved(box, points=turn, masks=lambda m: m, size=(10, 20)).boxes
    np.testing.assert_allclose(found[0, 0], [10 - 2**0.5, 5 - 2**0.5, 10 + 2**0.5, 5 + 2**0.5], rtol=1e-6)


def test_keypoints_may_leave_and_types_stay():
    points = jnp.asarray([[[19.0, 9.0]]], jnp.bfloat16)
    masks = jnp.zeros((1, 10, 20), bool).at[0, 1, 2].set(True)
    found = move(Targets(masks=masks, keypoints=points))
    np.testing.assert_array_equal(found.keypoints.astype(jnp.float32), [[[22, 11]]])
    assert found.keypoints.dtype == jnp.bfloat16
    assert found.boxes is None
    np.testing.assert_array_equal(np.argwhere(np.asarray(found.masks)), [[0, 3, 5]])


def test_keypoints_of_objects_move_as_those_of_pictures():
    points = jnp.asarray(np.random.default_rng(0).uniform(0, 10, (1, 3, 5, 2)), jnp.float32)
    found = move(Targets(keypoints=points)).keypoints
    assert found.shape == points.shape
    np.testing.assert_allclose(found, np.add(points, [3, 2]), rtol=1e-6)
    check_targets(Targets(keypoints=points), IMAGES)


def test_an_object_whose_box_is_empty_is_no_longer_present():
    boxes = jnp.asarray([[[1, 1, 4, 5], [18, 1, 20, 2], [0, 0, 0, 0], [1, 1, 4, 5], [5, 5, 4, 6]]], jnp.float32)
    present = jnp.asarray([[True, True, False, False, True]])
    found = move(Targets(boxes=boxes, present=present))
    assert found.present.tolist() == [[True, False, False, False, False]]
    assert found.present.dtype == bool
    assert move(Targets(boxes=boxes)).present is None
    assert move(Targets(present=present)).present.tolist() == present.tolist()


def test_choose_takes_image_by_image():
    some, others = (Targets(masks=jnp.full((2, 2, 2), n), keypoints=jnp.full((2, 1, 2), float(n))) for n in (1, 2))
    found = choose(jnp.asarray([True, False]), some, others)
    np.testing.assert_array_equal(found.masks[:, 0, 0], [1, 2])
    np.testing.assert_array_equal(found.keypoints[:, 0, 0], [1, 2])
    assert found.boxes is None


def test_images_come_alone_where_no_targets_are():
    assert joined(IMAGES, None) is IMAGES
    assert joined(IMAGES, Targets()) == (IMAGES, Targets())


def test_targets_that_do_not_fit(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    zeros = jax.numpy.zeros
    for targets, message in (
        (Targets(boxes=zeros((1, 4))), r"boxes have shape \(1, 4\); expected \(1, n, 4\)"),
        (Targets(boxes=zeros((2, 3, 4))), "for 1 images"),
        (Targets(boxes=zeros((1, 3, 4), jnp.int32)), "boxes are int32; expected floating point"),
        (Targets(keypoints=zeros((1, 3, 3))), r"keypoints have shape .* expected \(1, n, 2\)"),
        (Targets(keypoints=zeros((2, 3, 4, 2))), r"keypoints have shape \(2, 3, 4, 2\)"),
        (
            Targets(boxes=zeros((1, 3, 4)), present=zeros((1, 2), bool)),
            r"present is bool of shape \(1, 2\); .*\(1, 3\)",
        ),
        (
            Targets(boxes=zeros((1, 3, 4)), present=zeros((1, 3))),
            r"present is float32 of shape \(1, 3\); expected bool",
        ),
        (Targets(masks=zeros((1, 20, 10))), r"masks have shape \(1, 20, 10\); expected \(1, 10, 20\)"),
    ):
        with pytest.raises(ValueError, match=message):
            check_targets(targets, IMAGES)
