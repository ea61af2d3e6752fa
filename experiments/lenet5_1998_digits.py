"""LeNet-5 as printed in 1998 reads scikit-learn's digits.

Claim: at least 98 % test accuracy with the paper's sparse connections, trainable sub-sampling, scaled tanh and
distances to drawings of the digits.

    python experiments/lenet5_1998_digits.py                # one run
    python experiments/lenet5_1998_digits.py --seeds 3      # writes results/lenet5_1998_digits.json
    python experiments/lenet5_1998_digits.py mnist --data idx:path/to/mnist --seeds 3    # MNIST's 10,000 test digits

Expected: 98.51 % +- 0.16 % on digits, 98.83 % +- 0.16 % on 2,000 MNIST digits after training on 8,000 (mean and
deviation of seeds 0 to 2); at most 61 s a run on two CPU cores, for MNIST 99 s.
"""

from dataclasses import replace
from pathlib import Path

from cnnjax import Augmentation, ClassificationSettings, Experiment, Net, Optimizer, PictureData, Schedule, Training
from cnnjax.cli import experiment_main

# Smoothed labels keep the distances small: without them the softmax of squared distances soon saturates.
DIGITS = Experiment(
    net=Net("lenet5_1998"),
    pictures=PictureData("digits", augmentation=Augmentation(shift=2)),
    task=ClassificationSettings(label_smoothing=0.1),
    training=Training(
        epochs=80,
        batch_size=64,
        optimizer=Optimizer(name="adamw", learning_rate=4e-3, weight_decay=1e-2),
        schedule=Schedule(name="one_cycle"),
    ),
)

# The first 8,000 to train, the last 2,000 to test.
MNIST = replace(
    DIGITS.with_training(epochs=30),
    pictures=PictureData(
        "idx:mnist",
        train_split="all[:8000]",
        test_split="all[8000:]",
        image_size=32,
        resize_by="pad",
        augmentation=Augmentation(shift=2),
    ),
)

if __name__ == "__main__":
    experiment_main(DIGITS, Path(__file__).parent / "results" / "lenet5_1998_digits.json", mnist=MNIST)
