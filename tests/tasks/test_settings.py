"""Settings that build tasks from the data, and tasks that come back from a record."""

import json
import re

import numpy as np
import pytest

from cnnjax.data import ArraySource, Info
from cnnjax.settings import to_plain
from cnnjax.tasks import TASKS, Classification, ClassificationSettings, Tagging, TaggingSettings, TaskSettings

PICTURES = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8, 1)
LABELLED = ArraySource({"image": PICTURES, "label": np.array([0, 0, 0, 1])}, Info("mine", "train", {}, ("a", "b")))
TAGS = np.array([[1, 0], [1, 1], [0, 1], [0, 1]], np.float32)
TAGGED = ArraySource({"image": PICTURES, "tags": TAGS}, Info("mine", "train", {}, ("a", "b")))


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
    ],
)
def test_impossible_settings(make, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**settings)


def test_every_kind_is_there_once():
    assert all(isinstance(kind(), TaskSettings) for kind in TASKS)
    assert [kind.kind for kind in TASKS] == ["classification", "tagging"]
