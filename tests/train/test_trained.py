"""A run's network read from its folder: the same answers, its pictures, and folders that are not a run's."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from cnnjax.data import open_source
from cnnjax.experiment import run
from cnnjax.train import Experiment, load_run


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    experiment = Experiment(model="convnet", data="digits", image_size=16, steps=2, batch_size=16, run_dir=folder)
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
    assert trained.image_shape == (16, 16, 1)


def test_pictures_as_floats_are_those_as_bytes(outcome):
    trained = load_run(outcome.fit.run_dir)
    pictures, labels = trained.test_pictures(5)
    source = open_source("digits", "test")
    assert (pictures.shape, pictures.dtype) == ((5, 16, 16, 1), np.float32)
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
    record = outcome.fit.run_dir / "config.json"
    text = record.read_text()
    try:
        record.write_text(json.dumps({"experiment": {}}))
        with pytest.raises(ValueError, match="is damaged, or is not that of a run"):
            load_run(outcome.fit.run_dir)
        for where, name, value, message in [
            ("record", "pixels", {"dtype": "uint8"}, "is damaged, or is not that of a run on pictures"),
            ("record", "shape", [16], "is damaged, or is not that of a run on pictures"),
            ("record", "deviation", [0.0], "is damaged, or is not that of a run on pictures"),
            ("experiment", "model", "Net", r"cannot be made anew: unknown model 'Net'.*load_variables\('.*'\) gives"),
        ]:
            saved = json.loads(text)
            saved[where][name] = value
            record.write_text(json.dumps(saved))
            with pytest.raises(ValueError, match=message):
                load_run(outcome.fit.run_dir)
        saved = json.loads(text)
        del saved["record"]["pixels"]
        record.write_text(json.dumps(saved))
        with pytest.raises(ValueError, match=r"says nothing of pixels: .* or of an earlier version; load_variables\('"):
            load_run(outcome.fit.run_dir)
    finally:
        record.write_text(text)
