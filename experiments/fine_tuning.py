"""A net that has read the digits 0 to 4 learns 5 to 9 from 100 examples better than a new net does.

Claim: ConvNet, trained on one half of the digits' classes, then on 100 examples of the other half, first with all but
its head frozen, then whole at a tenth of the learning rate, reads the other half's test digits better than the same
net that begins anew, in the same number of steps; in each of five seeds.

    python experiments/fine_tuning.py                  # writes results/fine_tuning.json
    python experiments/fine_tuning.py --seeds 1        # prints, and writes nothing

The three runs are `run_on` with `net.weights`, `optimizer.frozen` and a tenth of `optimizer.learning_rate`; the head
starts anew by itself, since its classes are others.

Expected: not as claimed. In one seed, 91.06 % after 10 steps of the head and 10 of all, against 93.85 % from scratch
in 20 steps at the better of two rates: twenty pictures of a digit teach a new net enough.

Reference: Yosinski, Clune, Bengio and Lipson (2014), "How transferable are features in deep neural networks?".
"""

import io
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

from cnnjax import Net, Optimizer, Schedule, run_on
from cnnjax.cli import one_line_errors
from cnnjax.data import ArraySource, Info, open_source
from cnnjax.experiment import QUICK, Experiment
from cnnjax.report.results import mean_and_deviation, write_results

RESULTS = Path(__file__).parent / "results" / "fine_tuning.json"

# Examples of the other half, and steps of each of the two runs on them.
EXAMPLES, STEPS = 100, 10

# The head's learning rate; the whole net then takes a tenth of it. From scratch the better of these counts.
RATE, FROM_SCRATCH = 1e-2, (1e-3, 3e-3)


@dataclass(frozen=True)
class Options:
    """How often it is measured.

    Attributes:
        seeds: from 0 on; 5 for a result that is kept.
        epochs: of the training on the first half.
    """

    seeds: int = 5
    epochs: float = 15


def half(split: str, first: int, *, count: int | None = None, seed: int = 0) -> ArraySource:
    """The digits `first` to `first + 4` of a split, or as many of each as make `count`, drawn by a seed."""
    whole = open_source("digits", split)
    examples = [whole[index] for index in range(len(whole))]
    labels = np.array([example["label"] for example in examples]) - first
    chosen = np.flatnonzero((labels >= 0) & (labels < 5))
    if count is not None:
        shuffled = np.random.default_rng(seed).permutation(chosen)
        chosen = np.concatenate([shuffled[labels[shuffled] == label][: count // 5] for label in range(5)])
    arrays = {
        "image": np.stack([examples[index]["image"] for index in chosen]),
        "label": labels[chosen].astype(np.int32),
    }
    return ArraySource(arrays, Info(f"digits from {first}", split, {}, tuple(map(str, range(first, first + 5)))))


def train(folder: Path, experiment: Experiment, sources: tuple[ArraySource, ArraySource]) -> float:
    """Trains in a folder; returns the accuracy on the test digits."""
    outcome = run_on(*sources, experiment.with_training(run_dir=folder), console=Console(file=io.StringIO()))
    return outcome.training.evaluation.summary["accuracy"]


def measure(work: Path, options: Options, seed: int) -> dict[str, float]:
    """The test accuracies on the other half: head alone, fine-tuned, and the best from scratch in as many steps."""
    # The head is linear in what the convolutions find.
    net = Net("convnet", options={"hidden": ()})
    experiment = replace(QUICK["convnet"], net=net).with_training(seed=seed, epochs=options.epochs)
    train(work / "first half", experiment, (half("train", 0), half("test", 0)))
    sources = half("train", 5, count=EXAMPLES, seed=seed), half("test", 5)
    short = experiment.with_training(steps=STEPS, batch_size=40, schedule=Schedule("constant"))

    def starting(weights: Path, optimizer: Optimizer) -> Experiment:
        return replace(short.with_training(optimizer=optimizer), net=replace(net, weights=str(weights)))

    frozen = Optimizer(learning_rate=RATE, frozen=("conv*",))
    head = train(work / "head", starting(work / "first half", frozen), sources)
    tuned = train(work / "tuned", starting(work / "head", Optimizer(learning_rate=RATE / 10)), sources)
    scratch = [
        train(
            work / f"scratch {rate}",
            short.with_training(steps=2 * STEPS, optimizer=Optimizer(learning_rate=rate)),
            sources,
        )
        for rate in FROM_SCRATCH
    ]
    return {"head alone": head, "fine-tuned": tuned, "from scratch": max(scratch)}


def main(options: Options) -> None:
    """Measures all seeds, prints them, and writes the results where there are five."""
    if options.seeds < 1:
        raise ValueError(f"seeds={options.seeds}; expected a number above 0")
    found = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as work:
            found.append({"seed": seed, **measure(Path(work), options, seed)})
        told = ", ".join(f"{name} {value:.2%}" for name, value in found[-1].items() if name != "seed")
        print(f"seed {seed}: {told}", flush=True)
    names = [name for name in found[0] if name != "seed"]
    summary = {name: mean_and_deviation([run[name] for run in found]) for name in names}
    for name, score in summary.items():
        print(f"{name}: {score['mean']:.2%} +- {score['deviation']:.2%}")
    if options.seeds >= Options.seeds:
        better = sum(run["fine-tuned"] > run["from scratch"] for run in found)
        settings = {
            "examples": EXAMPLES,
            "steps": 2 * STEPS,
            "learning_rates": {"head": RATE, "all": RATE / 10, "from scratch, the better": FROM_SCRATCH},
        }
        write_results(RESULTS, {**settings, "test_accuracy": summary, "seeds_in_which_it_wins": better, "runs": found})


if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=(__doc__ or "").split("\n\n")[0]))
