"""The numbers of a run's network on a split of its data, and on other data."""

import dataclasses
import json

import numpy as np
import pytest

from cnnjax.data import ArraySource, Info
from cnnjax.experiment import evaluate, load_run
from cnnjax.experiment.evaluation import as_json
from cnnjax.settings import Loading


@pytest.fixture(scope="module")
def trained(run_dir):
    return load_run(run_dir)


@pytest.mark.parametrize("batch_size", [None, 7])
def test_on_its_test_split_they_are_those_of_the_run(trained, outcome, batch_size):
    found = evaluate(trained, trained.open_split(), batch_size=batch_size)
    assert found.summary == pytest.approx(outcome.training.evaluation.summary, rel=1e-5)
    assert (found.split, found.step) == ("test", 2)


def test_on_other_examples_they_are_those_of_its_predictions(trained):
    pictures, labels = trained.test_pictures(50)
    shares = trained.predict(pictures).values["probabilities"].astype(np.float64)
    found = evaluate(trained, trained.open_split("test[:50]")).summary
    assert found["accuracy"] == pytest.approx((shares.argmax(-1) == labels).mean())
    assert found["loss"] == pytest.approx(-np.log(shares[np.arange(50), labels]).mean(), rel=1e-4)


class Torn(ArraySource):
    """Two of its examples cannot be read."""

    def __getitem__(self, index):
        if index in (1, 4):
            raise OSError("the file ends early")
        return super().__getitem__(index)


def test_unreadable_examples_are_an_error_or_counted_as_in_the_run(trained):
    arrays = {"image": np.zeros((6, 16, 16, 1), np.uint8), "label": np.arange(6)}
    torn = Torn(arrays, Info("mine", "all", {}, trained.classes))
    with pytest.raises(ValueError, match=r"example 1 of mine \(all\) cannot be read: the file ends early"):
        evaluate(trained, torn)
    training = dataclasses.replace(trained.experiment.training, loading=Loading(unreadable="skip"))
    lenient = dataclasses.replace(trained, experiment=dataclasses.replace(trained.experiment, training=training))
    found = evaluate(lenient, torn).summary
    assert found["unreadable"] == 2
    plain = evaluate(trained, ArraySource({name: array[[0, 2, 3, 5]] for name, array in arrays.items()})).summary
    assert found["loss"] == pytest.approx(plain["loss"], rel=1e-5)


def test_numbers_as_json(trained):
    found = evaluate(trained, trained.open_split("test[:9]"))
    assert json.loads(as_json(found)) == {"split": "test[:9]", "step": 2, **found.summary}
