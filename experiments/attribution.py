"""Which pixels the answers of a net rest on, by nine methods, and which methods depend on its weights at all.

Claim: integrated gradients add up to what the score gained over a black picture; Grad-CAM and the gradients change when
weights are drawn anew from the output down, while guided backpropagation stays as it is for longer (Adebayo et al.
2018), which shows the picture more than the net.

    python experiments/attribution.py                          # writes results/attribution/
    python experiments/attribution.py --run-dir runs/cifar10 --data-dir path/to/tfds

Expected: of ResNet-20 on CIFAR-10 completeness to 1e-3 of the score; with the output and the last stage drawn anew a
rank correlation of 0.28 for saliency, -0.06 for Grad-CAM and 0.70 for guided backpropagation; 35 s on two cores.

Reference: see `cnnjax.analysis.attribution`; Adebayo et al. (2018), "Sanity Checks for Saliency Maps".
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

from cnnjax import analysis
from cnnjax.cli import one_line_errors
from cnnjax.experiment import QUICK, trained_network
from cnnjax.report.experiment_page import ResultSection, write_experiment_page
from cnnjax.view import plots
from cnnjax.view.result import Figure

RESULTS = Path(__file__).parent / "results" / "attribution"


@dataclass(frozen=True)
class Options:
    """Whose answers.

    Attributes:
        run_dir: the folder of a run; a small net is trained on the digits where left out.
        data_dir: where the run's data lies, if it is TFDS or a relative path.
        examples: test pictures that are explained.
        layer: of the class activation maps; the last one with rows and columns where left out.
        ascent: steps towards the pictures that classes answer to most.
        seed: of noise and of weights drawn anew.
        out: the folder that is written.
    """

    run_dir: Path | None = None
    data_dir: Path | None = None
    examples: int = 5
    layer: str | None = None
    ascent: int = 200
    seed: int = 0
    out: Path = RESULTS


def main(options: Options) -> None:
    """Explains, checks and writes the folder."""
    console, key = Console(), jax.random.key(options.seed)
    trained = trained_network(options.run_dir, QUICK["convnet"], console=console)
    pictures, _ = trained.test_pictures(options.examples, data_dir=options.data_dir)
    with console.status("explaining"):
        found = analysis.explain(key, trained, pictures, layer=options.layer, classes=trained.classes)
        targets = jnp.asarray(found.targets)
        gained = trained(pictures) - trained(np.zeros_like(pictures))
        gained = np.asarray(gained)[np.arange(len(pictures)), found.targets]
    with console.status("drawing weights anew"):
        check = analysis.sanity_check(
            key,
            trained,
            pictures,
            targets=targets,
            layer=options.layer,
            methods=[
                m for m in ("saliency", "gradient x input", "guided backpropagation", "Grad-CAM") if m in found.maps
            ],
        )
    classes = tuple(range(len(trained.classes)))
    with console.status("climbing"):
        ideal, answers = analysis.activation_maximization(
            key, trained, (1, *trained.image_shape), channels=classes, steps=options.ascent
        )

    def draw_ideal() -> Figure:
        shown = [
            plots.Tile(np.asarray(picture), f"{name}: {float(answer):.3g}")
            for name, picture, answer in zip(trained.classes, ideal, answers, strict=True)
        ]
        return plots.pictures(shown, title="Pictures that each class answers to most, and its score", columns=5)

    total = found.maps["integrated gradients"].reshape(len(pictures), -1).sum(axis=1)
    incomplete = float(np.abs(total - gained).max() / np.abs(gained).max())
    name = trained.title
    parts = [
        ResultSection("explanations", "What the answers rest on", found, drawings={"ideal_pictures": draw_ideal}),
        ResultSection("sanity", "With weights drawn anew", check, "From the output down to the first layer."),
    ]
    measured = {
        "incompleteness_of_integrated_gradients": incomplete,
        "net": name,
        "rank_correlation_with_a_new_output": {method: line[1] for method, line in check.correlations.items()},
        "rank_correlation_with_all_new": {method: line[-1] for method, line in check.correlations.items()},
    }
    page = write_experiment_page(options.out, f"What {name} looks at", parts, claim=CLAIM, measured=measured)
    console.print(
        f"{name}: integrated gradients are complete to {incomplete:.1e}\n{check}\npage: {page}", highlight=False
    )


CLAIM = "Nine methods on the same pictures, and whether they depend on the weights."

if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=__doc__))
