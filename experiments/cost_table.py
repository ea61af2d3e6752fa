"""What every model of the zoo costs, beside the published counts.

Claim: parameters and multiply-accumulates, counted from the traced programs, equal torchvision's and timm's tables to
the digits that these print; taps on padding are 0 to 14 % of them.

    python experiments/cost_table.py                        # writes results/cost_table/
    python experiments/cost_table.py --models 'vgg*' --out costs

Expected: all published counts equal, 36 of parameters and 19 of multiply-accumulates; a minute on two cores.

Reference: torchvision's weight metadata (0.29), timm's results tables.
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

RESULTS = Path(__file__).parent / "results" / "cost_table"

# Parameters, and billions of multiply-accumulates on one picture of the size the model was designed for, both as
# published (torchvision's and timm's tables, the papers) to the digits given; None where nothing was published.
PUBLISHED: dict[str, tuple[int, str | None]] = {
    "lenet5": (61_706, None),
    "lenet5_1998": (60_000, None),
    "convnet": (421_642, None),
    "alexnet": (60_965_224, "0.72"),
    "alexnet_owt": (61_100_840, "0.714"),
    "zfnet": (62_357_608, None),
    "vgg11": (132_863_336, "7.609"),
    "vgg13": (133_047_848, "11.308"),
    "vgg16": (138_357_544, "15.470"),
    "vgg19": (143_667_240, "19.632"),
    "googlenet": (13_378_280, None),
    "googlenet_bn": (13_004_888, "1.498"),
    "inception_v3": (27_161_264, "5.713"),
    "resnet18": (11_689_512, "1.814"),
    "resnet34": (21_797_672, "3.664"),
    "resnet50": (25_557_032, "4.089"),
    "resnet101": (44_549_160, "7.801"),
    "resnet152": (60_192_808, "11.514"),
    "resnet9": (6_573_120, None),
    "resnet20": (269_722, "0.041"),
    "resnet32": (464_154, "0.069"),
    "resnet44": (658_586, None),
    "resnet56": (853_018, "0.125"),
    "resnet110": (1_727_962, "0.253"),
    "resnet1202": (19_421_274, None),
    "preact_resnet164": (1_703_258, None),
    "preact_resnet1001": (10_327_706, None),
    "se_resnet18": (11_778_592, None),
    "se_resnet34": (21_958_868, None),
    "se_resnet50": (28_088_024, None),
    "se_resnet101": (49_326_872, None),
    "se_resnet152": (66_821_848, None),
    "senet154": (115_088_984, None),
    "mobilenet_v1": (4_231_976, "0.569"),
    "densenet121": (7_978_856, "2.834"),
    # Published with the auxiliary head, 152.717, which has no part in a prediction.
    "hed": (14_716_171, None),
    "unet": (31_030_658, None),
    "fcn_resnet50": (35_322_218, None),
    # Detectors at 20 classes. Those of the small ones, and of what YOLO is trained with first, are counted here.
    "ssd300": (26_285_486, None),
    "ssd512": (27_188_676, None),
    "yolov1": (271_703_550, None),
    "yolov1_classifier": (23_428_136, None),
    "rcnn": (56_954_261, None),
    "fast_rcnn": (134_690_729, None),
    "faster_rcnn_vgg16": (137_078_239, None),
    "faster_rcnn_resnet50_fpn": (41_396_536, None),
    "mask_rcnn_resnet50_fpn": (44_024_653, None),
    "ssd_small": (1_297_656, None),
    "yolo_small": (3_153_534, None),
    "rcnn_small": (663_381, None),
    "fast_rcnn_small": (1_115_817, None),
    "faster_rcnn_vgg_small": (1_193_119, None),
    "faster_rcnn_small": (1_179_448, None),
    "mask_rcnn_small": (1_211_981, None),
}


@dataclass(frozen=True)
class Options:
    """Which models.

    Attributes:
        models: a shell pattern of names.
        out: the folder that is written.
    """

    models: str = "*"
    out: Path = RESULTS


# What the page shows of a record, by its heading.
SHOWN = {
    "model": "model",
    "picture": "picture",
    "parameters": "parameters",
    "MACs": "macs",
    "share on padding": "on_padding",
    "activations": "activations",
    "parameters / MiB": "parameters_mib",
    "forward / MiB": "forward_mib",
    "training / MiB": "training_mib",
}

COLUMNS = (
    "On one picture of the paper's size. MACs count taps on padding; activations are what leaves convolutions"
    " and products; memory in MiB: parameters, the most at once in a forward pass, and a training step without"
    " the optimizer's own."
)


def draw_costs(rows: Sequence[dict[str, Any]]) -> Figure:
    """The costs on logarithmic scales, the least products first."""
    rows = sorted(rows, key=lambda row: row["macs"])
    return plots.bars(
        [row["model"] for row in rows],
        {
            "parameters / million": [row["parameters"] / 1e6 for row in rows],
            "multiply-accumulates / million": [row["macs"] / 1e6 for row in rows],
            "to train one picture / MiB": [row["training_mib"] or float("nan") for row in rows],
        },
        title="What the zoo costs",
        log=True,
    )


def main(options: Options) -> None:
    """Counts every model and writes the folder."""
    chosen = models.names(options.models)
    if not chosen:
        raise ValueError(f"no model matches {options.models!r}; there are {', '.join(models.names())}")
    console, records = Console(), []
    for name in track(chosen, "counting", console=console, transient=True):
        scan = {"scan": True} if "scan" in models.options_of(name) else {}
        model, shape = models.create(name, **scan), (1, *models.image_shape(name))
        found = analysis.cost(model, shape)
        inside = analysis.cost(model, shape, padding=False, training=False)
        params, macs = PUBLISHED[name]
        shown = None if macs is None else f"{found.macs / 1e9:.{len(macs.split('.')[1])}f}"
        mib = None if found.training_bytes is None else round(found.training_bytes / 2**20, 1)
        records.append(
            {
                "model": name,
                "picture": "x".join(map(str, shape[1:])),
                "parameters": found.params,
                "macs": found.macs,
                "on_padding": 1 - inside.macs / found.macs,
                "activations": found.activations,
                "parameters_mib": round(found.parameter_bytes / 2**20, 1),
                "forward_mib": round(found.forward_bytes / 2**20, 1),
                "training_mib": mib,
                "parameters_as_published": params == found.params,
                "macs_as_published": None if macs is None else shown == macs,
            }
        )
    counts = {
        kind: [row[f"{kind}_as_published"] for row in records if row[f"{kind}_as_published"] is not None]
        for kind in ("parameters", "macs")
    }
    measured = {
        "models": len(records),
        **{f"{kind}_as_published": f"{sum(found)} of {len(found)}" for kind, found in counts.items()},
        "costs": records,
    }
    page = write_experiment_page(
        options.out,
        "What the zoo costs",
        [ResultSection("costs", "Costs", Records(records, draw_costs, (COLUMNS,), SHOWN))],
        claim=CLAIM,
        measured=measured,
    )
    console.print(
        f"{sum(counts['parameters'])} of {len(counts['parameters'])} published parameter counts and"
        f" {sum(counts['macs'])} of {len(counts['macs'])} of multiply-accumulates are equal; page: {page}",
        highlight=False,
        soft_wrap=True,
    )


CLAIM = "Counted from the traced programs; equal to the published counts."

if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=__doc__))
