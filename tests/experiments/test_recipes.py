"""The recipes of large runs train on a stand-in."""

import numpy as np
import pytest
from PIL import Image

from cnnjax.cli import experiment_main
from cnnjax.train import read_rows
from experiments import cifar10_fast, fashion_mnist, resnet50_imagenet

RECIPES = {
    "imagenet": resnet50_imagenet.BASELINE,
    "imagenet, modern": resnet50_imagenet.MODERN,
    "cifar10": cifar10_fast.ACCELERATOR,
    "cifar10, cpu": cifar10_fast.CPU,
    "fashion": fashion_mnist.EXPERIMENT,
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", RECIPES)
def test_recipes_train_on_a_stand_in(name, tmp_path, monkeypatch, capsys):
    """Two steps on a folder in ImageNet's layout, of a small net, with all else as the recipe has it."""
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / ".cache"))
    # Pages are tested elsewhere.
    monkeypatch.setattr("cnnjax.experiment.running.write_run", lambda *_, **__: None)
    random = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 3)):
        for kind in ("ant", "bee"):
            (tmp_path / "set" / split / kind).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (40 + number, 44, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / split / kind / f"{number}.jpg")
    small = ["convnet", "--image-size", "16", "--batch-size", "4", "--steps", "2", "--devices.count", "1"]
    where = ["--data", f"folder:{tmp_path / 'set'}", "--run-dir", str(tmp_path / "run")]
    experiment_main(RECIPES[name], tmp_path / "results.json", [*small, *where])
    assert "test accuracy" in capsys.readouterr().out
    (row,) = (row for row in read_rows(tmp_path / "run") if "test" in row and row["step"] == 2)
    assert np.isfinite(row["train"]["loss"])
