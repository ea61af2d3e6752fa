"""A run's network read from its folder: the same answers, its pictures, and folders that are not a run's."""

import dataclasses
import hashlib
import json
from contextlib import contextmanager

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from cnnjax.data import open_source
from cnnjax.experiment import run
from cnnjax.train import Experiment, load_run
from cnnjax.train.manifest import read_manifest


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    oblong = {"image_size": (16, 24), "resize_by": "letterbox"}
    experiment = Experiment(model="convnet", data="digits", **oblong, steps=2, batch_size=16, run_dir=folder)
    return run(experiment, console=Console(quiet=True))


def test_it_answers_as_the_run_did(outcome):
    trained = load_run(outcome.fit.run_dir)
    examples, predictions = outcome.fit.evaluation.examples, outcome.fit.evaluation.predictions
    logits = np.asarray(trained(jnp.asarray(examples["image"])))
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(
        shares / shares.sum(-1, keepdims=True), predictions["probabilities"], rtol=1e-4, atol=1e-6
    )
    assert trained.classes == tuple("0123456789")
    assert trained.image_shape == (16, 24, 1)
    assert load_run(outcome.fit.run_dir, image_size=(20, 32)).image_shape == (20, 32, 1)
    assert load_run(outcome.fit.run_dir, image_size=20).image_shape == (20, 20, 1)


def test_pictures_as_floats_are_those_as_bytes(outcome):
    trained = load_run(outcome.fit.run_dir)
    pictures, labels = trained.test_pictures(5)
    source = open_source("digits", "test")
    assert (pictures.shape, pictures.dtype) == ((5, 16, 24, 1), np.float32)
    # A square in the middle of an oblong.
    assert (pictures[:, :, 4:20].max(), pictures[:, :, :4].max(), pictures[:, :, 20:].max()) == (pictures.max(), 0, 0)
    assert 0 <= pictures.min() < pictures.max() <= 1
    assert labels.tolist() == [int(source[number]["label"]) for number in range(5)]
    as_bytes = outcome.fit.evaluation.examples["image"][:5]
    np.testing.assert_allclose(pictures, as_bytes / 255, atol=1e-6)
    np.testing.assert_allclose(trained(pictures), trained(jnp.asarray(as_bytes)), rtol=1e-4, atol=1e-4)


def test_test_pictures_are_those_that_the_run_was_tested_on(outcome):
    trained = load_run(outcome.fit.run_dir)
    other = dataclasses.replace(trained, record={**trained.record, "fingerprint of the test data": "of others"})
    with pytest.raises(
        ValueError, match=r"digits \(test\) holds other pictures now .*; call the network with pictures"
    ):
        other.test_pictures(1)
    # A name that is spelled like data on disk does not make it that.
    other = dataclasses.replace(trained, settings={**trained.settings, "test_split": "train"})
    with pytest.raises(ValueError, match=r"digits \(train\) holds other pictures now"):
        other.test_pictures(1)


def test_folders_that_are_not_a_runs(outcome, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no checkpoints"):
        load_run(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no step 7"):
        load_run(outcome.fit.run_dir, step=7)


@pytest.fixture
def record(outcome):
    """The record, which is put back after the test."""
    path = outcome.fit.run_dir / "config.json"
    text = path.read_text()
    yield path
    path.write_text(text)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"experiment": 3}', "[" * 100_000], ids=range(7))
def test_a_damaged_record_is_refused(outcome, record, text):
    record.write_text(text)
    with pytest.raises(ValueError, match="is damaged, or is not that of a run"):
        load_run(outcome.fit.run_dir)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda saved: saved["record"].update(mean=[0.5]), r"record.mean: \[0.5\] there, \[0.3048"),
        (lambda saved: saved["record"].update(deviation=[0]), r"record.deviation: \[0\] there, \[0.3232"),
        (lambda saved: saved["record"]["classes"].reverse(), r"record.classes: \['9', '8'"),
        (lambda saved: saved["record"].update(mean=[float("nan")]), r"record.mean: \[nan\] there"),
        (lambda saved: saved["experiment"].update(model="lenet5"), "model: lenet5 there, convnet here"),
        (lambda saved: saved["experiment"].update(precision="bfloat16"), "precision: bfloat16 there, float32 here"),
        (lambda saved: saved.update(record=[]), r"record: \[\] there"),
        (lambda saved: saved["experiment"].clear(), r"test_split: None there, test here; and \d+ more"),
    ],
    ids=range(8),
)
def test_a_record_that_was_changed_since_is_refused(outcome, record, change, named):
    saved = json.loads(record.read_text())
    change(saved)
    record.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=rf"config.json was changed since the checkpoint .*{named}.*; undo the change"):
        load_run(outcome.fit.run_dir)


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


def test_what_a_resumed_run_was_allowed_to_change_is_no_change(outcome):
    """The record is that of the first start; the checkpoint says what its own start was allowed."""
    first = (outcome.fit.run_dir / "config.json").read_text()

    def resume(saved):
        saved["experiment"]["batch_size"], saved["allow_drift"] = 32, ["batch_size"]

    with saved_with(outcome.fit.run_dir, resume) as record:
        record.write_text(first)
        assert load_run(outcome.fit.run_dir).settings["batch_size"] == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda saved: saved["record"].update(pixels={"dtype": "uint8"}),
            "is damaged, or is not that of a run on pict",
        ),
        (lambda saved: saved["record"].update(shape=[16]), "is damaged, or is not that of a run on pictures"),
        (lambda saved: saved["record"].update(deviation=[0.0]), "is damaged, or is not that of a run on pictures"),
        (
            lambda saved: saved["experiment"].update(model="Net"),
            r"cannot be made anew: unknown model 'Net'.*load_variables\('.*'\) gives",
        ),
        (
            lambda saved: saved["record"].pop("pixels"),
            r"says nothing of pixels: .* or of an earlier version; load_variables\('",
        ),
    ],
    ids=range(5),
)
def test_records_that_say_too_little_of_pictures(outcome, change, message):
    with saved_with(outcome.fit.run_dir, change), pytest.raises(ValueError, match=message):
        load_run(outcome.fit.run_dir)
