"""ResNet-20 learns CIFAR-10: by the paper's recipe, or by a one-cycle of ten epochs that a CPU can do.

Claim: at least 80 % test accuracy after ten epochs of the one-cycle recipe, for each of three seeds. The data is
prepared as ArrayRecord (the README says how), for instance under `path/to/tfds/cifar10/3.0.2`.

    python experiments/resnet20_cifar10.py --data-dir path/to/tfds             # ten epochs, one cycle
    python experiments/resnet20_cifar10.py --data-dir path/to/tfds --seeds 3   # writes results/resnet20_cifar10.json
    python experiments/resnet20_cifar10.py --data-dir path/to/tfds --seeds 3 --run-dir runs/cifar --resume   # goes on
    python experiments/resnet20_cifar10.py paper --data-dir path/to/tfds       # 64,000 steps, for an accelerator

Expected: 83.85 % +- 0.17 % (83.65, 83.96 and 83.93 with seeds 0 to 2), at 0.6 to 0.75 s a step on two CPU cores where
nothing else runs, which is about 45 minutes a seed. The first two seeds were interrupted and resumed.
"""

from pathlib import Path

from cnnjax import Augmentation, Experiment, Net, Optimizer, PictureData, Schedule, Training
from cnnjax.cli import experiment_main

ONE_CYCLE = Experiment(
    net=Net("resnet20"),
    pictures=PictureData("tfds:cifar10", augmentation=Augmentation(shift=4, flip=True)),
    training=Training(
        epochs=10,
        batch_size=128,
        optimizer=Optimizer(name="nesterov", learning_rate=0.2, weight_decay=5e-4),
        schedule=Schedule(name="one_cycle"),
    ),
)

# He et al. (2016), section 4.2: batches of 128, 64,000 steps, a tenth of the rate at one half and at three quarters.
PAPER = Experiment(
    net=Net("resnet20"),
    pictures=PictureData("tfds:cifar10", augmentation=Augmentation(shift=4, flip=True)),
    training=Training(
        steps=64_000,
        batch_size=128,
        optimizer=Optimizer(name="momentum", learning_rate=0.1, weight_decay=1e-4),
        schedule=Schedule(name="step"),
    ),
)

if __name__ == "__main__":
    experiment_main(ONE_CYCLE, Path(__file__).parent / "results" / "resnet20_cifar10.json", paper=PAPER)
