"""One half of the digits' classes helps with the other."""

import numpy as np

from cnnjax.data import open_source
from experiments import fine_tuning


def test_halves_hold_their_own_classes_from_zero_on():
    few = fine_tuning.half("train", 5, count=100, seed=3)
    labels = few.column("label")
    assert np.bincount(labels).tolist() == [20] * 5
    assert few.info.classes == ("5", "6", "7", "8", "9")
    whole = open_source("digits", "train")
    sevens = [whole[index]["image"] for index in range(len(whole)) if whole[index]["label"] == 7]
    assert any(np.array_equal(few[int(np.flatnonzero(labels == 2)[0])]["image"], seven) for seven in sevens)


def test_three_runs_are_made_of_weights_and_frozen_layers(tmp_path, monkeypatch):
    """The head starts anew and is trained alone; then all of it goes on from there."""
    results = []
    monkeypatch.setattr("cnnjax.experiment.running.write_run", lambda result, *_, **__: results.append(result))
    monkeypatch.setattr(fine_tuning, "STEPS", 1)
    found = fine_tuning.measure(tmp_path, fine_tuning.Options(epochs=0.05), seed=0)
    assert set(found) == {"head alone", "fine-tuned", "from scratch"}
    first, head, tuned, scratch, _ = (result.state.params for result in results)
    np.testing.assert_array_equal(head["conv1"]["kernel"], first["conv1"]["kernel"])
    assert not np.array_equal(tuned["conv1"]["kernel"], head["conv1"]["kernel"])
    assert not np.array_equal(scratch["conv1"]["kernel"], first["conv1"]["kernel"])
    assert first["output"]["kernel"].shape == head["output"]["kernel"].shape
