"""Overlaps of label maps: equal to scikit-learn's on all pixels, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score, recall_score

from cnnjax.tasks.metrics import Metric, PictureOverlaps, PixelCounts, count_pixels, merge
from cnnjax.train.parallel import make_mesh

generator = np.random.default_rng(7)
CLASSES, IGNORED = 4, 255
LABELS = generator.integers(0, CLASSES, (6, 9, 11)).astype(np.uint8)
LABELS[generator.random(LABELS.shape) < 0.1] = IGNORED
PREDICTED = np.where(
    generator.random(LABELS.shape) < 0.6, LABELS % CLASSES, generator.integers(0, CLASSES, LABELS.shape)
)
PREDICTED = PREDICTED.astype(np.int32)
VALID = np.array([True, True, False, True, True, True])


def measured(rows=slice(None)):
    def step(labels, predicted, valid):
        counts = count_pixels(labels, predicted, classes=CLASSES, ignored=IGNORED)
        return {"pixels": PixelCounts.of(counts, valid), "pictures": PictureOverlaps.of(counts, valid)}

    return jax.jit(step)(LABELS[rows], PREDICTED[rows], VALID[rows])


def pixels(labels=LABELS[VALID], predicted=PREDICTED[VALID]):
    counted = labels != IGNORED
    return labels[counted].astype(int), predicted[counted]


def test_all_pixels_are_scikit_learns():
    found = measured()["pixels"]
    truth, said = pixels()
    np.testing.assert_array_equal(found.confusion(), confusion_matrix(truth, said))
    assert found.accuracy() == pytest.approx(accuracy_score(truth, said), rel=1e-12)
    np.testing.assert_allclose(found.iou(), jaccard_score(truth, said, average=None), rtol=1e-12)
    np.testing.assert_allclose(found.dice(), f1_score(truth, said, average=None), rtol=1e-12)
    np.testing.assert_allclose(found.recall(), recall_score(truth, said, average=None), rtol=1e-12)
    expected = {
        "pixel_accuracy": accuracy_score(truth, said),
        "mean_iou": jaccard_score(truth, said, average="macro"),
        "mean_dice": f1_score(truth, said, average="macro"),
        "mean_recall": recall_score(truth, said, average="macro"),
    }
    assert found.numbers() == pytest.approx(expected, rel=1e-12)


def test_pictures_count_alike():
    found = measured()["pictures"]
    of_each = [pixels(*pair) for pair in zip(LABELS[VALID], PREDICTED[VALID], strict=True)]
    for values, score in ((found.iou(), jaccard_score), (found.dice(), f1_score)):
        expected = np.mean([score(*pair, average=None) for pair in of_each], axis=0)
        np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_a_picture_without_a_class_does_not_count_for_it():
    labels = np.array([[[0, 0, 1, 1]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]])
    predicted = np.array([[[0, 0, 1, 0]], [[0, 0, 0, 0]], [[0, 0, 0, 1]]])
    counts = count_pixels(jnp.asarray(labels), jnp.asarray(predicted), classes=3)
    found = PictureOverlaps.of(counts, jnp.ones(3, bool))
    # Class 1: 2 * 1 / (2 + 1) in the first, none in the second, 0 in the third.
    np.testing.assert_allclose(found.dice(), [(4 / 5 + 1 + 6 / 7) / 3, (2 / 3 + 0) / 2, np.nan], rtol=1e-6)
    np.testing.assert_allclose(found.iou(), [(2 / 3 + 1 + 3 / 4) / 3, (1 / 2 + 0) / 2, np.nan], rtol=1e-6)
    assert found.pictures.tolist() == [3, 2, 0]


def test_batches_add_up():
    whole, parts = measured(), [measured(slice(0, 2)), measured(slice(2, 6))]
    merged = merge(parts)
    assert all(isinstance(metric, Metric) for metric in merged.values())
    assert merged["pixels"].counts.dtype == np.int64
    np.testing.assert_array_equal(merged["pixels"].confusion(), whole["pixels"].confusion())
    np.testing.assert_allclose(merged["pictures"].dice(), whole["pictures"].dice(), rtol=1e-6)


def test_devices_are_put_together_in_the_compiled_step():
    def each(labels, predicted, valid):
        counts = count_pixels(labels, predicted, classes=CLASSES, ignored=IGNORED)
        return PixelCounts.of(counts, valid).over("data"), PictureOverlaps.of(counts, valid).over("data")

    divided, whole = PartitionSpec("data"), PartitionSpec()
    step = jax.shard_map(each, mesh=make_mesh(2), in_specs=divided, out_specs=whole, check_vma=False)
    counts, overlaps = jax.jit(step)(LABELS, PREDICTED, VALID)
    np.testing.assert_array_equal(counts.confusion(), measured()["pixels"].confusion())
    np.testing.assert_allclose(overlaps.dice(), measured()["pictures"].dice(), rtol=1e-6)


def test_a_class_that_is_nowhere_is_left_out():
    counts = count_pixels(jnp.asarray([[[0, 0, 1, 1]]]), jnp.asarray([[[0, 1, 1, 1]]]), classes=3)
    found = PixelCounts.of(counts, jnp.ones(1, bool))
    np.testing.assert_allclose(found.iou(), [1 / 2, 2 / 3, np.nan])
    assert found.numbers() == pytest.approx(
        {"pixel_accuracy": 3 / 4, "mean_iou": 7 / 12, "mean_dice": (2 / 3 + 4 / 5) / 2, "mean_recall": 3 / 4}
    )
    assert found.of_classes(["sky", "sea", "sun"])[1] == {
        "class": "sea",
        "iou": pytest.approx(2 / 3),
        "dice": pytest.approx(4 / 5),
        "recall": 1.0,
        "pixels": 2,
        "predicted": 3,
    }


def test_nothing_has_no_numbers():
    counts = count_pixels(jnp.zeros((2, 3, 3), jnp.int32), jnp.zeros((2, 3, 3), jnp.int32), classes=2)
    nothing = jnp.zeros(2, bool)
    assert np.isnan(list(PixelCounts.of(counts, nothing).numbers().values())).all()
    assert np.isnan(PictureOverlaps.of(counts, nothing).dice()).all()


@pytest.mark.parametrize("label", [CLASSES, IGNORED, -1])
@pytest.mark.parametrize("side", [0, 1], ids=["labels", "predictions"])
def test_what_is_no_class_is_refused(label, side):
    sides = [np.where(LABELS == IGNORED, 0, LABELS).astype(np.int32), PREDICTED.copy()]
    sides[side][0, 0, 0] = label
    found = PixelCounts.of(count_pixels(*map(jnp.asarray, sides), classes=CLASSES), jnp.asarray(VALID))
    with pytest.raises(ValueError, match="1 pixels have, or are said to have, none of the 4 classes; name the label"):
        found.numbers()


def test_the_ignored_label_may_be_a_class():
    counts = count_pixels(jnp.asarray([[[0, 0, 1, 1]]]), jnp.asarray([[[0, 1, 1, 1]]]), classes=2, ignored=0)
    assert counts.tolist() == [[[0, 0], [0, 2], [0, 0]]]


def test_bad_input_is_told():
    labels = jnp.zeros((1, 2, 2), jnp.int32)
    with pytest.raises(ValueError, match="classes=0; expected one at least"):
        count_pixels(labels, labels, classes=0)
    found = PixelCounts.of(count_pixels(labels, labels, classes=2), jnp.ones(1, bool))
    with pytest.raises(ValueError, match="3 names came for 2 classes"):
        found.of_classes(["a", "b", "c"])


@pytest.mark.usefixtures("unchecked_types")
def test_maps_of_different_shapes_are_told():
    with pytest.raises(ValueError, match="predicted: shape"):
        count_pixels(jnp.zeros((1, 2, 2), jnp.int32), jnp.zeros((1, 2, 3), jnp.int32), classes=2)
