"""How much of its receptive field a unit really uses: with depth, over the zoo, before and after training.

Claim: of a stack of n uniform 3x3 convolutions the effective field is a Gaussian with a deviation of sqrt(2 n / 3)
pixels, so that its share of the theoretical field, 2 n + 1, falls as 1 / sqrt(n); random weights spread somewhat more.
Nets of the zoo with fresh weights use a part of their theoretical fields. Training on CIFAR-10 narrows the fields of
ResNet-20's first two stages; that of the last fills the picture before and after.

    python experiments/effective_receptive_fields.py                    # writes results/effective_receptive_fields/
    python experiments/effective_receptive_fields.py --run-dir runs/cifar10 --data-dir path/to/tfds

Expected: deviations within 1e-7 of the root for uniform kernels; sigma 3.65 pixels after 20 layers, where the effective
field is 39 % of the theoretical one; of ResNet-20 69, 54 and 39 % before and 47, 39 and 39 % after training; three
minutes on two cores, with a run at hand.

Reference: Luo, Li, Urtasun and Zemel (2016), "Understanding the Effective Receptive Field in Deep Convolutional Neural
Networks".
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from cnnjax import analysis, models
from cnnjax.cli import one_line_errors
from cnnjax.experiment import QUICK, trained_network
from cnnjax.functional import correlate
from cnnjax.report.experiment_page import ResultSection, write_experiment_page
from cnnjax.view import plots
from cnnjax.view.result import Figure, Records

RESULTS = Path(__file__).parent / "results" / "effective_receptive_fields"

DEPTHS = (1, 2, 3, 5, 8, 12, 16, 20, 30, 40)

# Layer by layer, those with rows and columns, on two pictures of noise.
ZOO = ("vgg11", "resnet18", "resnet50", "densenet121", "mobilenet_v1", "googlenet_bn")


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        run_dir: a run whose net is compared with fresh weights; a quick one is trained where left out.
        data_dir: where the run's data lies, if it is TFDS or a relative path.
        examples: pictures that gradients are averaged over.
        zoo: models with fresh weights.
        seed: of weights and noise.
        out: the folder that is written.
    """

    run_dir: Path | None = None
    data_dir: Path | None = None
    examples: int = 64
    zoo: tuple[str, ...] = ZOO
    seed: int = 0
    out: Path = RESULTS


def draw_growth(rows: Sequence[dict[str, Any]]) -> Figure:
    """Deviation and share of the theoretical field over the depth, beside the law."""
    depths = [row["layers"] for row in rows]
    panels = [
        plots.Panel(
            "deviation / pixels",
            {
                "uniform kernels": (depths, [row["sigma_uniform"] for row in rows]),
                "random kernels": (depths, [row["sigma_random"] for row in rows]),
                "sqrt(2 n / 3)": (depths, [row["law"] for row in rows]),
            },
        ),
        plots.Panel(
            "effective / theoretical size",
            {
                "uniform kernels": (depths, [row["ratio_uniform"] for row in rows]),
                "random kernels": (depths, [row["ratio_random"] for row in rows]),
            },
        ),
    ]
    title = "The effective field of n linear 3x3 layers"
    options = {"share_y": False, "columns": 2, "laws": ("sqrt(2 n / 3)",)}
    return plots.curves(panels, x_label="layers n", y_label="", title=title, **options)


def draw_fields(title: str, rows: Sequence[dict[str, Any]]) -> Figure:
    """Effective over theoretical size, a line per net; on the grey line all is used."""
    sizes = [row["theoretical_size"] for row in rows]
    lines, smallest, largest = {}, min(sizes), max(sizes)
    for net in dict.fromkeys(row["net"] for row in rows):
        mine = [row for row in rows if row["net"] == net]
        lines[net] = ([row["theoretical_size"] for row in mine], [row["effective_size"] for row in mine])
    figure = plots.curves(
        [plots.Panel("", lines)],
        x_label="theoretical size / pixels",
        y_label="effective size / pixels",
        title=title,
        log="xy" if largest > 30 * smallest else "",
    )
    (axes,) = figure.axes
    axes.plot([smallest, largest], [smallest, largest], color="#8b949e", linewidth=0.8, zorder=0)
    return figure


def linear_stack(kernels: list[jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """Convolutions one after the other, and nothing between them."""

    def function(x: jax.Array) -> jax.Array:
        for kernel in kernels:
            x = correlate(x, kernel)
        return x

    return function


def grow(seed: int) -> list[dict[str, Any]]:
    """Stacks of uniform kernels, and of random ones with 16 channels."""
    records = []
    for depth in DEPTHS:
        side = 2 * depth + 9
        uniform = analysis.effective_receptive_field(
            linear_stack([jnp.full((3, 3, 1, 1), 1 / 9)] * depth), jnp.ones((1, side, side, 1))
        )
        keys = jax.random.split(jax.random.key(seed), depth)
        widths = [1, *[16] * (depth - 1), 16]
        kernels = [
            jax.random.normal(key, (3, 3, inputs, outputs)) / math.sqrt(9 * inputs)
            for key, inputs, outputs in zip(keys, widths[:-1], widths[1:], strict=True)
        ]
        random = analysis.effective_receptive_field(linear_stack(kernels), jnp.ones((1, side, side, 1)))
        records.append(
            {
                "layers": depth,
                "theoretical_size": 2 * depth + 1,
                "law": math.sqrt(2 * depth / 3),
                "sigma_uniform": uniform.sigma[0],
                "sigma_random": random.sigma[0],
                "size_uniform": uniform.size,
                "ratio_uniform": uniform.ratio,
                "ratio_random": random.ratio,
                "gaussian_fit_uniform": uniform.r_squared,
            }
        )
    return records


def measure(net: str, function: Callable[[Any], Any], images: Any, layers: list[str]) -> list[dict[str, Any]]:
    """The effective field of every layer's centre unit."""
    rows = []
    for layer in layers:
        found = analysis.effective_receptive_field(function, images, layer=layer)
        rows.append(
            {
                "net": net,
                "layer": layer,
                "theoretical_size": found.field.size[0],
                "effective_size": found.size,
                "ratio": found.ratio,
                "sigma": float(np.mean(found.sigma)),
                "gaussian_fit": found.r_squared,
            }
        )
    return rows


def stages_of(model: models.Model) -> list[str]:
    """The maps that a model offers to others."""
    return [stage.name for stage in getattr(model, "stages", ())]


def main(options: Options) -> None:
    """Measures everything and writes the folder."""
    console, key = Console(), jax.random.key(options.seed)
    growth = grow(options.seed)
    zoo = []
    for name in track(options.zoo, "fresh weights", console=console, transient=True):
        model, shape = models.create(name), (2, *models.image_shape(name))
        images = jax.random.normal(key, shape)
        variables = models.initialize(key, model, images)
        zoo += measure(name, models.bind(model, variables), images, stages_of(model))
    trained = trained_network(options.run_dir, QUICK["resnet20"], console=console)
    pictures, _ = trained.test_pictures(options.examples, data_dir=options.data_dir)
    fresh = models.initialize(key, trained.model, trained.prepare(pictures))
    layers = stages_of(trained.model)
    before = replace(trained, variables=fresh)
    lines = measure("before training", before, pictures, layers) + measure("after training", trained, pictures, layers)
    last = [analysis.effective_receptive_field(net, pictures, layer=layers[-1]) for net in (before, trained)]
    name = trained.title
    title = f"{name}, before and after training"
    parts = [
        ResultSection(
            "linear_stacks",
            "Linear stacks",
            Records(growth, draw_growth),
            "The deviation grows with the root of the depth.",
        ),
        ResultSection(
            "training",
            title,
            Records(lines, partial(draw_fields, title)),
            drawings={"before_training": last[0].draw, "after_training": last[1].draw},
        ),
    ]
    if zoo:
        text = "On the grey line: all is used."
        parts.append(
            ResultSection(
                "zoo", "Fresh weights", Records(zoo, partial(draw_fields, "The zoo with fresh weights")), text
            )
        )
    off = max(abs(row["sigma_uniform"] / row["law"] - 1) for row in growth)
    measured = {
        "largest_deviation_from_the_law": off,
        "ratio_before_training": last[0].ratio,
        "ratio_after_training": last[1].ratio,
        "net": name,
        "linear_stacks": growth,
        "training": lines,
        "zoo": zoo,
    }
    page = write_experiment_page(options.out, "Effective receptive fields", parts, claim=CLAIM, measured=measured)
    console.print(
        f"uniform kernels follow the root within {off:.2e}; {name}, {layers[-1]}: {last[0].ratio:.1%} of the"
        f" theoretical field before and {last[1].ratio:.1%} after training; page: {page}",
        highlight=False,
        soft_wrap=True,
    )


CLAIM = "A unit uses the middle of its receptive field, a Gaussian that grows with the root of the depth."

if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=__doc__))
