"""Losses of vectors against SciPy, NumPy in float64, and published numbers."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from cnnjax.functional import losses

generator = np.random.default_rng(0)
OUTPUTS = 3 * generator.normal(size=(6, 4))
VALUES = 3 * generator.normal(size=(6, 4))
TAGS = generator.integers(0, 2, size=(6, 4))
PROBABILITIES = generator.uniform(size=(6, 4))
LABELS = generator.integers(0, 4, size=6)
ONE_HOT = np.eye(4)[LABELS]
SOFT = scipy.special.softmax(generator.normal(size=(6, 4)), axis=-1)
WEIGHTS = np.array([1.0, 2.0, 4.0, 0.5])
LOGS = scipy.special.log_softmax(OUTPUTS, axis=-1)


def arrays(*values):
    """As JAX's, in float32 and int32."""
    return [jnp.asarray(value, jnp.int32 if value.dtype.kind == "i" else jnp.float32) for value in values]


def binary_cross_entropy(tags):
    return -tags * scipy.special.log_expit(OUTPUTS) - (1 - tags) * scipy.special.log_expit(-OUTPUTS)


def test_regression_is_the_mean_over_an_example():
    errors = OUTPUTS - VALUES
    for loss, expected in [
        (losses.mean_squared_error, errors**2),
        (losses.mean_absolute_error, np.abs(errors)),
        (losses.huber, scipy.special.huber(1.0, errors)),
        (lambda x, t: losses.huber(x, t, delta=2.5), scipy.special.huber(2.5, errors)),
    ]:
        np.testing.assert_allclose(loss(*arrays(OUTPUTS, VALUES)), expected.mean(-1), rtol=1e-5)


def test_targets_of_regression_may_be_counts():
    counts = np.array([[1, 200], [0, 3]], np.uint8)
    found = losses.mean_absolute_error(jnp.zeros((2, 2)), jnp.asarray(counts))
    np.testing.assert_array_equal(found, [100.5, 1.5])


@pytest.mark.parametrize("tags", [TAGS, PROBABILITIES], ids=["tags", "probabilities"])
def test_binary_cross_entropy_is_scipys(tags):
    found = losses.binary_cross_entropy(*arrays(OUTPUTS, tags))
    np.testing.assert_allclose(found, binary_cross_entropy(tags).mean(-1), rtol=1e-5)


@pytest.mark.parametrize("loss", [losses.binary_cross_entropy, losses.sigmoid_focal], ids=["bce", "focal"])
def test_tags_are_one_thing_in_every_type(loss):
    outputs, tags = arrays(OUTPUTS, TAGS)
    for dtype in (bool, jnp.uint8, jnp.bfloat16):
        np.testing.assert_array_equal(loss(outputs, tags.astype(dtype)), loss(outputs, tags))
    # Mixed labels round to just above one, and cost what one costs; two is no probability, and stops the run.
    mixed = jnp.full((6, 4), 1 + 1e-6)
    np.testing.assert_array_equal(loss(20 + outputs, mixed), loss(20 + outputs, jnp.ones((6, 4))))
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(loss(x, 2 * tags)))(outputs)
    assert np.isnan(value)
    np.testing.assert_array_equal(np.isnan(gradient), TAGS == 1)


@pytest.mark.parametrize("tags", [TAGS, PROBABILITIES], ids=["tags", "probabilities"])
@pytest.mark.parametrize(("gamma", "alpha"), [(0.0, None), (0.5, None), (2.0, 0.25), (5.0, 0.75)])
def test_sigmoid_focal_is_the_papers_formula(gamma, alpha, tags):
    probability = scipy.special.expit(OUTPUTS)
    right = tags * probability + (1 - tags) * (1 - probability)
    balance = 1.0 if alpha is None else tags * alpha + (1 - tags) * (1 - alpha)
    expected = (balance * (1 - right) ** gamma * binary_cross_entropy(tags)).mean(-1)
    found = losses.sigmoid_focal(*arrays(OUTPUTS, tags), gamma=gamma, alpha=alpha)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_focal_makes_easy_examples_as_cheap_as_the_paper_says():
    # Section 3.2: with gamma 2, 100 times less at p = 0.9 and 1000 times at about 0.968.
    logits = jnp.asarray(scipy.special.logit([[0.9], [0.968]]), jnp.float32)
    ones = jnp.ones((2, 1))
    ratio = losses.binary_cross_entropy(logits, ones) / losses.sigmoid_focal(logits, ones)
    np.testing.assert_allclose(ratio, [100, 1 / 0.032**2], rtol=1e-4)
    pairs, firsts = jnp.concatenate([logits, jnp.zeros((2, 1))], axis=-1), jnp.zeros(2, jnp.int32)
    ratio = losses.softmax_cross_entropy(pairs, firsts) / losses.softmax_focal(pairs, firsts)
    np.testing.assert_allclose(ratio, [100, 1 / 0.032**2], rtol=1e-4)


@pytest.mark.parametrize(("targets", "truth"), [(LABELS, ONE_HOT), (SOFT, SOFT)], ids=["labels", "distributions"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_softmax_losses_are_their_formulas(weights, targets, truth):
    factor = 1.0 if weights is None else truth @ weights
    class_weights = None if weights is None else jnp.asarray(weights, jnp.float32)
    outputs, targets = arrays(OUTPUTS, targets)
    for smoothing in (0.0, 0.3):
        expected = factor * -(((1 - smoothing) * truth + smoothing / 4) * LOGS).sum(-1)
        found = losses.softmax_cross_entropy(outputs, targets, label_smoothing=smoothing, class_weights=class_weights)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    for gamma in (0.0, 0.5, 2.0):
        wrong = 1 - (truth * np.exp(LOGS)).sum(-1)
        expected = factor * wrong**gamma * -(truth * LOGS).sum(-1)
        found = losses.softmax_focal(outputs, targets, gamma=gamma, class_weights=class_weights)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_example_weights_are_those_of_the_classes():
    where = jnp.asarray([True] * 5 + [False])
    weights = jnp.asarray(WEIGHTS, jnp.float32)
    for targets, truth in ((LABELS, ONE_HOT), (SOFT, SOFT)):
        (targets,) = arrays(targets)
        np.testing.assert_allclose(losses.example_weights(targets, weights), truth @ WEIGHTS, rtol=1e-6)
        masked = losses.example_weights(targets, weights, where=where)
        np.testing.assert_allclose(masked, (truth @ WEIGHTS) * np.asarray(where), rtol=1e-6)


def test_a_logit_of_minus_infinity_bars_a_class():
    def loss(logits):
        return losses.softmax_cross_entropy(logits, jnp.asarray(0))

    value, gradient = jax.value_and_grad(loss)(jnp.asarray([1.0, -jnp.inf, 1.0]))
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [-0.5, 0, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [losses.softmax_cross_entropy, losses.softmax_focal, losses.multiclass_hinge],
    ids=lambda loss: loss.__name__,
)
def test_a_label_that_names_no_class_is_nan(loss):
    labels = jnp.asarray([0, 3, 4, -1, 2, 1], jnp.int32)
    value, pullback = jax.vjp(lambda x: loss(x, labels), jnp.asarray(OUTPUTS, jnp.float32))
    unknown = np.array([False, False, True, True, False, False])
    np.testing.assert_array_equal(np.isnan(value), unknown)
    (gradient,) = pullback(jnp.ones(6))
    np.testing.assert_array_equal(np.isnan(gradient).any(-1), unknown)


@pytest.mark.parametrize(
    ("scores", "label", "expected"),
    [([3.2, 5.1, -1.7], 0, 2.9), ([1.3, 4.9, 2.0], 1, 0.0), ([2.2, 2.5, -3.1], 2, 12.9)],
    ids=["cat", "car", "frog"],
)
def test_hinge_is_the_lectures(scores, label, expected):
    # CS231n, lecture 3.
    found = losses.multiclass_hinge(jnp.asarray(scores), jnp.asarray(label))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_hinge_gradient_counts_the_classes_within_the_margin():
    gradient = jax.grad(lambda x: losses.multiclass_hinge(x, jnp.asarray(1)))(jnp.asarray([2.0, 2.5, 1.5, 9.0]))
    # The third score stands exactly at the margin, and costs nothing.
    np.testing.assert_array_equal(gradient, [1, -2, 0, 1])


@pytest.mark.parametrize("margin", [0.0, 0.7])
def test_ranking_is_the_formula(margin):
    order = np.where(TAGS[:, 0] == 1, 1, -1)
    expected = np.maximum(0, -order * (OUTPUTS[:, 0] - OUTPUTS[:, 1]) + margin)
    for targets in (order, order.astype(np.float32)):
        found = losses.margin_ranking(*arrays(OUTPUTS[:, :2], targets), margin=margin)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_order_that_is_none_is_nan():
    def total(pairs):
        return jnp.sum(losses.margin_ranking(pairs, jnp.asarray([0.0, 1.0])))

    value, gradient = jax.value_and_grad(total)(jnp.ones((2, 2)))
    assert np.isnan(value)
    np.testing.assert_array_equal(np.isnan(gradient), [[True, True], [False, False]])


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        ("huber", {"delta": 0.0}, "delta=0.0; expected a positive, finite number"),
        (
            "huber",
            {"delta": float("inf")},
            r"delta=inf; expected a positive, finite number; .* 0.5 \* mean_squared_error",
        ),
        ("sigmoid_focal", {"gamma": -1.0}, "gamma=-1.0; expected zero or more"),
        ("sigmoid_focal", {"alpha": 1.5}, "alpha=1.5; expected None or a number from 0 to 1"),
        ("softmax_focal", {"gamma": -1.0}, "gamma=-1.0; expected zero or more"),
        ("softmax_cross_entropy", {"label_smoothing": 1.0}, "label_smoothing=1.0; expected at least 0 and below 1"),
        ("softmax_cross_entropy", {"class_weights": jnp.ones(3)}, r"class_weights: shape \(3,\) came, \(4,\) was"),
        ("softmax_focal", {"class_weights": jnp.ones((4, 1))}, r"class_weights: shape \(4, 1\) came, \(4,\) was"),
        ("multiclass_hinge", {"margin": -1.0}, "margin=-1.0; expected zero or more"),
        ("margin_ranking", {"margin": -1.0}, "margin=-1.0; expected zero or more"),
    ],
)
def test_bad_options(loss, options, message):
    # Typecheckers are on in the tests, and would speak first.
    function = inspect.unwrap(getattr(losses, loss))
    targets = LABELS if loss in ("softmax_cross_entropy", "softmax_focal", "multiclass_hinge") else TAGS
    with pytest.raises(ValueError, match=message):
        function(*arrays(OUTPUTS, targets), **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: inspect.unwrap(losses.multiclass_hinge)(*arrays(OUTPUTS, SOFT)),
            "targets: float32 came, integers were expected: a class for each example",
        ),
        (
            lambda: inspect.unwrap(losses.margin_ranking)(*arrays(OUTPUTS, LABELS)),
            r"outputs: shape \(6, 4\) came, \(6, 2\) was expected: two scores on the last axis",
        ),
        (
            lambda: inspect.unwrap(losses.example_weights)(jnp.asarray(LABELS), jnp.ones((2, 2))),
            r"class_weights: shape \(2, 2\) came, \(4,\) was expected: a weight for each class",
        ),
        (
            lambda: inspect.unwrap(losses.softmax_cross_entropy)(jnp.ones((6, 1)), jnp.zeros(6, jnp.int32)),
            "two classes or more were expected on the last axis; one logit alone is for the sigmoid losses",
        ),
    ],
    ids=["soft hinge", "triples", "table of weights", "one class"],
)
def test_bad_shapes(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("loss", [losses.softmax_cross_entropy, losses.softmax_focal])
def test_what_is_no_distribution_stops_the_run(loss):
    targets = jnp.asarray([[0.2, 0.3, 0.5], [0.4, 0.6, 1.0], [0.0, 0.0, 0.0], [1.5, -0.5, 0.0], [0.0, 0.0, 0.0]])
    found = loss(jnp.zeros((5, 3)), targets, where=jnp.asarray([True, True, True, True, False]))
    assert np.isnan(found).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_smooth_l1_is_its_formula(beta):
    errors = np.linspace(-2, 2, 12).reshape(3, 4).astype(np.float32)
    size = np.abs(errors).astype(np.float64)
    each = np.where(size < beta, size**2 / max(2 * beta, 1e-30), size - beta / 2)
    np.testing.assert_allclose(
        losses.smooth_l1(jnp.asarray(errors), jnp.zeros((3, 4)), beta=beta), each.mean(axis=-1), rtol=1e-5
    )


def test_smooth_l1_with_a_bad_beta():
    with pytest.raises(ValueError, match="beta=-1; expected a finite number, zero or more"):
        losses.smooth_l1(jnp.zeros(2), jnp.zeros(2), beta=-1)
