"""What the loop tests when, which checkpoint is the best, when a run ends early, and what `result.json` says."""

import io
import json
import signal

import jax
import numpy as np
import pytest
from rich.console import Console

from cnnjax.data import ArraySource, Info
from cnnjax.settings import Loading, Saving
from cnnjax.tasks import Classification
from cnnjax.train import load_variables, read_rows
from tests.train.toy_run import TEST, TRAIN, SignalAfter, fingerprint, run, settings

pytestmark = pytest.mark.usefixtures("unchecked_types")

# Epochs of 100 examples end with these steps.
EPOCHS = [7, 13, 19, 25]


class ByLoss(Classification):
    """Scored by the loss, which no two epochs have in common."""

    def score(self, summary):
        return -summary["loss"]


def part(split, arrays, kind=ArraySource):
    return kind(arrays, Info("stripes", split, {}, ("across", "down")))


# Its labels are wrong, so that the more is learned the lower it scores: the first epoch is its best.
FLIPPED = part("validation", TEST.arrays | {"label": 1 - TEST.arrays["label"]})


def validated(folder, screen=None, source=FLIPPED, **changes):
    """A run with validation examples."""
    console = Console(file=screen or io.StringIO(), width=200)
    parts = {"task": ByLoss(("across", "down")), "test_source": part("test", TEST.arrays), "console": console}
    return run(settings(folder, **changes), validation_source=source, **parts)


@pytest.fixture(scope="module")
def flipped(tmp_path_factory):
    screen = io.StringIO()
    return validated(tmp_path_factory.mktemp("flipped") / "run", screen), screen.getvalue()


def test_validation_examples_are_in_the_rows_and_choose_the_best(flipped):
    result, said = flipped
    rows = read_rows(result.run_dir)
    assert [row["step"] for row in rows] == EPOCHS
    assert not any("test" in row for row in rows)
    scores = [-row["validation"]["loss"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert (result.best_step, result.best_score) == (7, pytest.approx(scores[0]))
    assert result.chosen_on == "validation"
    assert "the 30 validation examples (validation) are tested after every epoch and choose the best" in said
    assert "testing step 7, the best on the validation split, on the test split" in said


def test_the_result_is_that_of_the_best_checkpoint_on_the_test_examples(flipped):
    result, _ = flipped
    assert (int(result.state.step), result.evaluation.step, result.evaluation.split) == (7, 7, "test")
    best = load_variables(result.run_dir, step="best")
    jax.tree.map(np.testing.assert_array_equal, best, load_variables(result.run_dir, step=7))
    jax.tree.map(np.testing.assert_array_equal, best, dict(result.state.variables))
    # The test labels are right where those of validation are wrong.
    wrong = read_rows(result.run_dir)[0]["validation"]["accuracy"]
    assert result.evaluation.summary["accuracy"] == pytest.approx(1 - wrong)
    np.testing.assert_array_equal(result.evaluation.examples["label"], TEST.arrays["label"])


def test_result_json_says_split_step_and_what_chose_the_best(flipped, tmp_path):
    result, _ = flipped
    assert json.loads((result.run_dir / "result.json").read_text()) == {
        "split": "test",
        "step": 7,
        **result.evaluation.summary,
        "best checkpoint": {"step": 7, "score": result.best_score, "chosen on": "validation"},
    }
    # Without validation examples it is that of the last step.
    plain = run(settings(tmp_path / "run", steps=3, saving=Saving(keep_best=0)))
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == {
        "split": "train",
        "step": 3,
        **plain.evaluation.summary,
        "best checkpoint": None,
    }


READ = []


class Noted(ArraySource):
    """Notes split and number of every example that is read."""

    def __getitem__(self, index):
        READ.append((self.info.split, int(index)))
        return super().__getitem__(index)


def test_test_examples_are_touched_once_at_the_end(tmp_path):
    READ.clear()
    train, validation, test = (
        part(split, {name: array[:count] for name, array in TRAIN.arrays.items()}, Noted)
        for split, count in (("train", 48), ("validation", 32), ("test", 48))
    )
    options = {"epochs": 3.0, "loading": Loading(resident_mib=0, threads=0)}
    run(settings(tmp_path / "run", **options), train_source=train, validation_source=validation, test_source=test)
    times = {place: READ.count(place) for place in READ}
    # To know what a batch is like, the first batch of each is read before.
    assert [times["test", number] for number in range(48)] == [2] * 16 + [1] * 32
    assert [times["validation", number] for number in range(32)] == [4] * 16 + [3] * 16
    assert READ[-48:] == [("test", number) for number in range(48)]


def test_without_a_best_checkpoint_the_last_step_is_tested(tmp_path):
    screen = io.StringIO()
    result = validated(tmp_path / "run", screen, saving=Saving(keep_best=0))
    assert (result.evaluation.step, result.best_step) == (25, None)
    assert "testing step 25, the last, on the test split" in screen.getvalue()


def test_patience_ends_a_run_early_and_a_resumed_one_at_the_same_place(tmp_path):
    screen = io.StringIO()
    straight = validated(tmp_path / "straight", screen, patience=2)
    # The first epoch is the best, and two more are waited for a better one.
    assert "ended early after step 19: 2 epochs without a better score" in screen.getvalue()
    assert [row["step"] for row in read_rows(straight.run_dir)] == EPOCHS[:3]
    assert (straight.best_step, int(straight.state.step)) == (7, 7)
    with pytest.raises(SystemExit):
        validated(tmp_path / "run", SignalAfter("step 13/", 15), patience=2)
    resumed = validated(tmp_path / "run", resume=True, patience=2)
    assert resumed.first_step == 13
    assert fingerprint(resumed.state) == fingerprint(straight.state)
    last = [load_variables(result.run_dir, step=19) for result in (resumed, straight)]
    jax.tree.map(np.testing.assert_array_equal, *last)
    # It has ended: nothing is left to do but the test.
    again = validated(tmp_path / "run", resume=True, patience=2)
    assert again.evaluation.summary == straight.evaluation.summary
    assert [row["step"] for row in read_rows(tmp_path / "run")] == EPOCHS[:3]


def test_patience_goes_by_the_test_examples_where_there_are_no_others(tmp_path):
    wrong = part("test", FLIPPED.arrays)
    result = run(settings(tmp_path / "run", patience=1), task=ByLoss(("across", "down")), test_source=wrong)
    assert [row["step"] for row in read_rows(tmp_path / "run")] == EPOCHS[:2]
    # It is the last state whose numbers are told, with its examples for the page: no test example chose it.
    assert (result.evaluation.step, result.best_step, result.chosen_on) == (13, 7, "test")
    assert len(result.evaluation.examples["id"]) == 30


def told_otherwise(variables, folder, asked):
    """Statistics under which all is of the first class or of the second, unlike after the last step."""
    return {"batch_stats": jax.tree.map(lambda leaf: leaf + 100.0, variables["batch_stats"])}


def test_what_gradients_do_not_learn_is_one_step_more(tmp_path):
    result = run(settings(tmp_path / "run"), conclude=told_otherwise)
    assert int(result.state.step) == result.evaluation.step == 26
    rows = read_rows(tmp_path / "run")
    assert [row["step"] for row in rows] == [*EPOCHS, 26]
    assert rows[-1]["test"] == result.evaluation.summary
    assert rows[-1]["test"]["loss"] > rows[-2]["test"]["loss"]
    before, after = (load_variables(tmp_path / "run", step=step) for step in (25, 26))
    jax.tree.map(np.testing.assert_array_equal, before["params"], after["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a + 100, b), before["batch_stats"], after["batch_stats"])
    # A finished run is not concluded again.
    again = run(settings(tmp_path / "run", resume=True), conclude=lambda *_: pytest.fail("it is done"))
    assert again.evaluation.summary == result.evaluation.summary


def test_it_starts_from_the_best_checkpoint_and_may_be_the_best(flipped, tmp_path):
    seen = []

    def conclude(variables, folder, asked):
        seen.append(variables)
        return {"batch_stats": variables["batch_stats"]}

    training = settings(tmp_path / "run")
    parts = {"task": ByLoss(("across", "down")), "test_source": part("test", TEST.arrays)}
    result = run(training, validation_source=FLIPPED, conclude=conclude, **parts)
    # The same run without it has its best in step 7.
    jax.tree.map(np.testing.assert_array_equal, seen[0], flipped[0].state.variables)
    assert result.best_step in (7, 26)
    rows = read_rows(tmp_path / "run")
    assert rows[-1]["validation"]["loss"] == pytest.approx(rows[0]["validation"]["loss"], rel=1e-6)


def test_a_run_that_is_asked_to_end_concludes_when_it_goes_on(tmp_path):
    asked_for = []

    def interrupted(variables, folder, asked):
        signal.raise_signal(signal.SIGTERM)
        asked_for.append(asked())

    with pytest.raises(SystemExit):
        run(settings(tmp_path / "run"), conclude=interrupted)
    assert asked_for == [signal.SIGTERM]
    result = run(settings(tmp_path / "run", resume=True), conclude=told_otherwise)
    assert int(result.state.step) == 26
