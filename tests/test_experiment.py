"""From settings to a task, an augmentation and a page."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnnjax.data import ArraySource, Info
from cnnjax.experiment import make_augment, make_task, run, run_on
from cnnjax.tasks import Classification, Tagging
from cnnjax.train import Augmentation, Experiment, read_rows

PICTURES = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8, 1)
LABELLED = ArraySource({"image": PICTURES, "label": np.array([0, 0, 0, 1])}, Info("mine", "train", {}, ("a", "b")))
TAGS = np.array([[1, 0], [1, 1], [0, 1], [0, 1]], np.float32)
TAGGED = ArraySource({"image": PICTURES, "tags": TAGS}, Info("mine", "train", {}, ("a", "b")))
BATCH = {
    "image": jnp.asarray(PICTURES),
    "label": jnp.asarray([0, 0, 0, 1]),
    "id": jnp.arange(4),
    "valid": jnp.ones(4, bool),
}


def test_tasks_take_their_classes_and_weights_from_the_data():
    assert make_task(LABELLED, Experiment(label_smoothing=0.1)) == Classification(("a", "b"), 0.1)
    balanced = make_task(LABELLED, Experiment(class_weights="balanced"))
    assert balanced == Classification(("a", "b"), class_weights=(4 / (2 * 3), 4 / (2 * 1)))
    tagging = make_task(TAGGED, Experiment(task="tagging", tag_loss="focal", class_weights="balanced"))
    assert tagging == Tagging(("a", "b"), "focal", positive_weights=(1.0, 1 / 3))


def test_tasks_that_do_not_fit_the_data():
    with pytest.raises(
        ValueError, match=r"mine has no 'label' for classification; pass task='tagging' \(--task tagging\)"
    ):
        make_task(TAGGED, Experiment())
    with pytest.raises(ValueError, match="mine has no 'tags' for tagging; pass task='classification'"):
        make_task(LABELLED, Experiment(task="tagging"))
    lonely = ArraySource({"image": PICTURES, "label": np.zeros(4, int)}, Info("mine", "train", {}, ("a",)))
    with pytest.raises(ValueError, match="names 1 classes; classification needs at least two"):
        make_task(lonely, Experiment())


def test_classes_are_compared_before_pictures_are_measured():
    class Unread(ArraySource):
        def __getitem__(self, index):
            raise AssertionError("read too early")

    train, test = (
        Unread({"image": np.zeros((4, 8, 8, 1), np.uint8), "label": np.arange(4) % 2}, Info("pets", "all", {}, names))
        for names in (("cat", "dog"), ("cat", "dog", "eel"))
    )
    with pytest.raises(ValueError, match=r"the test data pets \(all\) has other classes, cat, dog, eel, than"):
        run_on(train, test, Experiment())


def test_no_augmentation_changes_nothing():
    changed = make_augment(Augmentation(), num_classes=2)(jax.random.key(0), BATCH)
    jax.tree.map(np.testing.assert_array_equal, dict(changed), BATCH)


def test_augmentations_follow_the_settings():
    """Traced: what each does is tested in its own room."""
    settings = Augmentation(
        shift=1, flip=True, rotation=10.0, scale=0.1, elastic=2.0, colour_jitter=0.3, policy="trivial_augment",
        erasing=0.5, cutout=2, mixup=0.2, cutmix=1.0,
    )  # fmt: skip
    coloured = BATCH | {"image": jnp.tile(BATCH["image"], 3)}
    changed = jax.eval_shape(make_augment(settings, num_classes=2), jax.random.key(0), coloured)
    assert (changed["image"].shape, changed["image"].dtype) == ((4, 8, 8, 3), jnp.uint8)
    assert (changed["label"].shape, changed["label"].dtype) == ((4, 2), jnp.float32)


def test_a_shift_moves_pictures_and_leaves_labels():
    changed = make_augment(Augmentation(shift=8), num_classes=2)(jax.random.key(0), BATCH)
    assert not np.array_equal(changed["image"], PICTURES)
    np.testing.assert_array_equal(changed["label"], BATCH["label"])


def test_tagging_from_a_table_to_the_page_and_a_changed_table_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "cache"))
    rows = ["image,tags"]
    for number in range(20):
        tags = ["bright"] * (number % 2) + ["even"] * (number % 4 == 0) or ["dark"]
        Image.new("L", (32 + number % 3, 32), 100 * (number % 2) + number).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{';'.join(tags)}")
    (tmp_path / "tags.csv").write_text("\n".join(rows))
    experiment = Experiment(
        model="lenet5",
        data="csv:tags.csv",
        task="tagging",
        image_size=32,
        steps=2,
        batch_size=8,
        run_dir=tmp_path / "run",
    )
    outcome = run(experiment, console=Console(file=io.StringIO()))
    assert {"loss", "mean_average_precision"} <= outcome.fit.evaluation.summary.keys()
    assert read_rows(tmp_path / "run")[-1]["test"] == outcome.fit.evaluation.summary
    assert "Average precision by tag" in outcome.report.read_text()
    record = (tmp_path / "run" / "config.json").read_text()
    assert '"bright",' in record
    assert "fingerprint of the training data" in record

    (tmp_path / "tags.csv").write_text("\n".join(rows[:-1]))
    with pytest.raises(
        ValueError, match=r"another experiment \(.*fingerprint of the training data: \w+ there, \w+ here"
    ):
        run(dataclasses.replace(experiment, resume=True), console=Console(file=io.StringIO()))
