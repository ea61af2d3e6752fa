"""Which layers of a net can no longer gain context at a given size of picture, found without training.

Claim: a convolution whose inputs already see the whole picture gains nothing by its window. At the sizes nets were
designed for almost every window gains; at 32 pixels most of a ResNet-50 gains nothing, so that cutting it short or
striding later would cost little (Richter et al. 2021).

    python experiments/architecture_search_by_receptive_field.py       # writes its folder in results/
    python experiments/architecture_search_by_receptive_field.py --models resnet18 vgg16 --sizes 32 64 224

Expected: of resnet18's 17 windows (convolutions larger than 1x1) 7 gain context at 32 pixels and all but a few at 224;
under a minute on two cores.

Reference: Richter, Schoening, Wiedenroth and Krumnack (2021), "Should You Go Deeper? Optimizing Convolutional Neural
Network Architectures without Training by Receptive Field Analysis".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.progress import track

from cnnjax import analysis, models
from cnnjax.cli import one_line_errors
from cnnjax.report.experiment_page import ResultSection, write_experiment_page
from cnnjax.view import plots
from cnnjax.view.result import Figure, Records

RESULTS = Path(__file__).parent / "results" / "architecture_search_by_receptive_field"


@dataclass(frozen=True)
class Options:
    """Which nets, at which sizes.

    Attributes:
        models: names.
        sizes: sides of square pictures; those that are too small for a net are left out.
        out: the folder that is written.
    """

    models: tuple[str, ...] = (
        "vgg16",
        "resnet18",
        "resnet34",
        "resnet50",
        "densenet121",
        "mobilenet_v1",
    )
    sizes: tuple[int, ...] = (32, 48, 64, 96, 128, 160, 224, 320, 512)
    out: Path = RESULTS


def draw_windows(rows: Sequence[dict[str, Any]]) -> Figure:
    """The share of windows that gain, and of the products spent where they do not, over the size."""
    panels = []
    for column, title in (
        ("share_gaining", "windows that gain context"),
        ("macs_wasted", "products in those that do not"),
    ):
        lines = {}
        for model in dict.fromkeys(row["model"] for row in rows):
            mine = [row for row in rows if row["model"] == model]
            lines[model] = ([row["size"] for row in mine], [row[column] for row in mine])
        panels.append(plots.Panel(title, lines))
    title = "Context gained, by the size of the picture"
    return plots.curves(panels, x_label="side of the picture / pixels", y_label="share", title=title, columns=2)


def examine(name: str, size: int) -> tuple[dict[str, Any], analysis.Context]:
    """The windows of a net at one size: convolutions and pools larger than one pixel."""
    model, shape = models.create(name), (1, size, size, models.image_shape(name)[-1])
    found = analysis.context(model, shape)
    costs = {layer.name: layer.macs for layer in analysis.cost(model, shape, training=False).layers}
    windows = [layer for layer in found.layers if layer.widens]
    idle = [layer for layer in windows if not layer.gains]
    whole = next((layer.name for layer in found.layers if layer.share >= 1 and layer.positions), None)
    record = {
        "model": name,
        "size": size,
        "windows": len(windows),
        "gaining": len(windows) - len(idle),
        "share_gaining": (len(windows) - len(idle)) / len(windows),
        "macs_wasted": sum(costs[layer.name] for layer in idle) / sum(costs.values()),
        "whole_picture_seen_in": whole,
        "first_without_gain": idle[0].name if idle else None,
    }
    return record, found


def main(options: Options) -> None:
    """Examines every net at every size and writes the folder."""
    console, records, contexts = Console(), [], {}
    for name in track(options.models, "reading programs", console=console, transient=True):
        smallest = models.smallest_image_size(models.create(name), channels=models.image_shape(name)[-1])
        sizes = [size for size in options.sizes if smallest is not None and size >= smallest]
        for size in sizes:
            record, found = examine(name, size)
            records.append(record)
            contexts.setdefault(name, found)
    if not records:
        raise ValueError(f"sizes={options.sizes} are too small for {', '.join(options.models)}")
    parts = [ResultSection("windows", "Windows that gain context", Records(records, draw_windows))]
    for name, found in contexts.items():
        side = found.picture[0]
        parts.append(ResultSection(f"context_{name}", f"{name} at {side} pixels, layer by layer", found))
    measured = {"nets": len(contexts), "windows": records}
    page = write_experiment_page(options.out, "Layers that gain no more context", parts, claim=CLAIM, measured=measured)
    console.print(f"{Records(records, draw_windows)}\npage: {page}", highlight=False, markup=False, soft_wrap=True)


CLAIM = "A window whose inputs see the whole picture gains nothing."

if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=__doc__))
