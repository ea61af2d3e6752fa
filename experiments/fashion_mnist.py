"""A small convolutional net sorts Fashion-MNIST: 70,000 pictures of clothes in MNIST's files.

Claim: two convolutions and a hidden layer pass 91.6 %. The table of the data set's repository lists from 87.6 % to
93.2 % for nets of two convolutions with pooling, as their authors sent them in, untested by the data set's; the row of
91.6 % took over 300 epochs. The four files are downloaded once from there into a folder, compressed or not.

    python experiments/fashion_mnist.py --data idx:path/to/fashion                  # one run with its page
    python experiments/fashion_mnist.py --data idx:path/to/fashion --seeds 3        # writes results/fashion_mnist.json

Expected: published, 91.6 %; not measured here, where the data is not at hand. The same net reads MNIST's digits with
98.8 % (convnet_digits.py).

Reference: Xiao, Rasul and Vollgraf (2017), "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms".
"""

from pathlib import Path

from cnnjax import Augmentation, ClassificationSettings, Experiment, Net, Optimizer, PictureData, Schedule, Training
from cnnjax.cli import experiment_main

EXPERIMENT = Experiment(
    net=Net("convnet"),
    pictures=PictureData("idx:fashion-mnist", augmentation=Augmentation(shift=2, flip=True)),
    task=ClassificationSettings(label_smoothing=0.1),
    training=Training(
        epochs=15,
        batch_size=128,
        optimizer=Optimizer(name="adamw", learning_rate=2e-3, weight_decay=1e-2),
        schedule=Schedule(name="one_cycle"),
    ),
)

if __name__ == "__main__":
    experiment_main(EXPERIMENT, Path(__file__).parent / "results" / "fashion_mnist.json")
