"""LeNet-5 reads MNIST's test digits: the first 8,000 to train, the last 2,000 to test.

Claim: at least 98.5 % test accuracy in under three minutes on two CPU cores, from 8,000 pictures. The folder holds
MNIST's own files, `t10k-images-idx3-ubyte.gz` and `t10k-labels-idx1-ubyte.gz`.

    python experiments/lenet5_mnist.py --data idx:mnist
    python experiments/lenet5_mnist.py --data idx:mnist --seeds 3      # writes results/lenet5_mnist.json

Expected: 99.08 % +- 0.10 % (mean and deviation of seeds 0 to 2), 44 to 53 s a run.
"""

from pathlib import Path

from cnnjax import Augmentation, Experiment, Net, Optimizer, PictureData, Schedule, Training
from cnnjax.cli import experiment_main

EXPERIMENT = Experiment(
    net=Net("lenet5"),
    pictures=PictureData(
        "idx:mnist",
        train_split="all[:8000]",
        test_split="all[8000:]",
        image_size=32,
        resize_by="pad",
        augmentation=Augmentation(shift=2),
    ),
    training=Training(
        epochs=15,
        batch_size=64,
        optimizer=Optimizer(name="adamw", learning_rate=2e-3, weight_decay=1e-2),
        schedule=Schedule(name="one_cycle"),
    ),
)

if __name__ == "__main__":
    experiment_main(EXPERIMENT, Path(__file__).parent / "results" / "lenet5_mnist.json")
