"""Losses of masks, boxes and sequences against Optax, NumPy, and every alignment written out."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from cnnjax.functional.losses import ctc_loss, dice_loss, giou_loss, iou_loss

generator = np.random.default_rng(0)
MASK_LOGITS = generator.normal(size=(2, 3, 4, 3)).astype(np.float32)
MASK_LABELS = generator.integers(0, 3, size=(2, 3, 4))
FRAMES = generator.normal(size=(3, 4, 3)).astype(np.float32)


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


@pytest.mark.parametrize("loss", [iou_loss, giou_loss])
def test_box_losses_of_nan_are_nan(loss):
    outputs = jnp.asarray([[1.0, 0, 3, 2], [jnp.nan, 0, 1, 1], [4, 0, 6, jnp.nan], [jnp.nan] * 4])
    targets = jnp.asarray([[0.0, 0, 2, 2]] * 4)
    np.testing.assert_array_equal(np.isnan(loss(outputs, targets)), [False, True, True, True])
    np.testing.assert_array_equal(np.isnan(loss(targets, outputs)), [False, True, True, True])
    where = jnp.asarray([True, False, False, False])
    gradient = jax.grad(lambda boxes: jnp.sum(loss(boxes, targets, where=where)))(outputs)
    np.testing.assert_array_equal(gradient[1:], np.zeros((3, 4)))


def brute_force(logits, labels, blank):
    """Minus the logarithm of the probability of all paths that collapse to the labels."""
    logs = scipy.special.log_softmax(logits.astype(np.float64), axis=-1)
    time, classes = logits.shape
    found = [-np.inf]
    for path in itertools.product(range(classes), repeat=time):
        merged = [label for label, _ in itertools.groupby(path) if label != blank]
        if merged == list(labels):
            found.append(logs[np.arange(time), path].sum())
    return -scipy.special.logsumexp(found)


@pytest.mark.parametrize("blank", [0, 2])
def test_ctc_is_the_sum_over_all_alignments(blank):
    first, second = (label for label in range(3) if label != blank)
    # Different labels, a repeated one, and one alone whose padding is its repetition.
    labels = np.array([[first, second], [first, first], [first, first]])
    lengths, times = [2, 2, 1], [4, 3, 2]
    frames = np.where(np.arange(4) < np.array(times)[:, None], 0, 1)
    padded = np.array([[0, 0], [0, 0], [0, 1]])
    expected = [
        brute_force(FRAMES[row, : times[row]], labels[row, : lengths[row]], blank) for row in range(len(labels))
    ]
    for dtype in (bool, np.float32):
        paddings = {
            "logit_paddings": jnp.asarray(frames.astype(dtype)),
            "label_paddings": jnp.asarray(padded.astype(dtype)),
        }
        found = ctc_loss(jnp.asarray(FRAMES), jnp.asarray(labels), blank_id=blank, **paddings)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    whole = [brute_force(FRAMES[row], labels[row], blank) for row in range(3)]
    np.testing.assert_allclose(ctc_loss(jnp.asarray(FRAMES), jnp.asarray(labels), blank_id=blank), whole, rtol=1e-5)
    one = ctc_loss(jnp.asarray(FRAMES[0]), jnp.asarray(labels[0]), blank_id=blank)
    np.testing.assert_allclose(one, whole[0], rtol=1e-5)


def test_what_stands_in_the_padding_does_not_matter():
    padded = jnp.asarray([[False] * 3 + [True]] * 3)

    def total(frames, labels):
        last = {"logit_paddings": padded, "label_paddings": jnp.asarray([[False, True]] * 3)}
        return jnp.sum(ctc_loss(frames, labels, **last))

    clean = jax.value_and_grad(total)(jnp.asarray(FRAMES), jnp.asarray([[1, 1]] * 3))
    dirty = jax.value_and_grad(total)(
        jnp.asarray(FRAMES).at[:, 3].set(jnp.nan), jnp.asarray([[1, -1], [1, 0], [1, 99]])
    )
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    np.testing.assert_array_equal(clean[1][:, 3], np.zeros((3, 3)))


def test_an_empty_sequence_is_all_blanks():
    found = ctc_loss(jnp.asarray(FRAMES), jnp.ones((3, 1), jnp.int32), label_paddings=jnp.ones((3, 1)))
    expected = -scipy.special.log_softmax(FRAMES.astype(np.float64), axis=-1)[..., 0].sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_ctc_without_an_alignment_is_infinite_and_without_meaning_nan():
    # Four frames hold 1 1 2 but not 1 1 1; then the blank, no class, and padding in front of a label.
    labels = jnp.asarray([[1, 1, 2], [1, 1, 1], [1, 0, 2], [1, 3, 2], [1, 1, 2]])
    front = jnp.zeros((5, 3)).at[4, 0].set(1)
    frames = jnp.asarray(np.concatenate([FRAMES, FRAMES[:2]]))
    value, pullback = jax.vjp(lambda x: ctc_loss(x, labels, label_paddings=front), frames)
    (gradient,) = pullback(jnp.ones(5))
    np.testing.assert_allclose(value[0], brute_force(FRAMES[0], [1, 1, 2], 0), rtol=1e-5)
    np.testing.assert_array_equal(value[1:], [np.inf, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(gradient[1], np.zeros((4, 3)))
    assert np.isnan(gradient[2:]).all()


def test_ctc_is_right_below_optaxs_logarithm_of_zero():
    # The only alignment is 1 with a blank between, twelve wrong frames of minus 2e4 and less.
    frames = jnp.tile(jnp.asarray([0.0, -1e4, 1e4]), (11, 1))
    labels = jnp.ones(6, jnp.int32)
    np.testing.assert_allclose(ctc_loss(frames, labels), 6 * 2e4 + 5 * 1e4, rtol=1e-6)


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


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"outputs": jnp.ones((3,))}, r"outputs: shape \(3,\) came, \(\*batch, time, classes\) was expected"),
        ({"outputs": jnp.ones((3, 0, 3))}, r"outputs: shape \(3, 0, 3\) came, a frame at least was expected"),
        ({"targets": jnp.ones((3, 2))}, "targets: float32 came, integers were expected: the classes of a sequence"),
        ({"targets": jnp.ones(2, jnp.int32)}, r"targets: shape \(2,\) came, \(3, 2\) was expected: sequences of lab"),
        ({"targets": jnp.ones((3, 0), jnp.int32)}, r"targets: shape \(3, 0\) came, room for a label was expected"),
        ({"logit_paddings": jnp.ones((3, 2))}, r"logit_paddings: shape \(3, 2\) came, \(3, 4\) was expected: 1 for"),
        ({"label_paddings": jnp.ones((3, 4))}, r"label_paddings: shape \(3, 4\) came, \(3, 2\) was expected: 1 for"),
        ({"blank_id": 3}, "blank_id=3; expected a class, from 0 to 2"),
        ({"where": jnp.ones((3, 4), bool)}, r"where: shape \(3, 4\) came, \(3,\) was expected: a flag per example"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_sequences(changed, message):
    arguments = {"outputs": jnp.asarray(FRAMES), "targets": jnp.ones((3, 2), jnp.int32)} | changed
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(ctc_loss)(**arguments)
