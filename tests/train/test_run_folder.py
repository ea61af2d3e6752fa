"""A run folder belongs to one run."""

import json
from datetime import datetime

import pytest

from cnnjax.train import Experiment, Optimizer
from cnnjax.train.run_folder import check_run_folder, open_run_folder

MODEL = {"model": "LeNet5()"}


def test_a_fresh_folder_holds_the_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = open_run_folder(Experiment(data="idx:some/where"), MODEL, now=datetime(2026, 1, 2, 3, 4, 5))
    assert folder.as_posix() == "runs/lenet5-where-20260102-030405"
    saved = json.loads((folder / "config.json").read_text())
    assert saved["experiment"]["data"] == "idx:some/where"
    assert "jax" in saved["versions"]
    given = open_run_folder(Experiment(model="Net", data="my pictures"), MODEL, now=datetime(2026, 1, 2, 3, 4, 5))
    assert given.as_posix() == "runs/Net-my-pictures-20260102-030405"
    again = open_run_folder(Experiment(data="idx:some/where"), MODEL, now=datetime(2026, 1, 2, 3, 4, 5))
    assert again.name == "lenet5-where-20260102-030405-2"


def test_nothing_is_overwritten(tmp_path):
    experiment = Experiment(run_dir=tmp_path / "run")
    check_run_folder(experiment, MODEL)
    open_run_folder(experiment, MODEL)
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(FileExistsError, match="is not empty; pass --resume"):
        check_run_folder(experiment, MODEL)
    with pytest.raises(
        ValueError, match=r"belongs to another experiment .*seed: 0 there, 1 here.*--allow-drift 'seed'"
    ):
        check_run_folder(Experiment(run_dir=tmp_path / "run", resume=True, seed=1), MODEL)
    with pytest.raises(FileNotFoundError, match="holds no run to resume"):
        check_run_folder(Experiment(run_dir=tmp_path / "other", resume=True), MODEL)
    assert not (tmp_path / "other").exists()
    resumed = Experiment(run_dir=tmp_path / "run", resume=True)
    check_run_folder(resumed, MODEL)
    assert open_run_folder(resumed, MODEL) == tmp_path / "run"
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    with pytest.raises(ValueError, match=r"model: LeNet5\(\) there, AlexNet\(\) here"):
        check_run_folder(resumed, {"model": "AlexNet()"})
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is damaged .* start another"):
        check_run_folder(resumed, MODEL)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"the run folder .*below cannot be written .*; choose another --run-dir"):
        open_run_folder(Experiment(run_dir=tmp_path / "file" / "below"), MODEL)
    with pytest.raises(FileExistsError, match="file is a file"):
        check_run_folder(Experiment(run_dir=tmp_path / "file"), MODEL)


def test_what_may_drift_is_allowed_by_name(tmp_path):
    folder = tmp_path / "run"
    open_run_folder(Experiment(run_dir=folder), MODEL)
    changed = {"run_dir": folder, "resume": True, "batch_size": 32, "optimizer": Optimizer(learning_rate=1.0)}
    with pytest.raises(
        ValueError, match=r"\(batch_size: 64 there, 32 here; optimizer.learning_rate: 0.001 there, 1.0 here\)"
    ):
        check_run_folder(Experiment(**changed), MODEL)
    with pytest.raises(ValueError, match=r"\(optimizer.learning_rate: 0.001 there, 1.0 here\)"):
        check_run_folder(Experiment(**changed, allow_drift=("batch_size", "optim")), MODEL)
    check_run_folder(Experiment(**changed, allow_drift=("batch_size", "optimizer")), MODEL)
    check_run_folder(Experiment(run_dir=folder, resume=True, allow_drift=("model",)), {"model": "AlexNet()"})
