"""Losses of masks and boxes against Optax, NumPy, and numbers by hand."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from cnnjax.functional.losses import ciou_loss, dice_loss, diou_loss, giou_loss, iou_loss, soft_jaccard_loss

generator = np.random.default_rng(0)
MASK_LOGITS = generator.normal(size=(2, 3, 4, 3)).astype(np.float32)
MASK_LABELS = generator.integers(0, 3, size=(2, 3, 4))


@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_dice_is_optaxs(smoothing):
    one_hot = jnp.asarray(np.eye(3, dtype=np.float32)[MASK_LABELS])
    expected = optax.losses.dice_loss(jnp.asarray(MASK_LOGITS), one_hot, smooth=smoothing / 2)
    for targets in (jnp.asarray(MASK_LABELS), one_hot):
        found = jax.jit(lambda x, t: dice_loss(x, t, smoothing=smoothing))(MASK_LOGITS, targets)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    alone = jnp.asarray(MASK_LOGITS[..., :1]), one_hot[..., :1]
    expected = optax.losses.dice_loss(*alone, smooth=smoothing / 2)
    np.testing.assert_allclose(dice_loss(*alone, smoothing=smoothing), expected, rtol=1e-5)


def test_dice_leaves_out_positions():
    where = generator.uniform(size=(2, 3, 4)) > 0.4
    logits = np.where(where[..., None], MASK_LOGITS, np.nan)
    expected = []
    for example, labels, kept in zip(MASK_LOGITS, MASK_LABELS, where, strict=True):
        p, t = scipy.special.softmax(example[kept].astype(np.float64), axis=-1), np.eye(3)[labels[kept]]
        expected.append(1 - np.mean((2 * (p * t).sum(0) + 1) / (p.sum(0) + t.sum(0) + 1)))
    labels = np.where(where, MASK_LABELS, 255)
    found = dice_loss(jnp.asarray(logits), jnp.asarray(labels), where=jnp.asarray(where))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_dice_of_the_truth_and_of_nothing():
    logits = 1e4 * (2 * jnp.eye(3)[jnp.asarray(MASK_LABELS)] - 1)
    np.testing.assert_allclose(dice_loss(logits, jnp.asarray(MASK_LABELS)), np.zeros(2), atol=1e-6)
    np.testing.assert_allclose(dice_loss(-1e4 * jnp.ones((2, 5, 1)), jnp.zeros((2, 5, 1))), np.zeros(2), atol=1e-6)
    nowhere = jnp.zeros(MASK_LABELS.shape, bool)
    np.testing.assert_array_equal(
        dice_loss(jnp.asarray(MASK_LOGITS), jnp.asarray(MASK_LABELS), where=nowhere), np.zeros(2)
    )
    assert np.isnan(dice_loss(jnp.asarray(MASK_LOGITS), jnp.asarray(MASK_LABELS) + 1)).all()


@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_soft_jaccard_is_its_formula(smoothing):
    where = generator.uniform(size=(2, 3, 4)) > 0.4
    expected = []
    for example, labels, kept in zip(MASK_LOGITS, MASK_LABELS, where, strict=True):
        p, t = scipy.special.softmax(example[kept].astype(np.float64), axis=-1), np.eye(3)[labels[kept]]
        common = (p * t).sum(0)
        expected.append(1 - np.mean((common + smoothing) / (p.sum(0) + t.sum(0) - common + smoothing)))
    found = soft_jaccard_loss(
        jnp.asarray(MASK_LOGITS), jnp.asarray(MASK_LABELS), smoothing=smoothing, where=jnp.asarray(where)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_losses_of_distance_by_hand():
    # A unit square and one three to the right: centres 3 apart, the diagonal of both together squared 17.
    outputs, targets = jnp.asarray([0.0, 0, 1, 1]), jnp.asarray([3.0, 0, 4, 1])
    np.testing.assert_allclose(diou_loss(outputs, targets), 1 + 9 / 17, rtol=1e-6)
    np.testing.assert_allclose(ciou_loss(outputs, targets), 1 + 9 / 17, rtol=1e-6)
    # Twice as wide around the same centre: an IoU of 1/2, and angles of 45 degrees and of arctan 2.
    wide = jnp.asarray([-0.5, 0, 1.5, 1])
    v = 4 / np.pi**2 * (np.arctan(2) - np.pi / 4) ** 2
    np.testing.assert_allclose(ciou_loss(outputs, wide), 0.5 + v * v / (0.5 + v), rtol=1e-5)


def test_box_losses_by_hand():
    # Shifted by half its side: a third in common; within: a quarter; apart by its side: 1 - 0 + 1/3.
    outputs = jnp.asarray([[1.0, 0, 3, 2], [0, 0, 1, 1], [4, 0, 6, 2], [0, 0, 2, 2]])
    targets = jnp.asarray([[0.0, 0, 2, 2]] * 4)
    np.testing.assert_allclose(iou_loss(outputs, targets), [2 / 3, 3 / 4, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(giou_loss(outputs, targets), [2 / 3, 3 / 4, 4 / 3, 0], rtol=1e-6)
    # Corners in the other order mean the same box, and learn.
    swapped = outputs[:, jnp.asarray([2, 1, 0, 3])]
    np.testing.assert_allclose(giou_loss(swapped, targets), [2 / 3, 3 / 4, 4 / 3, 0], rtol=1e-6)
    apart = jax.grad(lambda box: giou_loss(box, targets[0]))(outputs[2])
    assert apart[0] > 0


@pytest.mark.parametrize("loss", [iou_loss, giou_loss, diou_loss, ciou_loss])
def test_box_losses_of_nan_are_nan(loss):
    outputs = jnp.asarray([[1.0, 0, 3, 2], [jnp.nan, 0, 1, 1], [4, 0, 6, jnp.nan], [jnp.nan] * 4])
    targets = jnp.asarray([[0.0, 0, 2, 2]] * 4)
    np.testing.assert_array_equal(np.isnan(loss(outputs, targets)), [False, True, True, True])
    np.testing.assert_array_equal(np.isnan(loss(targets, outputs)), [False, True, True, True])
    where = jnp.asarray([True, False, False, False])
    gradient = jax.grad(lambda boxes: jnp.sum(loss(boxes, targets, where=where)))(outputs)
    np.testing.assert_array_equal(gradient[1:], np.zeros((3, 4)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: dice_loss(jnp.asarray(MASK_LOGITS), jnp.asarray(MASK_LABELS), smoothing=0.0),
            "smoothing=0.0; expected a po",
        ),
        (
            lambda: inspect.unwrap(dice_loss)(jnp.ones(3), jnp.asarray(0)),
            r"outputs: shape \(3,\) came, \(batch, \*positions, classes\) was expected",
        ),
        (
            lambda: inspect.unwrap(dice_loss)(
                jnp.asarray(MASK_LOGITS), jnp.asarray(MASK_LABELS), where=jnp.ones(2, bool)
            ),
            r"where: shape \(2,\) came, \(2, 3, 4\) was expected: a flag per position",
        ),
        (
            lambda: inspect.unwrap(dice_loss)(jnp.ones((2, 5, 1)), jnp.ones((2, 5), jnp.int32)),
            r"targets: shape \(2, 5\) came, \(2, 5, 1\) was expected",
        ),
        (
            lambda: inspect.unwrap(iou_loss)(jnp.ones((2, 3)), jnp.ones((2, 3))),
            r"outputs: shape \(2, 3\) came, \(2, 4\) was expected: x_min, y_min, x_max, y_max",
        ),
        (
            lambda: inspect.unwrap(giou_loss)(jnp.ones((2, 4)), jnp.ones((1, 4))),
            r"targets: shape \(1, 4\) came, \(2, 4\) was expected: that of outputs",
        ),
    ],
    ids=["smoothing", "one axis", "flag per example", "mask without its class", "three corners", "one box"],
)
def test_bad_masks_and_boxes(call, message):
    with pytest.raises(ValueError, match=message):
        call()
