"""One run of two steps on the digits, which the tests of trained networks share."""

from pathlib import Path

import pytest
from rich.console import Console

from cnnjax.experiment import Experiment, Net, Outcome, PictureData, run
from cnnjax.settings import Devices, Folder, Training


@pytest.fixture(scope="session")
def outcome(tmp_path_factory) -> Outcome:
    folder = tmp_path_factory.mktemp("trained") / "run"
    training = Training(steps=2, batch_size=16, devices=Devices(count=1), folder=Folder(folder))
    experiment = Experiment(
        Net("convnet"), PictureData("digits", image_size=(16, 24), resize_by="letterbox"), training=training
    )
    return run(experiment, console=Console(quiet=True))


@pytest.fixture(scope="session")
def run_dir(outcome) -> Path:
    """Its folder."""
    return outcome.training.run_dir
