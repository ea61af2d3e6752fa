"""A training step and inference of three detectors against torchvision, and a training step of a U-Net.

Claim: on two CPU cores, with equal weights, pictures and objects, SSD300 (4 pictures to train on, 1 to look at) is at
least as fast as torchvision's, and Faster R-CNN on ResNet-50's pyramid (2 of 320x448) and Mask R-CNN (2 of 320x320) are
1.3 times as fast, in training and at inference, suppression included; a training step of a U-Net of width 16 (8 of
256x256) is at least as fast as the same net in PyTorch.

Each side is a process of its own, both are interleaved, and what counts are medians of the rounds; memory is as in
`train_step.py`: ours keeps it between steps, as the command line does, and PyTorch is as it is installed. Normalisation
of the trunk is frozen, and all else is trained. At inference the layers that tell classes are widened, so that there is
something to suppress.

    python experiments/benchmarks/dense_prediction.py --torch-python PATH    # writes results/dense_prediction.json
    python experiments/benchmarks/dense_prediction.py --torch-python PATH --rounds 2 --cases ssd300_training

PATH is a Python that has PyTorch and torchvision.

Expected: on two cores of an Intel Xeon with AVX-512, against PyTorch 2.14 and torchvision 0.29, a step of U-Net is 1.19
times as fast, SSD300 1.03 in training and 1.16 at inference, Faster R-CNN 0.80 and 0.89, Mask R-CNN 0.30 and 1.48. So
Faster R-CNN misses its bars: on this machine single convolutions and dense layers take as long as PyTorch's, RoIAlign
and suppression are a tenth of our step, and the trunk's gradient takes 0.88 to 1.04 s against 0.81 s. Mask R-CNN's step
computed 128 masks for each picture then, where torchvision computes those of the few regions with an object; since it
computes as many as are needed, its step was not measured again. 12 minutes.
"""

import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from cnnjax.report.results import write_results
from experiments.benchmarks.train_step import Taken, compared, running

RESULTS = Path(__file__).parent.parent / "results" / "dense_prediction.json"
SCRIPTS = ("dense_jax_side.py", "torch_dense.py")

# Slots, and objects of each picture.
SLOTS, OBJECTS = 8, 5


@dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
        net: the registered name.
        shape: pictures of a batch, their height and width.
        training: training steps; else inference.
        bar: how many times as fast as PyTorch it should be.
        classes: of things.
        arrays: file of the batch.
        weights: file of the weights, which PyTorch's side writes.
    """

    net: str
    shape: tuple[int, int, int]
    training: bool
    bar: float
    classes: int = 90
    arrays: str = ""
    weights: str = ""


CASES = {
    "unet_training": Case("unet", (8, 256, 256), True, 1.0),
    "ssd300_training": Case("ssd300", (4, 300, 300), True, 1.0),
    "ssd300_inference": Case("ssd300", (1, 300, 300), False, 1.0),
    "faster_rcnn_training": Case("faster_rcnn_resnet50_fpn", (2, 320, 448), True, 1.3),
    "faster_rcnn_inference": Case("faster_rcnn_resnet50_fpn", (2, 320, 448), False, 1.3),
    "mask_rcnn_training": Case("mask_rcnn_resnet50_fpn", (2, 320, 320), True, 1.3),
    "mask_rcnn_inference": Case("mask_rcnn_resnet50_fpn", (2, 320, 320), False, 1.3),
}


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        rounds: rounds; at least 7 for a result that is kept.
        cases: which, all for a result that is kept.
        torch_python: a Python that has PyTorch and torchvision.
    """

    rounds: int = 7
    cases: tuple[str, ...] = tuple(CASES)
    torch_python: str = sys.executable


def batch_of(case: Case) -> dict[str, np.ndarray]:
    """Pictures of noise, with boxes that are not, their classes, and masks that fill the boxes."""
    random, (batch, height, width) = np.random.default_rng(0), case.shape
    sides = np.array([width, height])
    corners = random.uniform(0, 0.6, (batch, SLOTS, 2)) * sides
    ends = corners + random.uniform(0.1, 0.4, (batch, SLOTS, 2)) * sides
    boxes = np.concatenate([corners, ends], axis=-1).astype(np.float32)
    masks = np.zeros((batch, height, width), np.int32)
    for picture in range(batch):
        for slot in reversed(range(OBJECTS)):
            left, top, right, bottom = boxes[picture, slot].astype(int)
            masks[picture, top:bottom, left:right] = slot + 1
    return {
        "image": random.uniform(size=(batch, height, width, 3)).astype(np.float32),
        "boxes": boxes,
        "classes": random.integers(0, case.classes, (batch, SLOTS)).astype(np.int32),
        "present": np.tile(np.arange(SLOTS) < OBJECTS, (batch, 1)),
        "masks": masks,
        "id": np.arange(batch, dtype=np.int32),
        "valid": np.ones(batch, bool),
    }


def measure(case: Case, options: Options, folder: Path) -> dict[str, Any]:
    """Milliseconds of a step on both sides, and how many times as fast ours is."""
    case = replace(case, arrays=str(folder / "arrays.npz"), weights=str(folder / "weights.npz"))
    np.savez(case.arrays, allow_pickle=False, **batch_of(case))
    with ExitStack() as stack:
        # Its weights are there before ours is started.
        theirs = stack.enter_context(running(options.torch_python, "torch", case, scripts=SCRIPTS))
        if theirs is None:
            raise SystemExit("--torch-python names no Python with PyTorch and torchvision")
        theirs.take(1)
        ours = stack.enter_context(running(sys.executable, "cnnjax", case, kept=True, scripts=SCRIPTS))
        assert ours is not None
        taken: dict[str, list[Taken]] = {"cnnjax": [], "torch": []}
        for turn in range(options.rounds + 1):
            # There and back, so that neither always comes after the other.
            for name, side in [("cnnjax", ours), ("torch", theirs)][:: 1 if turn % 2 else -1]:
                found = side.take(1)
                if turn:
                    taken[name].append(found)
        return {**compared((None, case.bar), taken), "torch": theirs.version}


def main(options: Options) -> None:
    """Measures the cases, prints, and writes if everything was measured in full."""
    if unknown := set(options.cases) - set(CASES):
        raise SystemExit(f"--cases {min(unknown)} is unknown; expected some of {', '.join(CASES)}")
    measured: dict[str, Any] = {"rounds": options.rounds}
    shown = Table("case", "ms", "PyTorch's", "found", "bar", "")
    for name in options.cases:
        with tempfile.TemporaryDirectory() as folder:
            one = measured[name] = measure(CASES[name], options, Path(folder))
        found, times = one["times_as_fast_as_torch"], one["milliseconds"]
        verdict = "reached" if found["ratio"] >= found["bar"] else "missed"
        row = f"{times['cnnjax']:.0f}", f"{times['torch']:.0f}", f"{found['ratio']:.2f}x", f"{found['bar']:g}x", verdict
        print(name, json.dumps(row), flush=True)
        shown.add_row(name, *row)
    Console().print(shown)
    if options.rounds >= Options.rounds and set(options.cases) == set(CASES):
        write_results(RESULTS, measured)
    else:
        print("not written: a result that is kept needs every case and at least 7 rounds")


if __name__ == "__main__":
    main(tyro.cli(Options, description=(__doc__ or "").split("\n\n")[0]))
