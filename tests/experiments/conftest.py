"""One run of two steps, which the tests of experiments look into."""

import pytest
from rich.console import Console

from cnnjax import Devices, Experiment, Folder, Net, PictureData, Training, run


@pytest.fixture(scope="session")
def barely_trained(tmp_path_factory):
    """The folder of the run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    training = Training(steps=2, batch_size=16, devices=Devices(count=1), folder=Folder(folder))
    experiment = Experiment(Net("convnet"), PictureData("digits", image_size=12), training=training)
    return run(experiment, console=Console(quiet=True)).training.run_dir
