"""The receptive fields of the whole zoo, beside the published ones.

Claim: size, stride and effective padding read from the program equal every published figure (Araujo et al. 2019; the
table of google-research/receptive_field), and what its recursion gives by hand for the layer lists of others, of every
net that pads and strides as that one does. Those of nets with gates leave out what is seen through the gates.

    python experiments/receptive_fields.py                       # writes results/receptive_fields/
    python experiments/receptive_fields.py --models 'resnet*' --out fields

Expected: all of 116 numbers equal; 35 models with up to 2,341 layers in twenty seconds on two cores.

Reference: Araujo, Norris and Sim (2019), "Computing Receptive Fields of Convolutional Neural Networks", Distill.
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
from cnnjax.view.table import format_extent

RESULTS = Path(__file__).parent / "results" / "receptive_fields"

INCEPTION = "mixed_5b mixed_5c mixed_5d mixed_6a mixed_6b mixed_6c mixed_6d mixed_6e mixed_7a mixed_7b mixed_7c".split()

# Model, options, layer: size, stride, and padding where the published net pads as ours does.
SLIM = "google-research/receptive_field"
ARITHMETIC = "recursion on the layer list"
PUBLISHED: list[tuple[str, dict[str, Any], str, int, int | None, int | None, str]] = [
    *[
        ("lenet5", {}, layer, size, stride, 0, ARITHMETIC)
        for layer, size, stride in zip(("c1", "s2", "c3", "s4", "c5"), (5, 6, 14, 16, 32), (1, 2, 2, 4, 4), strict=True)
    ],
    *[
        ("alexnet", {}, layer, size, None, None, SLIM)
        for layer, size in zip(
            ("conv1", "pool1", "conv2", "conv3", "conv4", "conv5", "pool5"),
            (11, 19, 51, 99, 131, 163, 195),
            strict=True,
        )
    ],
    ("alexnet_owt", {}, "pool5", 195, 32, 66, ARITHMETIC),
    *[
        ("zfnet", {}, layer, size, None, None, ARITHMETIC)
        for layer, size in zip(
            ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5"),
            (7, 11, 27, 43, 75, 107, 139, 171),
            strict=True,
        )
    ],
    ("vgg11", {}, "pool5", 150, 32, 59, SLIM),
    ("vgg13", {}, "pool5", 156, 32, 62, ARITHMETIC),
    *[
        ("vgg16", {}, f"pool{number}", size, stride, padding, SLIM)
        for number, (size, stride, padding) in enumerate(
            ((6, 2, 2), (16, 4, 6), (44, 8, 18), (100, 16, 42), (212, 32, 90)), 1
        )
    ],
    ("vgg19", {}, "pool5", 268, 32, 118, ARITHMETIC),
    ("googlenet", {}, "inception5b", 715, 32, None, ARITHMETIC),
    ("googlenet_bn", {}, "inception5b", 379, 32, None, ARITHMETIC),
    *[
        ("inception_v3", {}, layer, size, None, None, SLIM)
        for layer, size in zip(INCEPTION, (63, 95, 127, 159, 351, 543, 735, 927, 1055, 1183, 1311), strict=True)
    ],
    ("mobilenet_v1", {}, "stage5", 315, 32, None, SLIM),
    ("resnet18", {}, "stage4", 435, 32, 217, ARITHMETIC),
    ("resnet34", {}, "stage4", 899, 32, 449, ARITHMETIC),
    ("resnet50", {}, "stage3", 267, 16, 133, "nashory/DeLF-pytorch"),
    ("resnet50", {}, "stage4", 427, 32, 213, "nashory/DeLF-pytorch"),
    ("resnet101", {}, "stage4", 971, 32, 485, ARITHMETIC),
    ("resnet152", {}, "stage4", 1451, 32, 725, ARITHMETIC),
    *[
        ("resnet50", {"v1_strides": True}, f"stage{number}", size, 2 ** (number + 1), None, SLIM)
        for number, size in enumerate((35, 99, 291, 483), 1)
    ],
    ("resnet101", {"v1_strides": True}, "stage4", 1027, 32, None, SLIM),
    ("resnet152", {"v1_strides": True}, "stage4", 1507, 32, None, SLIM),
    ("resnet20", {}, "stage3", 81, 4, None, ARITHMETIC),
    ("resnet56", {}, "stage3", 249, 4, None, ARITHMETIC),
    ("resnet110", {}, "stage3", 501, 4, None, ARITHMETIC),
    ("resnet1202", {}, "stage3", 5597, 4, None, ARITHMETIC),
    # The stride is in the first 1x1, as in the paper's own code: every 3x3 of a stage has the stage's stride.
    ("preact_resnet164", {}, "stage3", 3 + 2 * 18 * (1 + 2 + 4), 4, None, ARITHMETIC),
    ("preact_resnet1001", {}, "stage3", 3 + 2 * 111 * (1 + 2 + 4), 4, None, ARITHMETIC),
]


@dataclass(frozen=True)
class Options:
    """Which models.

    Attributes:
        models: a shell pattern of names.
        out: the folder that is written.
    """

    models: str = "*"
    out: Path = RESULTS


def draw_comparison(rows: Sequence[dict[str, Any]]) -> Figure:
    """Found over published sizes: equal ones lie on the diagonal."""
    sizes = [row for row in rows if row["number"] == "size"]
    points = ([row["published"] for row in sizes], [row["found"] for row in sizes])
    figure = plots.curves(
        [plots.Panel("", {"a layer": points})],
        x_label="published receptive field / pixels",
        y_label="found / pixels",
        title="Published and found receptive fields",
        log="xy",
    )
    (axes,) = figure.axes
    axes.lines[0].set_linestyle("none")
    axes.plot([4, 6000], [4, 6000], color="#8b949e", linewidth=0.8, zorder=0)
    return figure


def draw_zoo(rows: Sequence[dict[str, Any]]) -> Figure:
    """What each model sees beside the size of its picture, the smallest field first."""
    rows = sorted(rows, key=lambda row: row["pixels"])
    return plots.dots(
        [row["model"] for row in rows],
        {"receptive field": [row["pixels"] for row in rows], "picture": [row["picture"] for row in rows]},
        label="side / pixels",
        title="What a unit of the last maps sees, and the picture",
    )


def last_maps(fields: analysis.ReceptiveFields) -> analysis.LayerField:
    """The field of the last layer with rows and columns, the largest of those that end together."""
    spread = [layer for layer in fields.layers if None not in layer.stride and min(layer.shape[1:-1]) > 1]
    return max(spread, key=lambda layer: max(layer.size))


def compare(model: str, fields: dict[str, analysis.ReceptiveFields]) -> list[dict[str, Any]]:
    """Every published number of a model beside what was found; `fields` by the options of the model."""
    rows = []
    for name, options, layer, *numbers, source in PUBLISHED:
        if name != model:
            continue
        found = fields[repr(options)][layer]
        for number, published, measured in zip(
            ("size", "stride", "padding"), numbers, (found.size[0], found.stride[0], -found.start[0]), strict=True
        ):
            if published is not None:
                shown = name + "".join(f" {option}" for option in options)
                rows.append(
                    {
                        "model": shown,
                        "layer": layer,
                        "number": number,
                        "published": published,
                        "found": measured,
                        "equal": published == measured,
                        "source": source,
                    }
                )
    return rows


def main(options: Options) -> None:
    """Reads every model and writes the folder."""
    chosen = models.names(options.models)
    if not chosen:
        raise ValueError(f"no model matches {options.models!r}; there are {', '.join(models.names())}")
    console, compared, zoo, example = Console(), [], [], None
    for name in track(chosen, "reading programs", console=console, transient=True):
        shape = (1, *models.image_shape(name))
        variants = [{}, *(variant for model, variant, *_ in PUBLISHED if model == name and variant)]
        scan = {"scan": True} if "scan" in models.options_of(name) else {}
        fields = {
            repr(variant): analysis.receptive_field(models.create(name, **variant, **scan), shape)
            for variant in variants
        }
        plain = fields[repr({})]
        last = last_maps(plain)
        zoo.append(
            {
                "model": name,
                "layers": len(plain.layers),
                "last_maps": last.name,
                "receptive_field": format_extent(last.size),
                "stride": format_extent(last.stride),
                "start": format_extent(last.start, separator=","),
                "pixels": max(last.size),
                "picture": shape[1],
                "misaligned": len(plain.misaligned),
            }
        )
        compared += compare(name, fields)
        example = plain if name == "vgg16" or example is None else example
    parts = [
        ResultSection(
            "zoo", "The zoo", Records(zoo, draw_zoo), "Gates left out; on one picture of the size of the paper."
        )
    ]
    if compared:
        text = "A point on the line is a layer whose receptive field is the published one."
        said = f"{sum(row['equal'] for row in compared)} of {len(compared)} published numbers are equal."
        comparison = Records(compared, draw_comparison, (said,))
        parts.insert(0, ResultSection("published", "Published and found", comparison, text))
    if example is not None:
        parts.append(
            ResultSection(
                "layers", "Layer by layer: one of the nets", example, "The field of each layer's centre unit."
            )
        )
    equal = sum(row["equal"] for row in compared)
    measured = {"models": len(zoo), "equal_to_published": f"{equal} of {len(compared)}", "compared": compared}
    page = write_experiment_page(options.out, "Receptive fields of the zoo", parts, claim=CLAIM, measured=measured)
    console.print(
        f"{equal} of {len(compared)} published numbers are equal; {len(zoo)} models; page: {page}", highlight=False
    )
    if different := [row for row in compared if not row["equal"]]:
        console.print(str(Records(different, draw_comparison)), highlight=False, markup=False, soft_wrap=True)


CLAIM = "Receptive fields are read from the traced programs, and equal the published ones."

if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=__doc__))
