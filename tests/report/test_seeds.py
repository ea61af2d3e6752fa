"""What several seeds reach, by hand."""

import json

import pytest

from cnnjax.report.seeds import write_seeds
from cnnjax.train import Evaluation, TrainResult


def result(folder, accuracy, *, first_step=0, seconds=2.04):
    return TrainResult(
        run_dir=folder,
        state=None,
        evaluation=Evaluation(
            split="test", step=5, summary={"loss": 1.0, "accuracy": accuracy}, examples={}, predictions=None
        ),
        best_step=5,
        best_score=accuracy,
        chosen_on="test",
        first_step=first_step,
        seconds=seconds,
    )


@pytest.mark.usefixtures("unchecked_types")
def test_scores_seconds_and_the_first_runs_picture(tmp_path):
    for number in (0, 1):
        (tmp_path / str(number) / "analysis").mkdir(parents=True)
        (tmp_path / str(number) / "analysis" / "receptive_fields.png").write_bytes(b"picture %d" % number)
    results = {3: result(tmp_path / "0", 0.5), 4: result(tmp_path / "1", 0.75, first_step=3)}
    told = write_seeds(tmp_path / "found.json", results, headline="accuracy", settings={"net": {"name": "x"}})
    found = json.loads((tmp_path / "found.json").read_text())
    # How long a resumed run took in all, nobody knows.
    assert found["runs"] == [
        {"seed": 3, "loss": 1.0, "accuracy": 0.5, "seconds": 2.0},
        {"seed": 4, "loss": 1.0, "accuracy": 0.75, "seconds": None},
    ]
    assert found["settings"] == {"net": {"name": "x"}}
    # The deviation of two numbers is their difference by the root of two.
    assert found["test_accuracy"] == {"mean": 0.625, "deviation": pytest.approx(0.25 / 2**0.5)}
    assert told == (
        f"test accuracy 62.50% +- 17.68% over 2 seeds, at most 2.0 s each; written to {tmp_path}/found.json and"
        " found_receptive_fields.png"
    )
    assert (tmp_path / "found_receptive_fields.png").read_bytes() == b"picture 0"


@pytest.mark.usefixtures("unchecked_types")
def test_models_without_receptive_fields_have_no_picture(tmp_path):
    told = write_seeds(tmp_path / "found.json", {0: result(tmp_path, 0.5, first_step=1)}, headline="loss", settings={})
    assert told == f"test loss 1 +- 0 over 1 seeds, all resumed; written to {tmp_path}/found.json"
    assert not list(tmp_path.glob("*.png"))
