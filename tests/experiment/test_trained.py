"""A run's network read from its folder: the same answers, its pictures, and folders that are not a run's."""

import dataclasses
import hashlib
import json
from contextlib import contextmanager

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.data import open_source
from cnnjax.experiment import load_run
from cnnjax.tasks import Classification
from cnnjax.train import load_variables
from cnnjax.train.manifest import read_manifest
from tests.train.toy_run import run as run_toy
from tests.train.toy_run import settings


def test_it_answers_as_the_run_did(outcome, run_dir):
    trained = load_run(run_dir)
    examples, predictions = outcome.training.evaluation.examples, outcome.training.evaluation.predictions
    logits = np.asarray(trained(jnp.asarray(examples["image"])))
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(
        shares / shares.sum(-1, keepdims=True), predictions["probabilities"], rtol=1e-4, atol=1e-6
    )
    assert trained.classes == tuple("0123456789")
    assert trained.image_shape == (16, 24, 1)
    assert load_run(run_dir, image_size=(20, 32)).image_shape == (20, 32, 1)
    assert load_run(run_dir, image_size=20).image_shape == (20, 20, 1)


def test_pictures_as_floats_are_those_as_bytes(outcome, run_dir):
    trained = load_run(run_dir)
    pictures, labels = trained.test_pictures(5)
    source = open_source("digits", "test")
    assert (pictures.shape, pictures.dtype) == ((5, 16, 24, 1), np.float32)
    # A square in the middle of an oblong.
    assert (pictures[:, :, 4:20].max(), pictures[:, :, :4].max(), pictures[:, :, 20:].max()) == (pictures.max(), 0, 0)
    assert 0 <= pictures.min() < pictures.max() <= 1
    assert labels.tolist() == [int(source[number]["label"]) for number in range(5)]
    as_bytes = outcome.training.evaluation.examples["image"][:5]
    np.testing.assert_allclose(pictures, as_bytes / 255, atol=1e-6)
    np.testing.assert_allclose(trained(pictures), trained(jnp.asarray(as_bytes)), rtol=1e-4, atol=1e-4)


def changed(trained, **parts):
    """The same network with another record."""
    return dataclasses.replace(trained, record={**trained.record, **parts})


def test_test_pictures_are_those_that_the_run_was_tested_on(run_dir):
    trained = load_run(run_dir)
    data, digits = trained.record["data"], {"data": "digits", "split": "train"}
    other = changed(trained, data=data | {"fingerprints": {"test": "of others"}})
    with pytest.raises(
        ValueError, match=r"digits \(test\) holds other pictures now .*; call the network with pictures"
    ):
        other.test_pictures(1)
    # A name that is spelled like data on disk does not make it that.
    other = changed(
        trained, sources={"training": digits, "validation": None, "test": digits}, data=other.record["data"]
    )
    with pytest.raises(ValueError, match=r"digits \(train\) holds other pictures now"):
        other.test_pictures(1)


def test_splits_of_the_data_and_other_data_with_the_same_classes(run_dir, tmp_path):
    trained = load_run(run_dir)
    assert (trained.open_split().info.split, trained.open_split("train").info.split) == ("test", "train")
    assert len(trained.open_split("train[:7]")) == 7
    digits = {"images": np.zeros((20, 8, 8), np.uint8), "labels": np.arange(20) % 10}
    np.savez(tmp_path / "digits.npz", **digits)
    assert len(trained.open_split("all", data=f"npz:{tmp_path}/digits.npz")) == 20
    assert len(trained.open_split("all", data="npz:digits.npz", data_dir=tmp_path)) == 20
    np.savez(tmp_path / "letters.npz", **digits | {"labels": np.arange(20) % 2, "classes": np.array(["a", "b"])})
    with pytest.raises(
        ValueError, match=r"letters.npz \(all\) has the classes a, b, ..., and the run 0, 1, 2, 3, 4, 5, ...; expected"
    ):
        trained.open_split("all", data=f"npz:{tmp_path}/letters.npz")


def test_the_record_holds_the_experiment_and_rebuilds_the_task(outcome, run_dir):
    trained = load_run(run_dir)
    assert trained.task == outcome.task == Classification(tuple("0123456789"))
    expected = outcome.experiment
    assert (trained.experiment.net, trained.experiment.pictures) == (expected.net, expected.pictures)
    assert trained.experiment.task == expected.task
    assert trained.experiment.training.precision == "float32"  # which "auto" was on this machine


def test_a_step_is_asked_for_by_number_or_as_the_best(run_dir):
    latest, best, second = (load_run(run_dir, step=step) for step in (None, "best", 2))
    assert latest.step == best.step == second.step == 2
    np.testing.assert_array_equal(
        best.variables["params"]["output"]["bias"], load_variables(run_dir, step="best")["params"]["output"]["bias"]
    )


def test_other_sizes_of_pictures(run_dir):
    assert load_run(run_dir, image_size=24).image_shape == (24, 24, 1)
    oblong = load_run(run_dir, image_size=(16, 20))
    assert oblong.image_shape == (16, 20, 1)
    # This net flattens its maps, and so takes pictures of one size alone.
    with pytest.raises(ValueError, match="fc1: inputs of 1280 features came, the variables are for 1536; apply them t"):
        oblong(np.zeros((1, 16, 20, 1), np.uint8))


def test_a_run_of_fit_has_no_network_on_pictures(tmp_path):
    run_toy(settings(tmp_path / "run", steps=1))
    with pytest.raises(
        ValueError,
        match=r"says nothing of net, pictures, data, built task: .* cnnjax\.fit, .* load_variables\('.*'\) gi",
    ):
        load_run(tmp_path / "run")


def test_folders_that_are_not_a_runs(run_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no checkpoints"):
        load_run(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no step 7"):
        load_run(run_dir, step=7)


@pytest.fixture
def record(run_dir):
    """The record, which is put back after the test."""
    path = run_dir / "config.json"
    text = path.read_text()
    yield path
    path.write_text(text)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"training": 3}', "[" * 100_000], ids=range(7))
def test_a_damaged_record_is_refused(run_dir, record, text):
    record.write_text(text)
    with pytest.raises(ValueError, match="is damaged, or is not that of a run"):
        load_run(run_dir)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda saved: saved["data"].update(mean=[0.5]), r"data.mean: \[0.5\] there, \[0.3048"),
        (lambda saved: saved["data"].update(deviation=[0]), r"data.deviation: \[0\] there, \[0.3232"),
        (lambda saved: saved["data"]["classes"].reverse(), r"data.classes: \['9', '8'"),
        (lambda saved: saved["data"].update(mean=[float("nan")]), r"data.mean: \[nan\] there"),
        (lambda saved: saved["net"].update(name="lenet5"), "net.name: lenet5 there, convnet here"),
        (
            lambda saved: saved["built task"].update(label_smoothing=0.5),
            "built task.label_smoothing: 0.5 there, 0.0 here",
        ),
        (lambda saved: saved.update(mine=1), "mine: 1 there, None here"),
        (lambda saved: saved["training"].update(precision="bfloat16"), "precision: bfloat16 there, float32 here"),
        (lambda saved: saved.update(data=[]), r"data: \[\] there"),
        (lambda saved: saved["training"].clear(), r"epochs: None there, 20.0 here; .*; and \d+ more"),
    ],
    ids=range(10),
)
def test_a_record_that_was_changed_since_is_refused(run_dir, record, change, named):
    saved = json.loads(record.read_text())
    change(saved)
    record.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=rf"config.json was changed since the checkpoint .*{named}.*; undo the change"):
        load_run(run_dir)


@contextmanager
def saved_with(run_dir, change):
    """A run whose checkpoint, and file, were saved with another record."""
    (step,) = (run_dir / "checkpoints").iterdir()
    files = [step / "manifest.json", run_dir / "config.json"]
    before = [file.read_bytes() for file in files]
    kept = read_manifest(step)
    changed = json.loads(json.dumps(kept.record))
    change(changed)
    body = json.dumps(dataclasses.asdict(dataclasses.replace(kept, record=changed)))
    files[0].write_text(f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}")
    files[1].write_text(json.dumps(changed))
    try:
        yield files[1]
    finally:
        for file, content in zip(files, before, strict=True):
            file.write_bytes(content)


def test_what_a_resumed_run_was_allowed_to_change_is_no_change(run_dir):
    """The record is that of the first start; the checkpoint says what its own start was allowed."""
    first = (run_dir / "config.json").read_text()

    def resume(saved):
        saved["training"]["batch_size"], saved["allow_drift"] = 32, ["batch_size"]

    with saved_with(run_dir, resume) as record:
        record.write_text(first)
        assert load_run(run_dir).experiment.training.batch_size == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda saved: saved["data"].update(pixels={"dtype": "uint8"}),
            "is damaged, or is not that of a run on pict",
        ),
        (lambda saved: saved["data"].update(shape=[16]), "is damaged, or is not that of a run on pictures"),
        (lambda saved: saved["data"].update(deviation=[0.0]), "is damaged, or is not that of a run on pictures"),
        (lambda saved: saved["built task"].clear(), "is damaged, or is not that of a run on pictures"),
        (lambda saved: saved["task"].update(kind="hunting"), "'hunting' is not one of classification, tagging"),
        (
            lambda saved: saved["net"].update(name="Net"),
            r"cannot be made anew: unknown model 'Net'.*load_variables\('.*'\) gives",
        ),
        (
            lambda saved: saved.pop("built task"),
            r"says nothing of built task: .* or of an earlier version; load_variables\('",
        ),
    ],
    ids=range(7),
)
def test_records_that_say_too_little_of_pictures(run_dir, change, message):
    with saved_with(run_dir, change), pytest.raises(ValueError, match=message):
        load_run(run_dir)
