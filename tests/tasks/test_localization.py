"""Localisation against sums written in NumPy: the largest object, both losses, metrics, predictions, rows, drawings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from cnnjax.models import AuxiliaryLogits
from cnnjax.tasks import Localization, ObjectTask, Task, merge

CLASSES = ("cat", "dog")
TASK = Localization(CLASSES)

# Pictures of 40 rows and 80 columns: the second object is the larger one, the first is, there is none, and padding.
BOXES = np.array(
    [
        [[0, 0, 10, 10], [20, 10, 60, 30]],
        [[8, 4, 72, 36], [0, 0, 5, 5]],
        [[0, 0, 0, 0], [0, 0, 0, 0]],
        [[10, 10, 20, 20], [0, 0, 0, 0]],
    ],
    np.float32,
)
BATCH = {
    "image": jnp.zeros((4, 40, 80, 3)),
    "boxes": jnp.asarray(BOXES),
    "classes": jnp.asarray([[0, 1], [0, 1], [0, 0], [1, 0]], jnp.int32),
    "present": jnp.asarray([[True, True], [True, True], [False, False], [True, False]]),
    "valid": jnp.asarray([True, True, True, False]),
}
LARGEST = np.array([[20, 10, 60, 30], [8, 4, 72, 36]], np.float64)
LABELS = np.array([1, 0])
OUTPUT = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)


def corners_of(numbers):
    """The box that four numbers mean, in pixels, written from the docstring's formula."""
    x, y = 40 + 80 * numbers[0] / 10, 20 + 40 * numbers[1] / 10
    width, height = 80 * np.exp(numbers[2] / 5), 40 * np.exp(numbers[3] / 5)
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def numbers_of(box):
    """Its inverse."""
    x_min, y_min, x_max, y_max = box
    centre = [10 * ((x_min + x_max) / 2 - 40) / 80, 10 * ((y_min + y_max) / 2 - 20) / 40]
    return np.array([*centre, 5 * np.log((x_max - x_min) / 80), 5 * np.log((y_max - y_min) / 40)])


def area_of(box):
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def overlaps_of(one, other):
    """IoU, and GIoU."""
    common = area_of([*np.maximum(one[:2], other[:2]), *np.minimum(one[2:], other[2:])])
    union = area_of(one) + area_of(other) - common
    around = area_of([*np.minimum(one[:2], other[:2]), *np.maximum(one[2:], other[2:])])
    return common / union, common / union - (around - union) / around


def losses_of(output, box_loss):
    """Those of class and box, of the two pictures that count."""
    of_class = -scipy.special.log_softmax(output[:2, :2].astype(np.float64), axis=-1)[[0, 1], LABELS]
    of_box = []
    for numbers, box in zip(output[:2, 2:].astype(np.float64), LARGEST, strict=True):
        errors = np.abs(numbers - numbers_of(box))
        smooth = np.where(errors < 1, errors**2 / 2, errors - 0.5).sum()
        of_box.append(smooth if box_loss == "smooth_l1" else 1 - overlaps_of(corners_of(numbers), box)[1])
    return of_class, np.array(of_box)


def saying(boxes, labels):
    """Outputs that mean given boxes and, surely, given classes."""
    numbers = np.stack([numbers_of(box) for box in boxes])
    return jnp.asarray(np.concatenate([20 * np.eye(2)[labels], numbers], axis=1), jnp.float32)


def summary_of(task, output, batch):
    return task.summarize(merge([task.metrics(jnp.asarray(output), None, batch)]))


def test_the_largest_present_object_is_to_be_found():
    target = TASK.objects_of(BATCH)
    np.testing.assert_array_equal(target.boxes[:2, 0], LARGEST)
    assert target.classes[:, 0].tolist()[:2] == LABELS.tolist()
    assert target.present[:, 0].tolist() == [True, True, False, True]


def test_crowds_and_difficult_objects_are_not_to_be_found():
    marked = {**BATCH, "crowd": jnp.zeros((4, 2), bool).at[0, 1].set(True)}
    marked["difficult"] = jnp.zeros((4, 2), bool).at[1].set(True)
    target = TASK.objects_of(marked)
    assert target.boxes[0, 0].tolist() == [0, 0, 10, 10]
    assert target.present[:, 0].tolist() == [True, False, False, True]


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
def test_both_losses_over_the_pictures_that_have_an_object(box_loss):
    task = Localization(CLASSES, box_loss=box_loss, box_weight=0.5)
    of_class, of_box = losses_of(OUTPUT, box_loss)
    loss = jax.jit(lambda output: task.loss(output, BATCH)[0])(jnp.asarray(OUTPUT))
    assert loss.count == 2
    np.testing.assert_allclose(loss.value, np.mean(of_class + 0.5 * of_box), rtol=1e-5)
    summary = task.summarize(task.loss(jnp.asarray(OUTPUT), BATCH)[1])
    assert summary["loss"] == pytest.approx(np.mean(of_class + 0.5 * of_box), rel=1e-5)
    assert summary["class loss"] == pytest.approx(of_class.mean(), rel=1e-5)
    assert summary["box loss"] == pytest.approx(of_box.mean(), rel=1e-5)


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
def test_the_gradient_is_that_of_differences_and_none_where_there_is_no_object(box_loss):
    task = Localization(CLASSES, box_loss=box_loss)
    gradient = jax.grad(lambda output: task.loss(output, BATCH)[0].value)(jnp.asarray(OUTPUT))
    np.testing.assert_array_equal(gradient[2:], 0)
    for place in np.ndindex(2, 6):
        moved = [OUTPUT.astype(np.float64) for _ in range(2)]
        moved[0][place] += 1e-5
        moved[1][place] -= 1e-5
        high, low = (np.mean(sum(losses_of(one, box_loss))) for one in moved)
        np.testing.assert_allclose(gradient[place], (high - low) / 2e-5, rtol=2e-3, atol=1e-5)


def test_the_loss_of_the_truth_is_nothing():
    output = jnp.concatenate([saying(LARGEST, LABELS), jnp.asarray(OUTPUT[2:])])
    for box_loss in ("smooth_l1", "giou"):
        summary = summary_of(Localization(CLASSES, box_loss=box_loss), output, BATCH)
        assert summary["loss"] == pytest.approx(0, abs=1e-5)
        assert summary["mean_iou"] == pytest.approx(1, abs=1e-5)
        assert summary["correct"] == 1


def test_metrics_by_hand():
    """Half of the first box, whose class is right; more than half of the second, whose class is wrong."""
    said = np.array([[20, 10, 40, 30], [8, 4, 72, 28]], np.float64)
    output = jnp.concatenate([saying(said, [1, 1]), jnp.asarray(OUTPUT[2:])])
    summary = summary_of(TASK, output, BATCH)
    assert summary["mean_iou"] == pytest.approx((0.5 + 0.75) / 2, rel=1e-5)
    assert summary["accuracy"] == 0.5
    assert summary["iou50"] in (0.5, 1.0)  # the first is at the limit, give or take a rounding
    said[0, 2] = 39
    output = jnp.concatenate([saying(said, [1, 1]), jnp.asarray(OUTPUT[2:])])
    summary = summary_of(TASK, output, BATCH)
    assert (summary["iou50"], summary["correct"]) == (0.5, 0.0)
    assert TASK.score(summary) == summary["mean_iou"]
    said[0, 2] = 50
    output = jnp.concatenate([saying(said, [1, 1]), jnp.asarray(OUTPUT[2:])])
    summary = summary_of(TASK, output, BATCH)
    assert (summary["iou50"], summary["correct"]) == (1.0, 0.5)


def test_metrics_of_parts_add_up_to_the_metrics_of_all():
    def part(rows):
        return TASK.metrics(jnp.asarray(OUTPUT[rows]), None, jax.tree.map(lambda leaf: leaf[rows], BATCH))

    merged = merge([part(slice(0, 1)), part(slice(1, 4))])
    assert TASK.summarize(merged) == pytest.approx(summary_of(TASK, OUTPUT, BATCH), rel=1e-6)


def test_pictures_without_any_object_have_no_loss_no_gradient_and_no_numbers():
    batch = {**BATCH, "present": jnp.zeros((4, 2), bool), "boxes": jnp.zeros((4, 2, 4))}
    for box_loss in ("smooth_l1", "giou"):
        task = Localization(CLASSES, box_loss=box_loss)
        loss, gradient = jax.value_and_grad(lambda output, task=task: task.loss(output, batch)[0].value)(
            jnp.asarray(OUTPUT)
        )
        assert loss == 0
        np.testing.assert_array_equal(gradient, np.zeros((4, 6)))
    summary = summary_of(TASK, OUTPUT, batch)
    assert np.isnan(summary["mean_iou"])
    assert TASK.score(summary) == 0.0


def test_a_box_with_a_nan_stops_a_run():
    batch = {**BATCH, "boxes": BATCH["boxes"].at[0, 1, 2].set(jnp.nan)}
    assert np.isnan(TASK.loss(jnp.asarray(OUTPUT), batch)[0].value)


def test_predictions_are_boxes_in_pixels_cut_at_the_border():
    predicted = TASK.predict(jnp.asarray(OUTPUT), {"image": BATCH["image"]})
    expected = [np.clip(corners_of(numbers), 0, [80, 40, 80, 40]) for numbers in OUTPUT[:, 2:]]
    np.testing.assert_allclose(predicted["boxes"][:, 0], expected, rtol=1e-5, atol=1e-4)
    shares = scipy.special.softmax(OUTPUT[:, :2], -1)
    np.testing.assert_allclose(predicted["probabilities"][:, 0], shares, rtol=1e-5)
    np.testing.assert_allclose(predicted["scores"][:, 0], shares.max(-1), rtol=1e-5)
    np.testing.assert_array_equal(predicted["classes"][:, 0], shares.argmax(-1))
    assert predicted["present"].all()
    whole = TASK.predict(jnp.zeros((4, 6)), BATCH)
    np.testing.assert_allclose(whole["boxes"][:, 0], [[0, 0, 80, 40]] * 4, atol=1e-4)


def test_rows_and_drawings():
    predictions = {name: np.asarray(array) for name, array in TASK.predict(jnp.asarray(OUTPUT), BATCH).items()}
    first = TASK.rows(predictions)[0]
    label, shares = OUTPUT[0, :2].argmax(), scipy.special.softmax(OUTPUT[0, :2])
    assert first["class"] == CLASSES[label]
    assert [first["probability of cat"], first["probability of dog"]] == pytest.approx(shares.tolist(), rel=1e-5)
    assert first["probability"] == first[f"probability of {first['class']}"]
    corners = [first[name] for name in ("x_min", "y_min", "x_max", "y_max")]
    assert corners == predictions["boxes"][0, 0].tolist()
    batch = {name: np.asarray(array) for name, array in BATCH.items()}
    assert set(TASK.draw(batch, predictions)) == {"Examples", "Worst examples", "Confusion matrix"}
    nothing = {**batch, "present": np.zeros((4, 2), bool)}
    assert TASK.draw(nothing, predictions) == {}


def test_one_class_is_always_right():
    task = Localization(("raccoon",))
    batch = {**BATCH, "classes": jnp.zeros((4, 2), jnp.int32)}
    summary = summary_of(task, OUTPUT[:, 1:], batch)
    assert (summary["accuracy"], summary["class loss"]) == (1.0, 0.0)
    assert summary["correct"] == summary["iou50"]


def test_auxiliary_heads_add_to_the_loss_and_not_to_the_metrics():
    others = tuple(jnp.asarray(np.roll(OUTPUT, shift, axis=0)) for shift in (1, 2))
    output = AuxiliaryLogits(jnp.asarray(OUTPUT), others, weight=0.4)
    alone = [np.mean(sum(losses_of(np.asarray(one), "smooth_l1"))) for one in (output.logits, *others)]
    loss, told = TASK.loss(output, BATCH)
    np.testing.assert_allclose(loss.value, alone[0] + 0.4 * (alone[1] + alone[2]), rtol=1e-5)
    assert TASK.summarize(told) == summary_of(TASK, OUTPUT, BATCH)


def test_it_is_a_task_of_objects_with_more_outputs_than_classes():
    assert isinstance(TASK, Task)
    assert isinstance(TASK, ObjectTask)
    assert TASK.outputs == 6
    assert TASK.inputs(BATCH, train=True) is BATCH["image"]


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ()}, r"classes=\(\); localisation needs one class of things at least"),
        ({"classes": CLASSES, "box_loss": "l2"}, "box_loss='l2'; expected 'smooth_l1' or 'giou'"),
        ({"classes": CLASSES, "box_weight": 0.0}, "box_weight=0.0; expected a positive, finite number"),
        ({"classes": CLASSES, "box_weight": float("nan")}, "box_weight=nan; expected a positive, finite number"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Localization(**options)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("output", "came"),
    [
        (jnp.zeros((4, 2)), r"outputs of shape \(4, 2\)"),
        (jnp.zeros((4, 5, 5, 6)), r"outputs of shape \(4, 5, 5, 6\)"),
        ({"boxes": 0}, "dict"),
    ],
)
def test_outputs_of_another_net(output, came):
    with pytest.raises(ValueError, match=rf"the net gives {came}; expected \(4, 6\): .* made with num_classes=6"):
        TASK.loss(output, BATCH)


def test_a_batch_without_boxes():
    batch = {name: BATCH[name] for name in ("image", "valid")}
    with pytest.raises(ValueError, match='and no "boxes"; expected objects, as voc:'):
        TASK.loss(jnp.asarray(OUTPUT), batch)
