"""A run folder belongs to one run."""

import json
import os
from datetime import datetime
from pathlib import Path

import pytest

from cnnjax.settings import Folder, Optimizer, Training
from cnnjax.train.manifest import write_manifest
from cnnjax.train.run_folder import check_run_folder, goes_on, make_record, open_run_folder

IDENTITY = {"name": "lenet5", "model": "LeNet5()"}


def record(identity=IDENTITY, **settings):
    """What a run is, by some settings of training."""
    return make_record(Training(**settings), identity)


def opened(folder, ours=None, *, name="lenet5-digits", **options):
    """The folder, opened and closed again."""
    with open_run_folder(folder, ours or record(), name=name, **options) as (path, check):
        check()
    return path


def test_a_fresh_folder_holds_the_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    now = datetime(2026, 1, 2, 3, 4, 5)
    folder = opened(Folder(), record(batch_size=5), now=now)
    assert folder.as_posix() == "runs/lenet5-digits-20260102-030405"
    saved = json.loads((folder / "config.json").read_text())
    assert (saved["name"], saved["training"]["batch_size"]) == ("lenet5", 5)
    assert saved["started"] == "2026-01-02 03:04:05"
    assert "jax" in saved["versions"]
    assert opened(Folder(), now=now).name == "lenet5-digits-20260102-030405-2"
    assert opened(Folder(), name="Net-my-pictures", now=now).as_posix() == "runs/Net-my-pictures-20260102-030405"


def test_nothing_is_overwritten(tmp_path):
    fresh, resumed = Folder(tmp_path / "run"), Folder(tmp_path / "run", resume=True)
    check_run_folder(fresh, record())
    opened(fresh)
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(FileExistsError, match="is not empty; pass --resume"):
        check_run_folder(fresh, record())
    with pytest.raises(
        ValueError, match=r"belongs to another experiment .*seed: 0 there, 1 here.*--allow-drift 'seed'"
    ):
        check_run_folder(resumed, record(seed=1))
    with pytest.raises(FileNotFoundError, match="holds no run to resume"):
        check_run_folder(Folder(tmp_path / "other", resume=True), record())
    assert not (tmp_path / "other").exists()
    check_run_folder(resumed, record())
    assert opened(resumed) == tmp_path / "run"
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    with pytest.raises(ValueError, match=r"model: LeNet5\(\) there, AlexNet\(\) here"):
        check_run_folder(resumed, record({"name": "lenet5", "model": "AlexNet()"}))
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is damaged .* start another"):
        check_run_folder(resumed, record())
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"the run folder .*below cannot be written .*; choose another --run-dir"):
        opened(Folder(tmp_path / "file" / "below"))
    with pytest.raises(FileExistsError, match="file is a file"):
        check_run_folder(Folder(tmp_path / "file"), record())


def test_what_may_drift_is_allowed_by_name(tmp_path):
    opened(Folder(tmp_path))
    changed = record(batch_size=32, optimizer=Optimizer(learning_rate=1.0))

    def resumed(*allowed):
        return Folder(tmp_path, resume=True, allow_drift=allowed)

    with pytest.raises(
        ValueError, match=r"\(batch_size: 64 there, 32 here; optimizer.learning_rate: 0.001 there, 1.0 here\)"
    ):
        check_run_folder(resumed(), changed)
    with pytest.raises(ValueError, match=r"\(optimizer.learning_rate: 0.001 there, 1.0 here\)"):
        check_run_folder(resumed("batch_size", "optim"), changed)
    check_run_folder(resumed("batch_size", "optimizer"), changed)
    check_run_folder(resumed("model"), record({"name": "lenet5", "model": "AlexNet()"}))


def test_one_run_at_a_time(tmp_path):
    first, second = (Folder(tmp_path / "run", resume=resume) for resume in (False, True))
    with open_run_folder(first, record(), name="lenet5") as (folder, _):
        with pytest.raises(BlockingIOError, match=rf"run is in use by process {os.getpid()} on .*; wait until it ends"):
            opened(second)
        assert {path.name for path in folder.iterdir()} == {"config.json", "lock"}
    assert opened(second) == folder
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_what_is_left_of_a_run_that_was_killed_as_it_began_is_no_run(tmp_path):
    for name in ("lock", "config.json.tmp"):
        (tmp_path / name).touch()
    folder = opened(Folder(tmp_path))
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_two_that_began_at_once_do_not_write_over_each_other(tmp_path):
    """The second one passed its check before the first one locked the folder, and comes to it when that has ended."""
    late = Folder(tmp_path / "run")
    check_run_folder(late, record())
    opened(Folder(tmp_path / "run"), record(seed=1))
    with pytest.raises(FileExistsError, match="is not empty"):
        opened(late)


DAMAGED = ["", "\0" * 300, "{", "[]", "3", "null", '{"training": 3}', "[" * 100_000]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_record_is_written_anew_from_the_newest_checkpoint(tmp_path, text):
    folder, said = Folder(tmp_path, resume=True), []
    (tmp_path / "config.json").write_text(text)
    if not text.strip("\0"):
        # Nothing was saved yet.
        assert opened(folder, report=said.append) == tmp_path
        assert json.loads((tmp_path / "config.json").read_text())["model"] == "LeNet5()"
        assert said == [f"{tmp_path}/config.json is damaged, and is written anew"]
        (tmp_path / "config.json").write_text(text)
    else:
        with pytest.raises(ValueError, match=r"config.json is damaged.*; the run cannot be resumed, start another"):
            opened(folder)
    for step, seed in ((5, 2), (10, 0), (20, 1)):
        (tmp_path / "checkpoints" / f"{step}").mkdir(parents=True)
        write_manifest(tmp_path / "checkpoints" / f"{step}", arrays={}, score=None, record=record(seed=seed))
    (tmp_path / "checkpoints" / "20" / "manifest.json").write_text("damaged too")
    opened(folder, report=said.append)
    assert json.loads((tmp_path / "config.json").read_text()) == record(seed=0)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"belongs to another experiment .*seed: 0 there, 3 here"):
        opened(folder, record(seed=3))


def test_the_record_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("No space left on device")))
    with pytest.raises(OSError, match=r"run cannot be written \(No space left on device\); choose another --run-dir"):
        opened(Folder(tmp_path / "run"))
    assert not (tmp_path / "run" / "config.json").exists()
    monkeypatch.undo()
    opened(Folder(tmp_path / "run"))


def test_a_folder_whose_path_is_not_utf8_is_refused_at_the_start(tmp_path, monkeypatch):
    strange = tmp_path / os.fsdecode(b"run\xff")
    with pytest.raises(ValueError, match=r"run\\xff'; expected a path in UTF-8 from the root on; choose another"):
        check_run_folder(Folder(strange), record())
    strange.mkdir()
    monkeypatch.chdir(strange)
    for folder in (None, Path("run")):
        with pytest.raises(ValueError, match="expected a path in UTF-8"):
            check_run_folder(Folder(folder), record())


def test_another_programs_record_is_not_written_over(tmp_path):
    (tmp_path / "config.json").write_text('{"mine": 1}')
    with pytest.raises(ValueError, match="belongs to another experiment"):
        opened(Folder(tmp_path, resume=True))
    assert (tmp_path / "config.json").read_text() == '{"mine": 1}'


def test_a_run_goes_on_where_it_may_and_a_checkpoint_is_complete(tmp_path):
    kinds = [Folder(tmp_path), Folder(tmp_path, resume=True), Folder(tmp_path, restartable=True), Folder()]
    assert [goes_on(folder) for folder in kinds] == [False] * 4
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    assert not goes_on(kinds[1])  # it was interrupted before the first one was complete
    write_manifest(tmp_path / "checkpoints" / "5", arrays={}, score=None, record={})
    assert [goes_on(folder) for folder in kinds] == [False, True, True, False]
