"""Settings that build tasks from the data, and tasks that come back from a record."""

import json
import re

import numpy as np
import pytest

from cnnjax.data import ArraySource, Info
from cnnjax.settings import to_plain
from cnnjax.tasks import (
    TASKS,
    Classification,
    ClassificationSettings,
    Localization,
    LocalizationSettings,
    Tagging,
    TaggingSettings,
    TaskSettings,
)

PICTURES = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8, 1)
LABELLED = ArraySource({"image": PICTURES, "label": np.array([0, 0, 0, 1])}, Info("mine", "train", {}, ("a", "b")))
TAGS = np.array([[1, 0], [1, 1], [0, 1], [0, 1]], np.float32)
TAGGED = ArraySource({"image": PICTURES, "tags": TAGS}, Info("mine", "train", {}, ("a", "b")))

BOXES = np.tile(np.array([[[1.0, 1, 5, 5]]], np.float32), (4, 1, 1))
OBJECTS = {
    "image": PICTURES,
    "boxes": BOXES,
    "classes": np.array([[0], [0], [1], [1]], np.int32),
    "present": np.ones((4, 1), bool),
}


def with_objects(classes=("a", "b"), **changed):
    """A source of pictures with objects; arrays that are None are left out."""
    arrays = {name: array for name, array in {**OBJECTS, **changed}.items() if array is not None}
    return ArraySource(arrays, Info("mine", "train", {}, classes))


def test_tasks_take_their_classes_and_weights_from_the_data():
    assert ClassificationSettings(label_smoothing=0.1).build(LABELLED) == Classification(("a", "b"), 0.1)
    balanced = ClassificationSettings(class_weights="balanced").build(LABELLED)
    assert balanced == Classification(("a", "b"), class_weights=(4 / (2 * 3), 4 / (2 * 1)))
    tagging = TaggingSettings("focal", class_weights="balanced").build(TAGGED)
    assert tagging == Tagging(("a", "b"), "focal", positive_weights=(1.0, 1 / 3))


def test_tasks_that_do_not_fit_the_data():
    with pytest.raises(
        ValueError, match=r"mine has no 'label' for classification; choose the task 'tagging' \(--task tagging\)"
    ):
        ClassificationSettings().build(TAGGED)
    with pytest.raises(ValueError, match="mine has no 'tags' for tagging; choose the task 'classification'"):
        TaggingSettings().build(LABELLED)
    lonely = ArraySource({"image": PICTURES, "label": np.zeros(4, int)}, Info("mine", "train", {}, ("a",)))
    with pytest.raises(ValueError, match="names 1 classes; classification needs at least two"):
        ClassificationSettings().build(lonely)


def test_localization_has_four_outputs_more_than_classes():
    settings, source = LocalizationSettings("giou", box_weight=2.0), with_objects()
    built = settings.build(source)
    assert built == Localization(("a", "b"), box_loss="giou", box_weight=2.0)
    assert settings.model_options(source) == {"num_classes": 6}
    assert settings.model_options(source)["num_classes"] == built.outputs
    assert settings.rebuild(json.loads(json.dumps(to_plain(built)))) == built
    unnamed = with_objects(classes=())
    assert LocalizationSettings().build(unnamed).classes == ("object",)
    assert LocalizationSettings().model_options(unnamed) == {"num_classes": 5}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"boxes": None},
            r"mine has no 'boxes' for localization, only image, classes, present; open data with objects",
        ),
        ({"present": np.zeros((4, 1), bool)}, r"mine \(train\) has no object in any of its 4 pictures"),
        ({"boxes": np.full((4, 1, 4), np.nan, np.float32)}, "mine: a box of example 0 is not finite; correct it"),
    ],
    ids=["no boxes", "no objects", "nan"],
)
def test_localization_needs_objects(changed, message):
    with pytest.raises(ValueError, match=message):
        LocalizationSettings().build(with_objects(**changed))


def test_data_of_objects_has_neither_classes_of_pictures_nor_tags():
    class Boxes(Streamed):
        info = Info("voc:pets", "train", {"image": (None, None, 3), "boxes": (2, 4), "classes": (2,)}, ("a", "b"))

    words = (
        r"voc:pets has no 'label' for classification: of its pictures it tells boxes, classes; choose a task .*--task"
    )
    with pytest.raises(ValueError, match=words):
        ClassificationSettings().build(Boxes())
    with pytest.raises(ValueError, match="voc:pets has no 'tags' for tagging: of its pictures"):
        TaggingSettings().build(Boxes())


class Streamed:
    """Examples whose labels are not known before they are read."""

    info = Info("stream", "train", {"image": (8, 8, 1), "label": (), "tags": (2,)}, ("a", "b"))

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return LABELLED[index]

    def column(self, name):
        return None


@pytest.mark.parametrize(("kind", "column"), [(ClassificationSettings, "label"), (TaggingSettings, "tags")])
def test_weights_need_labels_that_are_known_before(kind, column):
    assert kind().build(Streamed())
    with pytest.raises(ValueError, match=f"stream does not tell its {column} before training; leave out class_weights"):
        kind(class_weights="balanced").build(Streamed())


@pytest.mark.parametrize(
    ("settings", "source"),
    [
        (ClassificationSettings(0.1, "balanced"), LABELLED),
        (ClassificationSettings(), LABELLED),
        (TaggingSettings("focal", "balanced"), TAGGED),
    ],
)
def test_a_task_is_rebuilt_from_its_plain_values(settings, source):
    built = settings.build(source)
    assert settings.rebuild(json.loads(json.dumps(to_plain(built)))) == built
    assert settings.model_options(source) == {"num_classes": 2}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (ClassificationSettings, {"label_smoothing": 1.0}, "label_smoothing=1.0; expected at least 0 and below 1"),
        (ClassificationSettings, {"class_weights": "balance"}, "class_weights='balance'; did you mean 'balanced'?"),
        (TaggingSettings, {"loss": "hinge"}, "loss='hinge'; expected one of binary_cross_entropy, focal"),
        (LocalizationSettings, {"box_loss": "iou"}, "box_loss='iou'; did you mean 'giou'?"),
        (LocalizationSettings, {"box_loss": "l2"}, "box_loss='l2'; expected one of smooth_l1, giou"),
        (LocalizationSettings, {"box_weight": 0.0}, "box_weight=0.0; expected a number above 0"),
    ],
)
def test_impossible_settings(make, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**settings)


def test_every_kind_is_there_once():
    assert all(isinstance(kind(), TaskSettings) for kind in TASKS)
    assert [kind.kind for kind in TASKS] == [
        *("classification", "tagging", "segmentation", "detection", "instances", "localization"),
    ]
