"""A run folder belongs to one run."""

import json
from datetime import datetime

import pytest

from cnnjax.train import Experiment
from cnnjax.train.run_folder import open_run_folder

MODEL = {"model": "LeNet5()"}


def test_a_fresh_folder_holds_the_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = open_run_folder(Experiment(data="idx:some/where"), MODEL, now=datetime(2026, 1, 2, 3, 4, 5))
    assert folder.as_posix() == "runs/lenet5-where-20260102-030405"
    saved = json.loads((folder / "config.json").read_text())
    assert saved["experiment"]["data"] == "idx:some/where"
    assert "jax" in saved["versions"]
    again = open_run_folder(Experiment(data="idx:some/where"), MODEL, now=datetime(2026, 1, 2, 3, 4, 5))
    assert again.name == "lenet5-where-20260102-030405-2"


def test_nothing_is_overwritten(tmp_path):
    experiment = Experiment(run_dir=tmp_path / "run")
    open_run_folder(experiment, MODEL)
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(FileExistsError, match="is not empty; pass --resume"):
        open_run_folder(experiment, MODEL)
    with pytest.raises(ValueError, match=r"belongs to another experiment .*seed: 0 there, 1 here"):
        open_run_folder(Experiment(run_dir=tmp_path / "run", resume=True, seed=1), MODEL)
    with pytest.raises(FileNotFoundError, match="holds no run to resume"):
        open_run_folder(Experiment(run_dir=tmp_path / "other", resume=True), MODEL)
    assert not (tmp_path / "other").exists()
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    resumed = Experiment(run_dir=tmp_path / "run", resume=True)
    assert open_run_folder(resumed, MODEL) == tmp_path / "run"
    with pytest.raises(ValueError, match=r"model: LeNet5\(\) there, AlexNet\(\) here"):
        open_run_folder(resumed, {"model": "AlexNet()"})
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is damaged .* start another"):
        open_run_folder(resumed, MODEL)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="file is a file"):
        open_run_folder(Experiment(run_dir=tmp_path / "file"), MODEL)
