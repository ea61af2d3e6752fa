"""What a run is made of before its first step: precision, optimizers and schedules of one's own, what is refused."""

import io
import json

import jax
import numpy as np
import optax
import pytest
from rich.console import Console

from cnnjax import models
from cnnjax.data import ArraySource, Info
from cnnjax.settings import Optimizer
from cnnjax.train import read_rows
from cnnjax.train.setup import choose_precision
from tests.train.toy_run import TEST, TRAIN, Net, fingerprint, run, settings

pytestmark = pytest.mark.usefixtures("unchecked_types")


def test_precision_is_that_of_the_machine_unless_chosen():
    assert choose_precision("auto") == "float32"  # on a CPU
    assert choose_precision("float16") == "float16"


def schedule(step):
    return 0.1 / (1 + step)


OWN = {"optimizer": optax.sgd(schedule), "schedule": schedule}


def said(folder, **parts):
    screen = io.StringIO()
    result = run(settings(folder, steps=3, log_every=1), console=Console(file=screen, width=300), **parts)
    return result, screen.getvalue()


def test_an_optimizer_of_ones_own_is_used_and_its_rates_are_logged(tmp_path):
    result, text = said(tmp_path / "own", **OWN)
    assert "training 3 steps of 16, an optimizer of your own with a schedule of your own" in text
    np.testing.assert_allclose([row["learning_rate"] for row in read_rows(result.run_dir)], [0.1, 0.05, 0.1 / 3])
    # The same rule by its settings, at the same rates, gives the same state.
    by_settings = run(settings(tmp_path / "settings", steps=3, optimizer=Optimizer("sgd", 1.0)), schedule=schedule)
    assert fingerprint(by_settings.state.params) == fingerprint(result.state.params)


def test_without_its_schedule_no_rate_is_logged(tmp_path):
    result, text = said(tmp_path / "run", optimizer=optax.sgd(0.1))
    assert "an optimizer of your own\n" in text
    assert not any("learning_rate" in row for row in read_rows(result.run_dir))


def resumed(folder, **parts):
    return run(settings(folder, steps=3, log_every=1, resume=True), **parts)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"optimizer": optax.adam(schedule), "schedule": schedule}, "optimizer from Python: PyTreeDef.* there, PyTree"),
        (
            {"optimizer": optax.sgd(0.1), "schedule": lambda step: 0.1},
            r"schedule from Python.step 2: 0.05\d* there, 0.1",
        ),
        ({}, "optimizer from Python: PyTreeDef.* there, None here"),
        ({"optimizer": OWN["optimizer"]}, "schedule from Python: .* there, None here"),
    ],
    ids=["optimizer", "schedule", "neither", "no schedule"],
)
def test_a_run_with_another_optimizer_or_schedule_is_not_resumed(tmp_path, parts, message):
    said(tmp_path / "run", **OWN)
    with pytest.raises(ValueError, match=rf"belongs to another experiment .*{message}"):
        resumed(tmp_path / "run", **parts)
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["schedule from Python"] == {
        "step 1": pytest.approx(0.1), "step 2": pytest.approx(0.05), "step 3": pytest.approx(0.1 / 3)
    }  # fmt: skip


def test_what_could_not_be_compared_is_said_when_a_run_resumes(tmp_path):
    said(tmp_path / "run", **OWN)
    screen = io.StringIO()
    resumed(tmp_path / "run", console=Console(file=screen, width=300), **OWN)
    assert "note: the optimizer was given from Python; of it only the kinds of its states could be" in screen.getvalue()
    assert "note: the schedule was given from Python; of it only some of its rates could be" in screen.getvalue()


def test_a_run_starts_from_given_variables_and_goes_on_without_them(tmp_path):
    given = models.initialize(jax.random.key(5), Net(), np.zeros((1, 8, 8, 1), np.float32))
    still = {"optimizer": optax.set_to_zero()}
    result = run(settings(tmp_path / "run", steps=1), variables=given, **still)
    jax.tree.map(np.testing.assert_array_equal, result.state.params, given["params"])
    again = run(settings(tmp_path / "run", steps=1, resume=True), **still)
    assert fingerprint(again.state) == fingerprint(result.state)


def test_variables_of_another_model_are_refused_before_anything_is_written(tmp_path):
    given = models.initialize(jax.random.key(5), Net(outputs=3), np.zeros((1, 8, 8, 1), np.float32))
    with pytest.raises(ValueError, match=r"variables are not those of Net .*params/dense/bias: 3 there, 2 here"):
        run(settings(tmp_path / "run"), variables=given)
    assert not (tmp_path / "run").exists()


def test_validation_examples_are_compared_with_those_of_training(tmp_path):
    def named(source, split, *classes):
        return ArraySource(source.arrays, Info("stripes", split, {}, classes))

    with pytest.raises(ValueError, match="same classes in another order, down, across, than the training data"):
        run(
            settings(tmp_path / "run"),
            train_source=named(TRAIN, "train", "across", "down"),
            validation_source=named(TEST, "val", "down", "across"),
            test_source=named(TEST, "test", "across", "down"),
        )
    small = ArraySource({"image": TEST.arrays["image"][:, :6], "label": TEST.arrays["label"]}, TEST.info)
    with pytest.raises(ValueError, match=r"does not take the test examples.* image \(6, 8, 1\) and \(8, 8, 1\)"):
        run(settings(tmp_path / "run"), validation_source=small)
    assert not (tmp_path / "run").exists()
