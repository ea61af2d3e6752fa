"""The challenges of image classification as curves: what a net answers when its pictures change.

Claim: a trained net answers alike under shifts and mirrors where its training had them, and under little light and
noise; it loses its answers under turns, changes of scale and viewpoint, blocks and stronger noise, which neither its
training nor its layers prepare it for. Its maps move along with the picture the less, the deeper they are.

    python experiments/invariance.py                               # writes results/invariance/
    python experiments/invariance.py --run-dir runs/cifar10 --data-dir path/to/tfds --layers stage1 stage2 stage3

Expected: of ResNet-20 on CIFAR-10, 84.8 % of 256 pictures right, 85 % after a shift by one pixel and 84 % mirrored, but
29 % after a turn by 90 degrees and 57 % with noise of 0.1; half a minute on two cores.

Reference: Lenc and Vedaldi (2015), "Understanding image representations by measuring their equivariance and
equivalence"; Hendrycks and Dietterich (2019), "Benchmarking Neural Network Robustness to Common Corruptions".
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

from cnnjax import analysis
from cnnjax.analysis import changes
from cnnjax.cli import one_line_errors
from cnnjax.experiment import QUICK, trained_network
from cnnjax.report.experiment_page import ResultSection, write_experiment_page
from cnnjax.view import plots
from cnnjax.view.result import Figure

RESULTS = Path(__file__).parent / "results" / "invariance"


@dataclass(frozen=True)
class Options:
    """Whose answers.

    Attributes:
        run_dir: the folder of a run; a small net is trained on the digits where left out.
        data_dir: where the run's data lies, if it is TFDS or a relative path.
        examples: test pictures.
        layers: names or patterns of layers whose maps are moved back and compared; the model's stages where left out.
        fill: what comes in where pictures move, 0 black to 1 white; the mean of the pictures' borders where left out.
        seed: of places, noise and fields.
        out: the folder that is written.
    """

    run_dir: Path | None = None
    data_dir: Path | None = None
    examples: int = 256
    layers: tuple[str, ...] = ()
    fill: float | None = None
    seed: int = 0
    out: Path = RESULTS


def examples_of(pictures: np.ndarray, tried: tuple[analysis.Change, ...], seed: int) -> Figure:
    """The first picture under every change, at its middle severity."""
    shown = [plots.Tile(pictures[0], "as it is")]
    for change in tried:
        severity = change.severities[len(change.severities) // 2]
        changed = change.apply(jax.random.key(seed), jnp.asarray(pictures[:2]), severity)
        shown.append(plots.Tile(np.asarray(changed[0]), f"{change.name}\n{severity:g} {change.unit}"))
    return plots.pictures(shown, title="One picture and its changes", columns=6)


def main(options: Options) -> None:
    """Changes the pictures in every way and writes the folder."""
    console = Console()
    trained = trained_network(options.run_dir, QUICK["convnet"], console=console)
    pictures, labels = trained.test_pictures(options.examples, data_dir=options.data_dir)
    border = np.concatenate([pictures[:, 0], pictures[:, -1], pictures[:, :, 0], pictures[:, :, -1]], axis=1)
    fill = float(border.mean()) if options.fill is None else options.fill
    tried = changes.challenges(min(pictures.shape[1:3]), fill=fill)
    layers = options.layers or tuple(stage.name for stage in getattr(trained.model, "stages", ()))
    with console.status(f"{len(tried)} changes of {len(pictures)} pictures"):
        found = analysis.invariance(
            jax.random.key(options.seed), trained, pictures, labels=labels, changes=tried, layers=layers
        )
    name = trained.title
    drawings: dict[str, Any] = {"changes": partial(examples_of, pictures, tried, options.seed)}
    if layers:
        drawings["equivariance"] = found.draw_equivariance
    part = ResultSection(
        "responses", "Answers to changed pictures", found, "Over the severity of each change.", drawings
    )
    worst = {
        change.name: min(r.accuracy or 0.0 for r in found.responses if r.change == change.name) for change in tried
    }
    measured = {
        "accuracy": found.accuracy,
        "net": name,
        "examples": len(pictures),
        "lowest_accuracy": worst,
        "responses": found.rows(),
    }
    page = write_experiment_page(options.out, f"Invariance of {name}", [part], claim=CLAIM, measured=measured)
    least = ", ".join(f"{change} {accuracy:.0%}" for change, accuracy in worst.items())
    console.print(
        f"{name}: {found.accuracy:.1%} right; at the worst severity: {least}; page: {page}",
        highlight=False,
        soft_wrap=True,
    )


CLAIM = "What a net answers when its pictures change, and whether its maps move along."

if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=__doc__))
