"""Losses where logits are infinite: by hand, and as the limits of the formulas in float64."""

import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from cnnjax.functional import losses
from cnnjax.functional.losses import ctc_loss, dice_loss

INF = np.inf
OPEN = np.array([0.7, -0.4])
HALF = np.array([[0.0, 0.25, 0.75]])
# Each loss of one example, its targets, and its formula in float64.
FINITE = {
    "cross_entropy": (losses.softmax_cross_entropy, np.array([1]), lambda z: -scipy.special.log_softmax(z)[1]),
    "soft": (losses.softmax_cross_entropy, HALF, lambda z: -HALF[0] @ scipy.special.log_softmax(z)),
    "focal": (
        losses.softmax_focal,
        np.array([1]),
        lambda z: -((1 - scipy.special.softmax(z)[1]) ** 2) * scipy.special.log_softmax(z)[1],
    ),
    "hinge": (losses.multiclass_hinge, np.array([1]), lambda z: sum(max(0, z[j] - z[1] + 1) for j in (0, 2))),
    "binary": (
        losses.binary_cross_entropy,
        np.array([[0, 1, 1]]),
        lambda z: -(scipy.special.log_expit(-z[0]) + scipy.special.log_expit(z[1:]).sum()) / 3,
    ),
    "sigmoid_focal": (
        losses.sigmoid_focal,
        np.array([[0, 1, 1]]),
        lambda z: (
            -(
                scipy.special.expit(z[0]) ** 2 * scipy.special.log_expit(-z[0])
                + (scipy.special.expit(-z[1:]) ** 2 * scipy.special.log_expit(z[1:])).sum()
            )
            / 3
        ),
    ),
    "ctc": (
        lambda z, t, **options: ctc_loss(z[:, None], t[:, None], **options),
        np.array([1]),
        lambda z: -scipy.special.log_softmax(z)[1],
    ),
    "dice": (
        lambda z, t, **options: dice_loss(z[:, None], t[:, None]),
        np.array([1]),
        lambda z: np.mean(
            [1 - (2 * p * t + 1) / (p + t + 1) for p, t in zip(scipy.special.softmax(z), (0, 1, 0), strict=True)]
        ),
    ),
}
every_loss = pytest.mark.parametrize(("loss", "targets", "formula"), FINITE.values(), ids=FINITE.keys())


@cache
def program(loss):
    """Value, gradient by reverse and by forward mode, and Hessian of one example."""

    def of(z, targets):
        return loss(z[None], targets)[0]

    return jax.jit(lambda z, t: (of(z, t), jax.grad(of)(z, t), jax.jacfwd(of)(z, t), jax.hessian(of)(z, t)))


def modes(loss, logits, targets):
    targets = jnp.asarray(targets, jnp.int32 if targets.dtype.kind == "i" else jnp.float32)
    return program(loss)(jnp.asarray(logits, jnp.float32), targets)


def slopes(formula, step):
    """First and second differences of a formula along the two open logits, the first being far below."""
    low = np.concatenate([[-60.0], OPEN])

    def at(*moves):
        return formula(low + np.sum(moves, axis=0))

    units = step * np.eye(3)[1:]
    first = [(at(u) - at(-u)) / (2 * step) for u in units]
    second = [[(at(u, v) - at(u, -v) - at(-u, v) + at(-u, -v)) / (4 * step**2) for v in units] for u in units]
    return first, second


@every_loss
def test_a_logit_of_minus_infinity_is_the_limit_in_every_mode(loss, targets, formula):
    value, gradient, forward, hessian = modes(loss, [-INF, *OPEN], targets)
    np.testing.assert_allclose(value, formula(np.array([-60.0, *OPEN])), rtol=1e-5)
    first, second = slopes(formula, 1e-3)
    for found in (gradient, forward):
        np.testing.assert_allclose(found, [0, *first], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(hessian[1:, 1:], second, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([hessian[0], hessian[:, 0]]), np.zeros(6))


@every_loss
def test_a_target_of_minus_infinity_costs_infinity_and_has_no_nan(loss, targets, formula):
    value, *derivatives = modes(loss, [0.3, -INF, 0.5], targets)
    assert value == (INF if loss is not FINITE["dice"][0] else np.float32(formula(np.array([0.3, -80, 0.5]))))
    assert not any(np.isnan(each).any() for each in derivatives)


@every_loss
def test_infinities_together_are_never_nan(loss, targets, formula):
    for logits in ([-INF] * 3, [INF] * 3, [INF, 0.0, -INF], [-INF, INF, 0.0], [INF, INF, 0.0]):
        assert not any(np.isnan(each).any() for each in modes(loss, logits, targets))


@every_loss
def test_logits_of_nan_stay_nan(loss, targets, formula):
    assert np.isnan(modes(loss, [np.nan, 0.0, 0.0], targets)[0])


def test_a_logit_of_plus_infinity_is_sure():
    sure, half = [INF, 2.0, 1.0], np.array([[0.5, 1.0, 1.0]])
    for name in ("cross_entropy", "focal", "hinge"):
        loss = FINITE[name][0]
        assert [modes(loss, sure, np.array([label]))[0] for label in (0, 1)] == [0, INF]
    for name in ("binary", "sigmoid_focal"):
        loss = FINITE[name][0]
        right, wrong = np.array([[1, 0, 1]]), np.array([[1, 1, 1]])
        assert [modes(loss, [INF, -INF, INF], tags)[0] for tags in (right, wrong)] == [0, INF]
        # Either infinity bars a tag that is half there.
        assert [modes(loss, [z, INF, INF], half)[0] for z in (INF, -INF)] == [INF, INF]
    # With alpha 1, absent tags cost nothing whatever is said.
    assert losses.sigmoid_focal(jnp.asarray([INF]), jnp.zeros(1), alpha=1.0) == 0


def test_scores_of_infinity():
    pairs = jnp.asarray([[-INF, 1.0], [1.0, -INF], [-INF, -INF], [INF, INF]])
    run = jax.value_and_grad(lambda pairs: jnp.sum(losses.margin_ranking(pairs, jnp.ones(4), margin=0.5)[1:]))
    np.testing.assert_array_equal(losses.margin_ranking(pairs, jnp.ones(4), margin=0.5), [INF, 0, 0.5, 0.5])
    assert np.isfinite(run(pairs)[1]).all()


def test_a_class_without_weight_costs_nothing_though_it_is_barred():
    logits, weights = jnp.asarray([[-INF, 0.0, 0.0]]), jnp.asarray([0.0, 1.0, 1.0])
    for loss in (losses.softmax_cross_entropy, losses.softmax_focal):
        assert loss(logits, jnp.asarray([0]), class_weights=weights)[0] == 0


def test_unknown_targets_stay_nan():
    logits = jnp.asarray([[-INF, 0.0, INF]])
    for loss in (losses.softmax_cross_entropy, losses.softmax_focal, losses.multiclass_hinge):
        assert np.isnan(loss(logits, jnp.asarray([3]))).all()
    for loss in (losses.binary_cross_entropy, losses.sigmoid_focal):
        assert np.isnan(loss(logits, jnp.full((1, 3), 2.0))).all()


def paths(logits, label):
    """The probability of all alignments of one label, one after another."""
    probabilities = scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)
    total = 0.0
    for path in itertools.product(range(logits.shape[-1]), repeat=len(logits)):
        if [each for each, _ in itertools.groupby(path) if each] == [label]:
            total += np.prod(probabilities[np.arange(len(logits)), path])
    return total


RUN = jax.jit(jax.value_and_grad(ctc_loss))


def test_ctc_with_classes_barred_in_some_frames():
    # Six paths of 1 over three frames of 3, 4 and 4 classes of equal chances.
    frames = np.zeros((3, 4))
    frames[0, 3] = -INF
    np.testing.assert_allclose(RUN(jnp.asarray(frames), jnp.asarray([1]))[0], np.log(48 / 6), rtol=1e-6)
    frames = np.random.default_rng(0).normal(size=(3, 4))
    frames[1, 1] = frames[2, 0] = -INF
    np.testing.assert_allclose(RUN(jnp.asarray(frames), jnp.asarray([1]))[0], -np.log(paths(frames, 1)), rtol=1e-5)
    value, gradient = RUN(jnp.asarray(frames), jnp.asarray([2]))
    assert np.isfinite(value)
    assert gradient[1, 1] == gradient[2, 0] == 0
    assert np.isfinite(gradient).all()
    # No frame may be 3; no class may be in a frame.
    for barred in (np.s_[:, 3], np.s_[1]):
        shut = np.zeros((3, 4))
        shut[barred] = -INF
        value, gradient = RUN(jnp.asarray(shut), jnp.asarray([3]))
        assert value == INF
        np.testing.assert_array_equal(gradient, np.zeros((3, 4)))


def test_ctc_is_never_below_zero():
    sure = np.array([[0.0, 17.0], [0.0, 17.0]])
    expected = -np.log1p(-((1 / (1 + np.exp(17.0))) ** 2))
    value, gradient = RUN(jnp.asarray(sure, jnp.float32), jnp.asarray([1]))
    assert 0 <= value <= 1e-7
    # Rounding makes nothing of the loss, and no more of the gradient than that.
    assert np.abs(gradient).max() < 1e-6
    with jax.enable_x64(True):
        exact = RUN(jnp.asarray(sure), jnp.asarray([1], jnp.int32))[0].item()
    assert exact >= 0
    assert abs(exact - expected) < 1.7e-15
    logits = jnp.asarray(np.random.default_rng(1).normal(scale=30, size=(512, 5, 3)), jnp.float32)
    assert (np.asarray(jax.jit(ctc_loss)(logits, jnp.ones((512, 2), jnp.int32))) >= 0).all()
