"""Small experiments on the digits, which need no download: seconds to a minute on two CPU cores."""

from cnnjax.experiment.settings import Augmentation, Experiment, Net, PictureData
from cnnjax.settings import Optimizer, Schedule, Training

# By the name of the model. What experiments train where they are given no run.
QUICK = {
    "lenet5": Experiment(
        net=Net("lenet5"),
        pictures=PictureData("digits", augmentation=Augmentation(shift=2)),
        training=Training(
            epochs=25,
            batch_size=64,
            optimizer=Optimizer(name="adamw", learning_rate=2e-3, weight_decay=1e-2),
            schedule=Schedule(name="one_cycle"),
        ),
    ),
    "convnet": Experiment(
        net=Net("convnet"),
        pictures=PictureData("digits", image_size=28, augmentation=Augmentation(shift=2)),
        training=Training(
            epochs=15,
            batch_size=64,
            optimizer=Optimizer(name="adamw", learning_rate=1e-3, weight_decay=1e-2),
            schedule=Schedule(name="one_cycle"),
        ),
    ),
    "resnet20": Experiment(
        net=Net("resnet20"),
        pictures=PictureData("digits", augmentation=Augmentation(shift=2)),
        training=Training(
            epochs=15,
            batch_size=128,
            optimizer=Optimizer(name="nesterov", learning_rate=0.1, weight_decay=5e-4),
            schedule=Schedule(name="linear", warmup=0.2),
        ),
    ),
}
