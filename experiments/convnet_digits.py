"""The lecture's ConvNet (32 and 64 maps, 3,136 values flattened, 128 hidden units) reads scikit-learn's digits.

Claim: at least 98.0 % test accuracy, on digits brought to 28x28 and on MNIST's.

    python experiments/convnet_digits.py                # one run
    python experiments/convnet_digits.py --seeds 3      # writes results/convnet_digits.json
    python experiments/convnet_digits.py mnist --data idx:path/to/mnist --seeds 3        # MNIST's 10,000 test digits

Expected: 99.35 % +- 0.16 % on digits, 98.82 % +- 0.06 % on 2,000 MNIST digits after training on 8,000 (mean and
deviation of seeds 0 to 2); at most 29 s a run on two CPU cores.
"""

from dataclasses import replace
from pathlib import Path

from cnnjax import Augmentation, PictureData
from cnnjax.cli import experiment_main
from cnnjax.experiment import QUICK

DIGITS = QUICK["convnet"]

# The first 8,000 to train, the last 2,000 to test.
MNIST = replace(
    DIGITS.with_training(epochs=6),
    pictures=PictureData(
        "idx:mnist", train_split="all[:8000]", test_split="all[8000:]", augmentation=Augmentation(shift=2)
    ),
)

if __name__ == "__main__":
    experiment_main(DIGITS, Path(__file__).parent / "results" / "convnet_digits.json", mnist=MNIST)
