"""Segmentation: loss and numbers against loops in NumPy, ignored labels, instances, weights, what is refused."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from cnnjax.data import ArraySource, Info
from cnnjax.models import AuxiliaryLogits
from cnnjax.tasks import Segmentation, SegmentationSettings
from cnnjax.tasks.metrics import merge

CLASSES = ("background", "cell", "debris")
GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(size=(3, 6, 5, 3)).astype(np.float32)
MASKS = GENERATOR.integers(0, 3, size=(3, 6, 5)).astype(np.int32)
VALID = jnp.asarray([True, True, False])


def batch(masks=MASKS, **more):
    return {"image": jnp.zeros((3, 6, 5, 1)), "masks": jnp.asarray(masks), "valid": VALID, **more}


def cross_entropy(example, labels, weights):
    log_shares = scipy.special.log_softmax(LOGITS[example].astype(np.float64), axis=-1)
    each = -np.take_along_axis(log_shares, labels[..., None], axis=-1)[..., 0]
    return (each * weights).sum() / weights.sum()


def value(task, logits=LOGITS, **options):
    return float(task.loss(jnp.asarray(logits), batch(**options))[0].value)


def test_loss_is_the_mean_over_valid_pictures():
    expected = np.mean([cross_entropy(example, MASKS[example], np.ones((6, 5))) for example in range(2)])
    np.testing.assert_allclose(value(Segmentation(CLASSES)), expected, rtol=1e-5)


def test_weights_of_pixels_and_classes_and_ignored_labels():
    weights = GENERATOR.uniform(0.5, 4, MASKS.shape).astype(np.float32)
    masks = MASKS.copy()
    masks[:, 0] = 255
    by_class = np.array([1.0, 5.0, 2.0])
    counted = (masks != 255) * weights * by_class[MASKS]
    expected = np.mean([cross_entropy(k, MASKS[k], counted[k]) for k in range(2)])
    task = Segmentation(CLASSES, ignored=255, class_weights=tuple(by_class))
    found = value(task, masks=np.stack([masks.astype(np.float32), weights], axis=-1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_instances_are_one_class():
    numbered = np.where(MASKS > 0, MASKS + 40, 0)
    two = Segmentation(("background", "object"), instances=True)
    logits = LOGITS[..., :2]
    same = Segmentation(("background", "object"))
    np.testing.assert_allclose(
        value(two, logits, masks=numbered), value(same, logits, masks=(MASKS > 0).astype(np.int32)), rtol=1e-6
    )


def test_ignored_pixels_of_instances_keep_their_label():
    numbered = np.where(MASKS > 0, MASKS + 40, 0)
    numbered[:, 0] = 99
    task = Segmentation(("background", "object"), instances=True, ignored=99)
    for kind in (np.asarray, jnp.asarray):
        expected = np.where(numbered == 99, 99, numbered > 0)
        np.testing.assert_array_equal(task._labels(kind(numbered)), expected)


def test_objects_are_connected_pixels():
    labels = np.array([[1, 1, 0], [0, 0, 1]])
    assert Segmentation(("background", "object"), instances=True).objects(labels).tolist() == [[1, 1, 0], [0, 0, 2]]
    assert Segmentation(CLASSES).objects(labels) is None


def test_labels_of_the_middle_count_where_logits_are_of_the_middle():
    inner = LOGITS[:, 1:5, 1:4]
    task = Segmentation(CLASSES)
    found = float(task.loss(jnp.asarray(inner), batch())[0].value)
    cut = {**batch(), "masks": jnp.asarray(MASKS[:, 1:5, 1:4])}
    np.testing.assert_allclose(found, float(task.loss(jnp.asarray(inner), cut)[0].value), rtol=1e-6)


def test_both_losses_together_and_auxiliary_heads():
    parts = [value(Segmentation(CLASSES, loss_name=name)) for name in ("cross_entropy", "dice")]
    both = Segmentation(CLASSES, loss_name="cross_entropy_and_dice")
    np.testing.assert_allclose(value(both), sum(parts), rtol=1e-6)
    heads = AuxiliaryLogits(jnp.asarray(LOGITS), (jnp.asarray(LOGITS),), weight=0.5)
    np.testing.assert_allclose(float(both.loss(heads, batch())[0].value), 1.5 * sum(parts), rtol=1e-6)


def test_summary_of_two_batches_is_by_hand():
    task = Segmentation(CLASSES, ignored=255)
    masks = MASKS.copy()
    masks[0, 0] = 255
    predicted = LOGITS.argmax(-1)

    @jax.jit
    def one(logits, batch):
        return task.metrics(logits, task.predict(logits, batch), batch)

    parts = [one(jnp.asarray(LOGITS[::order]), batch(masks[::order])) for order in (1, -1)]
    summary = task.summarize(merge(parts))
    # Of the first batch pictures 0 and 1 are valid, of the second 2 and 1.
    pictures = [0, 1, 2, 1]
    confusion = np.zeros((3, 3))
    dice = []
    for picture in pictures:
        counted = masks[picture] != 255
        for true, said in zip(masks[picture][counted], predicted[picture][counted], strict=True):
            confusion[true, said] += 1
        truth, ours = masks[picture][counted] == 1, predicted[picture][counted] == 1
        dice.append(2 * np.sum(truth & ours) / (truth.sum() + ours.sum()))
    both = np.diag(confusion)
    iou = both / (confusion.sum(0) + confusion.sum(1) - both)
    np.testing.assert_allclose(summary["mean_iou"], iou.mean(), rtol=1e-6)
    np.testing.assert_allclose(summary["pixel_accuracy"], both.sum() / confusion.sum(), rtol=1e-6)
    np.testing.assert_allclose(summary["dice of cell"], np.mean(dice), rtol=1e-6)
    assert task.score(summary) == summary["mean_iou"]


def test_predictions_and_rows():
    task = Segmentation(CLASSES)
    predictions = jax.device_get(task.predict(jnp.asarray(LOGITS), batch()))
    np.testing.assert_array_equal(predictions["labels"], LOGITS.argmax(-1))
    shares = scipy.special.softmax(LOGITS.astype(np.float64), axis=-1)
    np.testing.assert_allclose(predictions["confidence"], shares.max(-1), rtol=1e-5)
    row = task.rows(predictions)[0]
    assert list(row) == ["share of background", "share of cell", "share of debris", "mean confidence"]
    np.testing.assert_allclose(row["share of cell"], (LOGITS[0].argmax(-1) == 1).mean())


def test_it_draws():
    task = Segmentation(CLASSES)
    whole = {"image": GENERATOR.integers(0, 255, (3, 6, 5, 3)).astype(np.uint8), "masks": MASKS}
    drawn = task.draw(whole, jax.device_get(task.predict(jnp.asarray(LOGITS), batch())))
    assert list(drawn) == ["Confusion of pixels", "Examples", "Worst examples"]
    inner = task.draw(whole, jax.device_get(task.predict(jnp.asarray(LOGITS[:, 1:5, 1:4]), batch())))
    assert len(inner["Examples"].axes) == 9


def source(labels="semantic", masks=MASKS, **more):
    info = Info("cells", "train", {}, CLASSES if labels == "semantic" else ("background", "object"))
    arrays = {"image": np.zeros((3, 6, 5, 1), np.uint8), "masks": masks}
    made = ArraySource(arrays, info)
    object.__setattr__(made, "info", type(info)(**{**vars(made.info), "labels": labels, **more}))
    return made


def test_settings_build_and_rebuild():
    settings = SegmentationSettings(loss="dice", class_weights="balanced")
    task = settings.build(source())
    counts = np.bincount(MASKS.ravel(), minlength=3)
    np.testing.assert_allclose(task.class_weights, MASKS.size / (3 * counts))
    assert task.loss_name == "dice"
    assert settings.model_options(source()) == {"num_classes": 3}
    plain = {"classes": list(CLASSES), "loss_name": "dice", "ignored": 255}
    assert settings.rebuild(plain) == Segmentation(CLASSES, loss_name="dice", ignored=255)
    objects = SegmentationSettings().build(source("instances", ignored=7))
    assert (objects.instances, objects.ignored, objects.classes) == (True, 7, ("background", "object"))


def test_settings_without_masks():
    labelled = ArraySource({"image": np.zeros((3, 6, 5, 1), np.uint8), "label": np.zeros(3, int)})
    with pytest.raises(ValueError, match="arrays has no masks for segmentation; open label maps by masks:PATH"):
        SegmentationSettings().build(labelled)
    with pytest.raises(ValueError, match="debris: no pixels in the training set"):
        SegmentationSettings(class_weights="balanced").build(source(masks=np.minimum(MASKS, 1)))
    scenes = source("instances")
    object.__setattr__(scenes, "info", type(scenes.info)(**{**vars(scenes.info), "classes": CLASSES}))
    with pytest.raises(ValueError, match="the masks of cells number objects of 3 classes"):
        SegmentationSettings().build(scenes)
    with pytest.raises(ValueError, match="the masks of cells do not tell objects apart"):
        SegmentationSettings(separation=10.0).examples(source())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("one",)}, "segmentation needs at least two"),
        ({"classes": CLASSES, "instances": True}, "instances with 3 classes; expected two"),
        ({"classes": CLASSES, "loss_name": "jaccard"}, "loss_name='jaccard'; expected cross_entropy"),
        ({"classes": CLASSES, "class_weights": (1.0, 0.0, 1.0)}, "expected 3 positive numbers"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_bad_tasks(options, message):
    with pytest.raises(ValueError, match=message):
        Segmentation(**options)


@pytest.mark.usefixtures("unchecked_types")
def test_bad_batches():
    loss = inspect.unwrap(partial(Segmentation(CLASSES).loss))
    with pytest.raises(ValueError, match=r'the batch holds .*"masks"; expected a label for every pixel'):
        loss(jnp.asarray(LOGITS), {"image": jnp.zeros(3), "valid": VALID})
    with pytest.raises(ValueError, match=r"logits have shape \(3, 3\); expected \(batch, rows, columns, 3\): take"):
        loss(jnp.zeros((3, 3)), batch())
    with pytest.raises(ValueError, match=r'batch\["masks"\] has shape \(3, 6, 5, 4\); .*--objects.masks map'):
        loss(jnp.asarray(LOGITS), batch(np.zeros((3, 6, 5, 4))))
    with pytest.raises(ValueError, match=r"logits are of \(6, 5\) pixels,? and masks of \(4, 5\)"):
        loss(jnp.asarray(LOGITS), batch(MASKS[:, :4]))
