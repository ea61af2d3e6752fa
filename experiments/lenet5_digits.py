"""LeNet-5 reads real handwritten digits, and shows what it sees.

Claim: the 61,706-parameter LeNet-5 of 1998 reaches at least 98.5 % test accuracy (mean of five seeds) on the 1,797
digits that scikit-learn embeds, in under a minute on two CPU cores.

    python experiments/lenet5_digits.py                                # one run with its page; no download
    python experiments/lenet5_digits.py --seed 1 --optimizer.learning-rate 3e-3
    python experiments/lenet5_digits.py --seeds 5                      # five seeds, into results/lenet5_digits.json

Expected: EXPECTED
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from cnnjax.cli import one_line_errors, outcome_text
from cnnjax.train import Augmentation, Experiment, Optimizer, Schedule

DIGITS = Experiment(
    model="lenet5",
    data="digits",
    epochs=25,
    batch_size=64,
    optimizer=Optimizer(name="adamw", learning_rate=2e-3, weight_decay=1e-2),
    schedule=Schedule(name="one_cycle"),
    augmentation=Augmentation(shift=2),
)

RESULTS = Path(__file__).parent / "results" / "lenet5_digits.json"


def main(experiment: Annotated[Experiment, tyro.conf.arg(name="")] = DIGITS, seeds: int = 1) -> None:
    """Train LeNet-5 on digits, test it, analyse it, and write one folder with a page.

    Args:
        experiment: the settings of the run.
        seeds: runs, from --seed on; more than one also writes the results file.
    """
    from cnnjax.experiment import run
    from cnnjax.report.results import mean_and_deviation, write_results

    runs = []
    for seed in range(experiment.seed, experiment.seed + seeds):
        outcome = run(dataclasses.replace(experiment, seed=seed))
        print(outcome_text(outcome))
        fit = outcome.fit
        runs.append({"seed": seed, **fit.evaluation.summary, "seconds": round(fit.seconds, 1)})
    if seeds > 1:
        accuracies = [run["accuracy"] for run in runs]
        measured = {"test_accuracy": mean_and_deviation(accuracies), "runs": runs}
        write_results(RESULTS, measured)
        mean, deviation = measured["test_accuracy"].values()
        print(f"test accuracy {mean:.2%} +- {deviation:.2%} over {seeds} seeds; written to {RESULTS}")


if __name__ == "__main__":
    with one_line_errors():
        tyro.cli(main)
