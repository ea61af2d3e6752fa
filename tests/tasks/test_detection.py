"""Detection as a task: losses divided by hand, coordinates of the original pictures, numbers, rows and drawings."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.data import ArraySource
from cnnjax.data.sources.source import Info
from cnnjax.tasks import Detection, DetectionSettings, InstanceSettings, Mean
from cnnjax.tasks.detection import back, unpadded
from cnnjax.tasks.metrics import merge

TASK = Detection(("cat", "dog"))
BATCH = {
    "image": jnp.zeros((2, 20, 20, 3)),
    "boxes": jnp.asarray([[[2.0, 2, 12, 12], [5, 5, 15, 15]], [[1, 1, 9, 9], [0, 0, 0, 0]]]),
    "classes": jnp.asarray([[0, 1], [1, 0]]),
    "present": jnp.asarray([[True, True], [True, False]]),
    "valid": jnp.asarray([True, True]),
    "id": jnp.asarray([0, 1]),
}


class Said:
    """An output with losses and detections that were made up."""

    candidates = 2

    def losses(self, objects):
        totals, counts = jnp.asarray([6.0, 1.0]), jnp.asarray([3.0, 0.0])
        return {"class": models.Part(totals, counts), "box": models.Part(2 * totals, counts)}

    def detections(self):
        boxes = jnp.asarray([[[2.0, 2, 12, 12], [0, 0, 4, 4]], [[1, 1, 9, 9], [0, 0, 0, 0]]])
        scores, classes = jnp.asarray([[0.9, 0.4], [0.8, 0.0]]), jnp.asarray([[0, 1], [1, 0]])
        return models.Detections(boxes, scores, classes, jnp.asarray([[True, True], [True, False]]))

    def class_scores(self):
        return jnp.zeros((2, 2))


def test_losses_are_divided_for_each_picture_or_for_all():
    loss, told = TASK.loss(Said(), BATCH)
    # 6 / 3 and 1 / 1, of class, and twice that of box.
    assert isinstance(loss, Mean)
    assert loss.value.item() == pytest.approx(3 * (2 + 1) / 2)
    assert told["class loss"].value.item() == pytest.approx(1.5)
    loss, _ = Detection(("cat", "dog"), divided="batch").loss(Said(), BATCH)
    assert loss.value.item() == pytest.approx(3 * 7 / 3)
    loss, _ = TASK.loss(Said(), {**BATCH, "valid": jnp.asarray([True, False])})
    assert loss.value.item() == pytest.approx(3 * 2)


def test_some_parts_are_learned_and_all_are_told():
    loss, told = Detection(("cat", "dog"), parts=("box",)).loss(Said(), BATCH)
    assert loss.value.item() == pytest.approx(2 * (2 + 1) / 2)
    assert set(told) == {"loss", "class loss", "box loss"}
    with pytest.raises(ValueError, match=r"the loss has no part 'mask'; expected some of \['class', 'box'\]"):
        Detection(("cat", "dog"), parts=("mask",)).loss(Said(), BATCH)


def test_inputs_have_objects_in_training_but_no_crowds_and_no_difficult_ones():
    assert TASK.inputs(BATCH, train=False) is BATCH["image"]
    marked = {**BATCH, "crowd": jnp.asarray([[True, False], [False, False]])}
    marked["difficult"] = jnp.asarray([[False, False], [True, False]])
    inputs = TASK.inputs(marked, train=True)
    assert isinstance(inputs, models.PicturesWithObjects)
    assert inputs.objects.present.tolist() == [[False, True], [False, False]]
    proposed = TASK.inputs({**BATCH, "proposals": jnp.zeros((2, 5, 4))}, train=False)
    assert isinstance(proposed, models.PicturesWithProposals)
    assert proposed.objects is None


def test_boxes_go_back_to_the_original_picture():
    matrix = jnp.asarray([[[0.5, 0, 3], [0, 0.25, 1], [0, 0, 1]]])
    moved = np.array([[10 * 0.5 + 3, 20 * 0.25 + 1, 30 * 0.5 + 3, 40 * 0.25 + 1]], np.float32)
    assert back(jnp.asarray(moved)[None], matrix).tolist() == [[[10.0, 20.0, 30.0, 40.0]]]
    assert back(jnp.asarray(moved)[None], None).tolist() == moved[None].tolist()


def test_numbers_of_an_evaluation():
    """Two of three objects are found exactly; one detection of a dog is of nothing."""
    said = Said()
    summary = TASK.summarize(merge([TASK.metrics(said, TASK.predict(said, BATCH), BATCH)]))
    assert summary["loss"] == pytest.approx(4.5)
    # Of cats all; of dogs one of two, before the false one: 51 of 101 recalls.
    assert summary["ap of cat"] == pytest.approx(1.0)
    assert summary["ap of dog"] == pytest.approx(51 / 101)
    assert summary["ap50"] == pytest.approx((1 + 51 / 101) / 2)
    assert summary["voc_ap50"] == pytest.approx(0.75)
    assert TASK.score(summary) == summary["ap50"]
    # All have less than 32 x 32 pixels.
    assert "ap_small" in summary
    assert not {"ap_medium", "ap_large"} & set(summary)
    assert TASK.score({"ap50": float("nan")}) == 0.0


def test_difficult_objects_do_not_count():
    said = Said()
    marked = {**BATCH, "difficult": jnp.asarray([[False, True], [False, False]])}
    summary = TASK.summarize(merge([TASK.metrics(said, TASK.predict(said, marked), marked)]))
    assert summary["ap50"] == pytest.approx(1.0)
    assert summary["voc_ap50"] == pytest.approx(1.0)


def test_rows_and_drawings():
    predictions = {name: np.asarray(array) for name, array in TASK.predict(Said(), BATCH).items()}
    first, second = TASK.rows(predictions)
    assert (first["objects"], first["found"], first["best"]) == (2, "1 cat, 1 dog", "cat")
    assert second["found"] == "1 dog"
    batch = {name: np.asarray(array) for name, array in BATCH.items()}
    figures = TASK.draw({**batch, "image": np.full((2, 20, 20, 3), 0.5)}, predictions)
    assert set(figures) == {
        *("Examples", "Most wrong examples", "Precision and recall", "Where errors come from"),
        "Confusion of classes",
    }
    assert len(unpadded(predictions)[1]["boxes"]) == 1
    nothing = {**predictions, "present": np.zeros((2, 2), bool)}
    assert TASK.rows(nothing)[0]["best"] is None


def source(**changed):
    arrays = {
        "image": np.zeros((3, 8, 8, 3), np.uint8),
        "boxes": np.tile(np.array([[[1.0, 1, 5, 5]]], np.float32), (3, 1, 1)),
        "classes": np.zeros((3, 1), np.int32),
        "present": np.ones((3, 1), bool),
        **changed,
    }
    arrays = {name: array for name, array in arrays.items() if array is not None}
    return ArraySource(arrays, Info("own", "train", {}, ("cat",)))


@pytest.mark.parametrize(
    ("settings", "changed", "message"),
    [
        (
            DetectionSettings,
            {"boxes": None},
            r"own has no 'boxes' for detection, only image, classes, present; open",
        ),
        (
            DetectionSettings,
            {"present": np.zeros((3, 1), bool)},
            r"own \(train\) has no object in any of its 3",
        ),
        (
            DetectionSettings,
            {"boxes": np.full((3, 1, 4), np.nan, np.float32)},
            r"own: a box of example 0 is not finite",
        ),
        (InstanceSettings, {}, r"own gives no masks for instances, .* read them with --objects.masks map"),
    ],
    ids=["no boxes", "no objects", "nan", "no masks"],
)
def test_data_that_do_not_fit(settings, changed, message):
    with pytest.raises(ValueError, match=message):
        settings().build(source(**changed))


@pytest.mark.usefixtures("unchecked_types")
def test_what_cannot_be():
    with pytest.raises(ValueError, match="needs one class of things at least"):
        Detection(())
    with pytest.raises(ValueError, match="divided='pixel'; expected 'picture' or 'batch'"):
        Detection(("cat",), divided="pixel")
    with pytest.raises(ValueError, match="which is no output of a detector; take one, such as ssd300"):
        TASK.loss(jnp.zeros((2, 3)), BATCH)
    with pytest.raises(ValueError, match='and no "boxes"; expected objects, as voc:'):
        TASK.loss(Said(), {"image": BATCH["image"], "valid": BATCH["valid"]})
    assert DetectionSettings().model_options(source()) == {"num_classes": 1}
