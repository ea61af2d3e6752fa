"""Classification against sums written in NumPy and scikit-learn's counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

from cnnjax.models import AuxiliaryLogits
from cnnjax.tasks import Classification, confusion, merge

CLASSES = ("cat", "dog", "newt")
generator = np.random.default_rng(0)
LOGITS = generator.normal(size=(10, 3)).astype(np.float32) * 3
LABELS = generator.integers(0, 3, 10).astype(np.int32)
VALID = np.arange(10) < 7
BATCH = {"label": jnp.asarray(LABELS), "valid": jnp.asarray(VALID)}
TASK = Classification(CLASSES)


def value_of(task, output, batch):
    return jax.jit(lambda output: task.loss(output, batch)[0].value)(output)


def summary_of(output, batch):
    output = jax.tree.map(jnp.asarray, output)
    return TASK.summarize(TASK.metrics(output, None, batch))


def test_loss_and_metrics_are_sklearns_over_the_valid_examples():
    probabilities = scipy.special.softmax(LOGITS[VALID].astype(np.float64), axis=-1)
    expected = log_loss(LABELS[VALID], probabilities, labels=[0, 1, 2])
    np.testing.assert_allclose(value_of(TASK, LOGITS, BATCH), expected, rtol=1e-5)
    summary = summary_of(LOGITS, BATCH)
    assert summary["loss"] == pytest.approx(expected, rel=1e-5)
    assert summary["accuracy"] == pytest.approx(accuracy_score(LABELS[VALID], LOGITS[VALID].argmax(-1)))
    assert TASK.score(summary) == summary["accuracy"]


def test_metrics_of_parts_add_up_to_the_metrics_of_all():
    def part(rows):
        return TASK.metrics(jnp.asarray(LOGITS[rows]), None, jax.tree.map(lambda leaf: leaf[rows], BATCH))

    merged = merge([part(slice(0, 4)), part(slice(4, 10))])
    whole = summary_of(LOGITS, BATCH)
    assert TASK.summarize(merged) == pytest.approx(whole, rel=1e-6)


def test_soft_labels_smoothing_and_weights():
    task = Classification(CLASSES, label_smoothing=0.3, class_weights=(1.0, 2.0, 4.0))
    soft = scipy.special.softmax(generator.normal(size=(10, 3)), axis=-1).astype(np.float32)
    logs = scipy.special.log_softmax(LOGITS.astype(np.float64), axis=-1)
    for labels, target in ((soft, soft), (LABELS, np.eye(3)[LABELS])):
        losses = -((0.7 * target + 0.1) * logs).sum(-1)
        weights = target @ [1.0, 2.0, 4.0]
        expected = (weights * losses)[VALID].sum() / weights[VALID].sum()
        found = value_of(task, jnp.asarray(LOGITS), BATCH | {"label": jnp.asarray(labels)})
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_extreme_logits_stay_finite():
    logits = jnp.asarray([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    batch = {"label": jnp.asarray([1, 1], jnp.int32), "valid": jnp.ones(2, bool)}
    loss, gradient = jax.value_and_grad(lambda logits: TASK.loss(logits, batch)[0].value)(logits)
    assert loss == 1e4  # (2e4 + 0) / 2
    np.testing.assert_allclose(gradient, [[0.5, -0.5, 0], [0, 0, 0]], atol=1e-6)


def test_an_empty_batch_has_no_loss_and_no_gradient():
    batch = BATCH | {"valid": jnp.zeros(10, bool)}
    loss, gradient = jax.value_and_grad(lambda logits: TASK.loss(logits, batch)[0].value)(jnp.asarray(LOGITS))
    assert loss == 0
    np.testing.assert_array_equal(gradient, np.zeros((10, 3)))
    assert np.isnan(summary_of(LOGITS, batch)["accuracy"])


def test_predictions():
    predicted = TASK.predict(jnp.asarray(LOGITS), BATCH)
    np.testing.assert_array_equal(predicted["label"], LOGITS.argmax(-1))
    np.testing.assert_allclose(predicted["probabilities"], scipy.special.softmax(LOGITS, -1), rtol=1e-5)


def test_rows_name_the_class_and_every_probability():
    predictions = {"label": np.int32([2, 0]), "probabilities": np.float32([[0.25, 0.125, 0.625], [0.5, 0.25, 0.25]])}
    assert TASK.rows(predictions) == [
        {
            "class": "newt",
            "probability": 0.625,
            "probability of cat": 0.25,
            "probability of dog": 0.125,
            "probability of newt": 0.625,
        },
        {
            "class": "cat",
            "probability": 0.5,
            "probability of cat": 0.5,
            "probability of dog": 0.25,
            "probability of newt": 0.25,
        },
    ]


def test_confusion_is_sklearns():
    predicted = LOGITS.argmax(-1)
    np.testing.assert_array_equal(confusion(LABELS, predicted, 3), confusion_matrix(LABELS, predicted))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("one",)}, "at least two"),
        ({"classes": CLASSES, "label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"classes": CLASSES, "class_weights": (1.0, 2.0)}, "expected 3 positive numbers"),
        ({"classes": CLASSES, "class_weights": (1.0, 2.0, 0.0)}, "expected 3 positive numbers"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Classification(**options)


def test_logits_of_another_number_of_classes():
    with pytest.raises(ValueError, match=r"logits have shape \(10, 4\) and labels \(10, 3\)"):
        TASK.loss(jnp.ones((10, 4)), BATCH)


@pytest.mark.usefixtures("unchecked_types")
def test_logits_for_every_pixel_are_for_another_task():
    logits = jnp.zeros((2, 5, 5, len(CLASSES)))
    with pytest.raises(ValueError, match=r"logits for every pixel, which is for another task"):
        TASK.loss(logits, {"label": jnp.zeros(2, jnp.int32), "valid": jnp.ones(2, bool)})


def test_auxiliary_heads_add_to_the_loss_and_not_to_the_metrics():
    others = tuple(jnp.asarray(np.roll(LOGITS, shift, axis=1)) for shift in (1, 2))
    output = AuxiliaryLogits(jnp.asarray(LOGITS), others, weight=0.4)
    alone = [float(value_of(TASK, logits, BATCH)) for logits in (output.logits, *others)]
    np.testing.assert_allclose(value_of(TASK, output, BATCH), alone[0] + 0.4 * (alone[1] + alone[2]), rtol=1e-6)
    assert summary_of(output, BATCH) == summary_of(output.logits, BATCH)
    # The log of the training steps tells the main head too.
    assert TASK.summarize(TASK.loss(output, BATCH)[1]) == summary_of(output.logits, BATCH)
