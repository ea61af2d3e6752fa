"""Tagging against sums written in NumPy and scikit-learn's scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from cnnjax.models import AuxiliaryLogits
from cnnjax.tasks import Tagging
from cnnjax.tasks.heads import main_logits

TAGS = ("round", "red", "striped", "large")
generator = np.random.default_rng(0)
LOGITS = generator.normal(size=(12, 4)).astype(np.float32) * 3
LABELS = (generator.uniform(size=(12, 4)) < 0.4).astype(np.float32)
LABELS[:2] = [[1, 1, 1, 1], [0, 0, 0, 0]]
VALID = np.arange(12) < 9
BATCH = {"tags": jnp.asarray(LABELS), "valid": jnp.asarray(VALID)}
TASK = Tagging(TAGS)


def log_losses(labels):
    """The two parts of the cross-entropy, in float64: where a tag is, and where it is not."""
    logits = LOGITS.astype(np.float64)
    return -labels * scipy.special.log_expit(logits), -(1 - labels) * scipy.special.log_expit(-logits)


def test_loss_is_the_mean_over_valid_examples_and_tags():
    expected = sum(log_losses(LABELS))[VALID].mean()
    np.testing.assert_allclose(loss_of(TASK, LOGITS, BATCH), expected, rtol=1e-5)
    np.testing.assert_allclose(summary_of(BATCH)["loss"], expected, rtol=1e-5)


def test_positive_weights_count_where_the_tag_is():
    weights = (1.0, 2.0, 0.5, 10.0)
    task = Tagging(TAGS, positive_weights=weights)
    there, elsewhere = log_losses(LABELS)
    expected = (np.asarray(weights) * there + elsewhere)[VALID].mean()
    np.testing.assert_allclose(loss_of(task, jnp.asarray(LOGITS), BATCH), expected, rtol=1e-5)


def test_smoothing_and_shares():
    shares = generator.uniform(size=(12, 4)).astype(np.float32)
    weights = np.array([1.0, 2.0, 0.5, 10.0])
    task = Tagging(TAGS, label_smoothing=0.2, positive_weights=tuple(weights.tolist()))
    losses = sum(log_losses(0.8 * shares.astype(np.float64) + 0.1)) * (shares * weights + 1 - shares)
    found = loss_of(task, jnp.asarray(LOGITS), BATCH | {"tags": jnp.asarray(shares)})
    np.testing.assert_allclose(found, losses[VALID].mean(), rtol=1e-5)


def test_focal_loss_fades_where_the_model_is_right():
    task = Tagging(TAGS, loss_name="focal", focal_gamma=3.0, positive_weights=(1.0, 2.0, 0.5, 10.0))
    right = np.where(LABELS, scipy.special.expit(LOGITS), scipy.special.expit(-LOGITS)).astype(np.float64)
    there, elsewhere = log_losses(LABELS)
    losses = (1 - right) ** 3 * (np.array([1.0, 2.0, 0.5, 10.0]) * there + elsewhere)
    np.testing.assert_allclose(loss_of(task, jnp.asarray(LOGITS), BATCH), losses[VALID].mean(), rtol=1e-4)
    flat = Tagging(TAGS, loss_name="focal", focal_gamma=0.0)
    np.testing.assert_allclose(
        loss_of(flat, jnp.asarray(LOGITS), BATCH), loss_of(TASK, jnp.asarray(LOGITS), BATCH), rtol=1e-5
    )


@pytest.mark.parametrize("kind", [bool, np.uint8])
def test_labels_of_any_type(kind):
    batch = BATCH | {"tags": jnp.asarray(LABELS.astype(kind))}
    assert loss_of(TASK, jnp.asarray(LOGITS), batch) == loss_of(TASK, jnp.asarray(LOGITS), BATCH)
    assert_alike(summary_of(batch), summary_of(BATCH))


def loss_of(task, logits, batch):
    return jax.jit(lambda logits: task.loss(logits, batch)[0].value)(logits)


def summary_of(batch, logits=LOGITS, task=TASK):
    def metrics(output):
        return task.metrics(output, task.predict(main_logits(output), batch), batch)

    return task.summarize(jax.jit(metrics)(jax.tree.map(jnp.asarray, logits)))


def assert_alike(found, expected):
    assert found == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_metrics_are_scikit_learns():
    task = Tagging(TAGS, threshold=0.3)
    found = summary_of(BATCH, task=task)
    labels, said = LABELS[VALID].astype(int), (scipy.special.expit(LOGITS) >= 0.3)[VALID].astype(int)
    assert list(found) == ["loss", "mean_average_precision", "micro_f1", "macro_f1", "exact_match"]
    assert found["mean_average_precision"] == pytest.approx(average_precision_score(labels, LOGITS[VALID]))
    assert found["micro_f1"] == pytest.approx(f1_score(labels, said, average="micro"))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, said, average="macro"))
    assert found["exact_match"] == pytest.approx(accuracy_score(labels, said))
    assert task.score(found) == found["mean_average_precision"]


def test_tags_without_positives_are_left_out_and_counted():
    labels = LABELS * np.float32([1, 0, 1, 0])
    logits = LOGITS - np.float32([0, 0, 0, 100])
    found = summary_of(BATCH | {"tags": jnp.asarray(labels)}, logits)
    seen, said = labels[VALID].astype(int), (logits >= 0)[VALID].astype(int)
    assert found["tags_without_positives"] == 2
    expected = average_precision_score(seen[:, ::2], logits[VALID][:, ::2])
    assert found["mean_average_precision"] == pytest.approx(expected)
    # The second tag is predicted in vain, which is an F1 of zero; the fourth is never, which is none.
    assert said[:, 1].any()
    assert not said[:, 3].any()
    assert found["macro_f1"] == pytest.approx(f1_score(seen, said, average="macro", zero_division=np.nan))
    assert found["micro_f1"] == pytest.approx(f1_score(seen, said, average="micro"))


def test_scores_that_round_to_probability_one_keep_their_order():
    logits = jnp.asarray([[20.0], [30.0], [25.0]])
    batch = {"tags": jnp.asarray([[0.0], [1.0], [1.0]]), "valid": jnp.ones(3, bool)}
    assert Tagging(("a",)).predict(logits, batch)["probabilities"].min() == 1.0
    assert summary_of(batch, logits, Tagging(("a",)))["mean_average_precision"] == 1.0


def test_mixed_labels_are_present_above_one_half():
    shares = jnp.asarray(LABELS * 0.8 + 0.1)
    hard, mixed = summary_of(BATCH), summary_of(BATCH | {"tags": shares})
    assert {**mixed, "loss": 0} == {**hard, "loss": 0}


def test_what_padding_holds_does_not_count():
    poisoned = BATCH | {"tags": jnp.where(jnp.asarray(VALID)[:, None], BATCH["tags"], jnp.nan)}
    assert_alike(summary_of(poisoned), summary_of(BATCH))
    task = Tagging(TAGS, positive_weights=(1.0, 2.0, 3.0, 4.0))
    gradient = jax.jit(jax.grad(lambda logits: task.loss(logits, poisoned)[0].value))(jnp.asarray(LOGITS))
    np.testing.assert_array_equal(gradient[9:], np.zeros((3, 4)))
    assert np.isfinite(gradient).all()


def test_an_empty_batch_has_no_loss_and_no_gradient():
    batch = BATCH | {"valid": jnp.zeros(12, bool)}
    loss, gradient = jax.jit(jax.value_and_grad(lambda logits: TASK.loss(logits, batch)[0].value))(jnp.asarray(LOGITS))
    assert loss == 0
    np.testing.assert_array_equal(gradient, np.zeros((12, 4)))
    summary = summary_of(batch)
    assert summary.pop("tags_without_positives") == 4
    assert np.isnan(list(summary.values())).all()


def test_extreme_logits_stay_finite():
    logits = jnp.asarray([[1e4, -1e4]])
    batch = {"tags": jnp.asarray([[0.0, 0.0]]), "valid": jnp.ones(1, bool)}
    for task in (Tagging(("a", "b")), Tagging(("a", "b"), loss_name="focal")):
        loss, gradient = jax.jit(jax.value_and_grad(lambda logits, task=task: task.loss(logits, batch)[0].value))(
            logits
        )
        assert loss == 5e3
        np.testing.assert_allclose(gradient, [[0.5, 0]], atol=1e-6)


def test_predictions():
    predicted = Tagging(TAGS, threshold=0.7).predict(jnp.asarray(LOGITS), BATCH)
    expected = scipy.special.expit(LOGITS)
    np.testing.assert_allclose(predicted["probabilities"], expected, rtol=1e-5)
    np.testing.assert_array_equal(predicted["tags"], expected >= 0.7)
    assert Tagging(("a",)).predict(jnp.zeros((1, 1)), {})["tags"].all()


def test_rows_list_the_tags_and_every_probability():
    predictions = {
        "tags": np.array([[True, False, True, False], [False] * 4]),
        "probabilities": np.float32([[0.75, 0.25, 0.5, 0.125], [0, 0, 0, 0]]),
    }
    first, second = TASK.rows(predictions)
    assert first == {
        "tags": "round; striped",
        "probability of round": 0.75,
        "probability of red": 0.25,
        "probability of striped": 0.5,
        "probability of large": 0.125,
    }
    assert second["tags"] == ""


def test_auxiliary_heads_add_to_the_loss_and_not_to_the_metrics():
    output = AuxiliaryLogits(jnp.asarray(LOGITS), (jnp.asarray(-LOGITS),), weight=0.4)
    alone = [float(loss_of(TASK, logits, BATCH)) for logits in (output.logits, *output.auxiliary)]
    np.testing.assert_allclose(loss_of(TASK, output, BATCH), alone[0] + 0.4 * alone[1], rtol=1e-6)
    assert summary_of(BATCH, output) == summary_of(BATCH, output.logits)
    # The log of the training steps tells the main head's loss.
    assert TASK.summarize(TASK.loss(output, BATCH)[1]) == {"loss": pytest.approx(alone[0], rel=1e-6)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tags": ()}, "at least one"),
        ({"focal_gamma": -1.0}, "focal_gamma=-1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"threshold": 1.0}, "threshold=1.0"),
        ({"positive_weights": (1.0, 2.0)}, "expected 4 positive numbers, one per tag"),
        ({"positive_weights": (1.0, 2.0, 0.0, 1.0)}, "expected 4 positive numbers"),
        ({"positive_weights": (1.0, 2.0, float("nan"), 1.0)}, "expected 4 positive numbers"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Tagging(**({"tags": TAGS} | options))


@pytest.mark.usefixtures("unchecked_types")
def test_an_unknown_loss():
    with pytest.raises(ValueError, match="loss_name='hinge'; expected binary_cross_entropy or focal"):
        Tagging(TAGS, loss_name="hinge")


def test_batches_and_logits_that_do_not_fit():
    valid = BATCH["valid"]
    with pytest.raises(ValueError, match=r"holds 'label', 'valid' and no \"tags\".*csv:PATH.*use Classification"):
        TASK.loss(jnp.asarray(LOGITS), {"label": jnp.zeros(12, jnp.int32), "valid": valid})
    with pytest.raises(ValueError, match=r"\"tags\"\] has shape \(12, 3\); expected \(12, 4\).*tags of the source"):
        TASK.metrics(
            jnp.asarray(LOGITS), TASK.predict(jnp.asarray(LOGITS), {}), {"tags": BATCH["tags"][:, :3], "valid": valid}
        )
    with pytest.raises(ValueError, match=r"\"tags\"\] has shape \(12,\); expected \(12, 4\)"):
        TASK.loss(jnp.asarray(LOGITS), {"tags": jnp.zeros(12, jnp.int32), "valid": valid})
    with pytest.raises(ValueError, match=r"logits have shape \(12, 5\) and tags \(12, 4\).*give the model 4 outputs"):
        TASK.loss(jnp.ones((12, 5)), BATCH)


def test_a_label_that_is_no_share_stops_a_run():
    assert np.isnan(loss_of(TASK, jnp.asarray(LOGITS), BATCH | {"tags": 2 * BATCH["tags"]}))
