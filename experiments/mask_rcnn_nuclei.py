"""A small Mask R-CNN finds nuclei one by one, with their outlines, where there are up to a hundred in a picture.

Claim: Mask R-CNN with a small trunk and a pyramid that begins at stride 2, trained from scratch for eight minutes on
200 microscope pictures of 256x256, has an average precision of masks at 0.5 (AP50) on 50 others that is told beside
that of its boxes; U-Net's on the same pictures, which parts nuclei by connected pixels, is in `unet_nuclei.py`.

    python experiments/mask_rcnn_nuclei.py --data PATH             # writes results
    python experiments/mask_rcnn_nuclei.py --data PATH --choose    # trains on 160 and tests on 40 of the 200

PATH holds `train` and `test`, each with `images` and `instances` (16-bit label maps), as `masks:PATH` reads them. The
run is kept in --work, and an interrupted one is resumed there. The epoch is the last, and settings were chosen with
--choose, so not on the 50 test pictures.

Expected: not measured yet. Twelve epochs are 600 steps; their program took 168 s to compile on two busy cores.

Reference: He et al. (2017), "Mask R-CNN". On the fluorescence pictures of the Data Science Bowl 2018, from which these
come, Schmidt et al. (2018), "Cell Detection with Star-Convex Polygons", table 1, report an AP50 of 0.832 for a Mask
R-CNN with ResNet-101 that was trained on COCO first.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from cnnjax import Experiment, Folder, Net, Optimizer, PictureData, evaluate, load_run, run
from cnnjax.cli import one_line_errors
from cnnjax.data import open_source
from cnnjax.experiment.settings import Augmentation
from cnnjax.report.results import write_results
from cnnjax.tasks import InstanceSettings

RESULTS = Path(__file__).parent / "results" / "mask_rcnn_nuclei.json"

EPOCHS, BATCH, RATE = 12.0, 4, 1e-3

# Half of the nuclei are smaller than 12 pixels, and a picture has up to 101.
NET = {
    "strides": (2, 4, 8),
    "anchor_sizes": (8, 16, 24, 40),
    "train_after": 300,
    "test_after": 300,
    "most_detections": 150,
    "drawn_anchors": 128,
}


@dataclass(frozen=True)
class Options:
    """Where the pictures are.

    Attributes:
        data: the folder of nuclei.
        choose: tests on a part of the training pictures.
        epochs: of the training.
        seed: of the training.
        work: where the run is kept; a folder that is thrown away where left out.
    """

    data: Path
    choose: bool = False
    epochs: float = EPOCHS
    seed: int = 0
    work: Path | None = None


def experiment_of(options: Options, folder: Path) -> Experiment:
    """The training."""
    train, test = ("train[:160]", "train[160:]") if options.choose else ("train", "test")
    return Experiment(
        net=Net("mask_rcnn_small", options=NET),
        pictures=PictureData(
            data=f"masks:{options.data.absolute()}",
            train_split=train,
            validation_split=test,
            test_split=test,
            augmentation=Augmentation(flip=True),
        ),
        task=InstanceSettings(),
    ).with_training(
        folder=Folder(folder, restartable=True),
        seed=options.seed,
        epochs=options.epochs,
        batch_size=BATCH,
        optimizer=Optimizer(learning_rate=RATE),
    )


def main(options: Options) -> None:
    """Trains, prints, and writes the results of the whole training."""
    with tempfile.TemporaryDirectory() as thrown_away:
        work = options.work or Path(thrown_away)
        work.mkdir(parents=True, exist_ok=True)
        experiment = experiment_of(options, work / f"nuclei {'choose ' if options.choose else ''}{options.seed}")
        outcome = run(experiment, console=Console())
        source = open_source(experiment.pictures.data, experiment.pictures.test_split)
        numbers = evaluate(load_run(outcome.training.run_dir), source).summary
    print(", ".join(f"{name} {value:.4f}" for name, value in numbers.items()), flush=True)
    if not options.choose and (options.epochs, options.seed) == (EPOCHS, 0):
        settings = {"epochs": EPOCHS, "batch": BATCH, "learning_rate": RATE, "net": NET}
        write_results(RESULTS, {"settings": settings, "numbers": numbers, "seconds": outcome.training.seconds})


if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=(__doc__ or "").split("\n\n")[0]))
