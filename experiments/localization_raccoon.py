"""A small net that gives one box per picture, from scratch, overlaps raccoons more than the box that they usually have.

Claim: classification and localisation by regression, a plain convolutional net with five outputs trained on 160
photographs from the web within minutes on two cores, has a mean IoU with the largest raccoon of 40 others that is above
that of the training set's median box (relative to the sides of the picture), drawn on every picture.

    python experiments/localization_raccoon.py --data PATH              # three seeds; writes results
    python experiments/localization_raccoon.py --data PATH --seeds 1    # prints, and writes nothing
    python experiments/localization_raccoon.py --data PATH --choose     # trains on 120 and tests on 40 of the 160

PATH is a folder as `voc:PATH` reads it. Runs are kept in --work, and an interrupted one is resumed there. The epoch is
the last, and settings were chosen with --choose, so not on the 40 test pictures.

Expected: over three seeds, a minute or two each on two cores, a mean IoU of 0.677 +- 0.008 on the 40 test pictures,
the median box 0.652; IoU is above 0.5 on 0.875 +- 0.025 and 0.825 of them. So the gain is three deviations of the
seeds, and one picture is 0.025.

Reference: Sermanet et al. (2014), "OverFeat: Integrated Recognition, Localization and Detection using Convolutional
Networks", section 4, whose net was trained on ImageNet first.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

from cnnjax import Experiment, Folder, Net, Optimizer, PictureData, evaluate, load_run, run
from cnnjax.cli import one_line_errors
from cnnjax.data import open_source
from cnnjax.data.sources.source import read_example
from cnnjax.experiment.settings import Augmentation
from cnnjax.functional.boxes import area, iou
from cnnjax.report.results import mean_and_deviation, write_results
from cnnjax.tasks import LocalizationSettings

RESULTS = Path(__file__).parent / "results" / "localization_raccoon.json"

NET = Net("convnet", options={"features": [16, 32, 64, 128], "hidden": [128], "dropout": 0.2})
TASK = LocalizationSettings()
AUGMENTATION = Augmentation(flip=True, photometric=True, expand=2.0, iou_crop=True)
BATCH, RATE, SIDE = 16, 1e-3, 96

# What is told of each run.
TOLD = ("mean_iou", "iou50")


@dataclass(frozen=True)
class Options:
    """Where the photographs are, and how often and how long nets are trained on them.

    Attributes:
        data: the folder of raccoons.
        seeds: from 0 on; 3 for a result that is kept.
        epochs: of each training.
        choose: tests on a part of the training photographs.
        work: where runs are kept; a folder that is thrown away where left out.
    """

    data: Path
    seeds: int = 3
    epochs: float = 100
    choose: bool = False
    work: Path | None = None

    @property
    def splits(self) -> tuple[str, str]:
        """What is trained and tested on."""
        return ("all[:120]", "all[120:160]") if self.choose else ("all[:160]", "all[160:]")


def settings(options: Options, seed: int, folder: Path) -> Experiment:
    """One training."""
    train, test = options.splits
    return Experiment(
        net=NET,
        pictures=PictureData(
            data=f"voc:{options.data.absolute()}",
            train_split=train,
            validation_split=test,
            test_split=test,
            image_size=SIDE,
            augmentation=AUGMENTATION,
        ),
        task=TASK,
    ).with_training(
        folder=Folder(folder, restartable=True),
        seed=seed,
        epochs=options.epochs,
        batch_size=BATCH,
        optimizer=Optimizer(learning_rate=RATE),
    )


def largest_boxes(options: Options, split: str) -> np.ndarray:
    """The box of the largest raccoon of each picture, in shares of its sides."""
    source = open_source(f"voc:{options.data.absolute()}", split)
    found = []
    for index in range(len(source)):
        example = read_example(source, index)
        height, width = example["image"].shape[:2]
        # The largest one in pixels is the largest one in shares.
        boxes = np.asarray(example["boxes"]) / np.array([width, height, width, height], np.float32)
        eligible = np.asarray(example["present"]) & ~np.asarray(example["difficult"])
        if eligible.any():
            found.append(boxes[np.where(eligible, area(jnp.asarray(boxes)), -1.0).argmax()])
    return np.array(found)


def median_box(options: Options) -> dict[str, float]:
    """The numbers of the training set's median box, drawn on every tested picture."""
    train, test = (largest_boxes(options, split) for split in options.splits)
    median = np.tile(np.median(train, axis=0), (len(test), 1))
    overlaps = np.asarray(iou(jnp.asarray(median), jnp.asarray(test)))
    return {"mean_iou": float(overlaps.mean()), "iou50": float((overlaps > 0.5).mean())}


def train_and_test(options: Options, seed: int, folder: Path) -> dict[str, float]:
    """The numbers of the last epoch, and the seconds of the training."""
    experiment = settings(options, seed, folder)
    outcome = run(experiment, console=Console())
    trained = load_run(outcome.training.run_dir)
    source = open_source(experiment.pictures.data, experiment.pictures.test_split)
    return {**evaluate(trained, source).summary, "seconds": outcome.training.seconds}


def main(options: Options) -> None:
    """Trains, prints, and writes the results where there are three seeds."""
    if options.seeds < 1:
        raise ValueError(f"seeds={options.seeds}; expected a number above 0")
    baseline = median_box(options)
    print(f"median box: {told(baseline)}", flush=True)
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as thrown_away:
        work = options.work or Path(thrown_away)
        work.mkdir(parents=True, exist_ok=True)
        for seed in range(options.seeds):
            found.append(train_and_test(options, seed, work / f"localization_{seed}"))
            print(f"seed {seed}: {told(found[-1])}, {found[-1]['seconds']:.0f} s", flush=True)
    summary = {name: mean_and_deviation([one[name] for one in found]) for name in TOLD}
    for name, one in summary.items():
        print(f"{name} {one['mean']:.4f} +- {one['deviation']:.4f}")
    if options.seeds >= Options.seeds and not options.choose:
        fixed = {"net": NET.name, "options": NET.options, "batch": BATCH, "learning_rate": RATE, "side": SIDE}
        fixed |= {"epochs": options.epochs, "box_loss": TASK.box_loss, "box_weight": TASK.box_weight}
        write_results(RESULTS, {"settings": fixed, "median_box": baseline, "summary": summary, "runs": found})


def told(numbers: dict[str, float]) -> str:
    """Numbers in a line."""
    return ", ".join(f"{name} {numbers[name]:.4f}" for name in TOLD)


if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=(__doc__ or "").split("\n\n")[0]))
