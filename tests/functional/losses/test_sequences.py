"""The loss of sequences against every alignment written out."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from cnnjax.functional.losses import ctc_loss

generator = np.random.default_rng(0)
FRAMES = generator.normal(size=(3, 4, 3)).astype(np.float32)


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
