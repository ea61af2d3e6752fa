"""LeNet-5 reads real handwritten digits, and shows what it sees.

Claim: the 61,706-parameter LeNet-5 reaches at least 98.5 % test accuracy (mean of five seeds) on the 1,797 digits that
scikit-learn embeds (80 % to train, 20 % to test), in under a minute a run on two CPU cores.

    python experiments/lenet5_digits.py                        # one run with its page; no download
    python experiments/lenet5_digits.py --seed 1 --optimizer.learning-rate 3e-3
    python experiments/lenet5_digits.py --seeds 5              # writes results/lenet5_digits.json

Expected: 99.05 % +- 0.32 % (mean and deviation of seeds 0 to 4), 13 to 20 s a run; about 10 s more to start and draw.
"""

from pathlib import Path

from cnnjax.cli import experiment_main
from cnnjax.experiment import QUICK

EXPERIMENT = QUICK["lenet5"]

if __name__ == "__main__":
    experiment_main(EXPERIMENT, Path(__file__).parent / "results" / "lenet5_digits.json")
