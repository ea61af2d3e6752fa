"""What if the kernel is 5 instead of 3? Windows of 1, 3, 5 and 7 in one small net, and two 3x3 in place of one 5x5.

Claim: on the digits a window of 5 errs half as often as one of 3, for 2.5 times its products, and one of 7 no less
often than one of 5; two windows of 3, which see what one of 5 sees, lie between; a window of 1, which never sees a
neighbour before the pools, falls behind.

    python experiments/kernel_size.py                      # three seeds, writes results/kernel_size/
    python experiments/kernel_size.py --seeds 1 --epochs 2 --out kernels

Expected: 94.7 % for 1x1, 98.2 % for 3x3, 99.2 % for 5x5, 99.3 % for 7x7 and 98.9 % for two 3x3, each with a deviation
of about 0.4 over three seeds (one of the 359 test digits is 0.28 %); two and a half minutes on two cores.

Reference: Simonyan and Zisserman (2015), "Very Deep Convolutional Networks", section 2.3.
"""

import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from cnnjax import Net, analysis, models, run
from cnnjax.cli import one_line_errors
from cnnjax.experiment import QUICK
from cnnjax.report.experiment_page import ResultSection, write_experiment_page
from cnnjax.report.results import mean_and_deviation
from cnnjax.view import plots
from cnnjax.view.result import Figure, Records

RESULTS = Path(__file__).parent / "results" / "kernel_size"

# Side of the windows, and how many convolutions come before each pool.
VARIANTS = {"1x1": (1, 1), "3x3": (3, 1), "5x5": (5, 1), "7x7": (7, 1), "two 3x3": (3, 2)}

SIZE = 28


@dataclass(frozen=True)
class Options:
    """How much is trained.

    Attributes:
        seeds: runs of each variant.
        epochs: of each run.
        out: the folder that is written.
    """

    seeds: int = 3
    epochs: int = 12
    out: Path = RESULTS


def draw_variants(rows: Sequence[dict[str, Any]]) -> Figure:
    """Bars of error and cost."""
    return plots.bars(
        [row["window"] for row in rows],
        {
            "test error / %": [100 * (1 - row["accuracy"]) for row in rows],
            "weights of convolutions / thousand": [row["convolution_weights"] / 1e3 for row in rows],
            "multiply-accumulates / million": [row["macs"] / 1e6 for row in rows],
            "receptive field / pixels": [row["receptive_field"] for row in rows],
        },
        title="One net with other windows",
    )


def accuracy(options: Mapping[str, Any], epochs: int, seed: int) -> float:
    """The accuracy on the test digits of the net with these options, after training."""
    experiment = replace(QUICK["convnet"], net=Net("convnet", options=options)).with_training(epochs=epochs, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(experiment.with_training(run_dir=Path(folder) / "run"), console=Console(file=io.StringIO()))
    return outcome.training.evaluation.summary["accuracy"]


def main(options: Options) -> None:
    """Trains every variant and writes the folder."""
    if options.seeds < 1 or options.epochs < 1:
        raise ValueError(f"seeds={options.seeds}, epochs={options.epochs}; expected numbers above 0")
    console, records = Console(), []
    for name, (side, convs) in VARIANTS.items():
        net = {"kernel_size": side, "convs": convs, "features": (16, 32)}
        found = analysis.summary(models.create("convnet", **net), (1, SIZE, SIZE, 1))
        accuracies = []
        for seed in range(options.seeds):
            with console.status(f"{name}, seed {seed}"):
                accuracies.append(accuracy(net, options.epochs, seed))
        last = found.fields["pool2"]
        records.append(
            {
                "window": name,
                "accuracy": mean_and_deviation(accuracies)["mean"],
                "deviation": mean_and_deviation(accuracies)["deviation"],
                "convolution_weights": sum(
                    layer.params for layer in found.cost.layers if layer.name.startswith("conv")
                ),
                "parameters": found.cost.params,
                "macs": found.cost.macs,
                "receptive_field": last.size[0],
            }
        )
        console.print(f"{name}: {records[-1]['accuracy']:.2%} +- {records[-1]['deviation']:.2%}", highlight=False)
    text = "Convolutions of 16 and 32 channels, each followed by a pool; the dense layers are the same in all."
    parts = [ResultSection("variants", "Windows of other sizes", Records(records, draw_variants), text)]
    measured = {"seeds": options.seeds, "epochs": options.epochs, "variants": records}
    page = write_experiment_page(
        options.out, "What if the kernel is 5 instead of 3?", parts, claim=CLAIM, measured=measured
    )
    console.print(f"page: {page}", highlight=False, soft_wrap=True)


CLAIM = "A window of 5 errs half as often as one of 3, and one of 7 no less often than one of 5."

if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=__doc__))
