"""What a run says of its data, refuses of it, and how it bears pictures that cannot be read."""

import io

import numpy as np
import pytest
from rich.console import Console

from cnnjax.data import ArraySource, Info
from cnnjax.settings import Loading
from tests.train.toy_run import TEST, TRAIN, run, settings

ONE_STEP = {"steps": 1, "epochs": 1.0}


def told(source, **changes):
    return ArraySource(source.arrays, Info("stripes", **({"split": "train", "shapes": {}} | changes)))


def test_remarks_are_said_once(tmp_path):
    screen = io.StringIO()
    remarks = {"classes": ("across", "down"), "remarks": ("passed over: 2 .txt",)}
    train, test = told(TRAIN, **remarks), told(TEST, split="test", **remarks)
    run(settings(tmp_path / "run", **ONE_STEP), train_source=train, test_source=test, console=Console(file=screen))
    assert screen.getvalue().count("note: ") == 1
    assert screen.getvalue().startswith("note: stripes: passed over: 2 .txt\n")


def test_other_classes_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="the same classes in another order, down, across, than the training data"):
        run(settings(tmp_path / "run"), test_source=told(TEST, split="test", classes=("down", "across")))
    assert not (tmp_path / "run").exists()


def test_a_batch_that_no_memory_holds_is_refused_before_it_is_gathered(tmp_path):
    experiment = settings(tmp_path / "run", batch_size=2 * 10**9, steps=1)
    with pytest.raises(MemoryError, match=r"batch_size=2000000000 needs .*; a batch size of \d+ should fit"):
        run(experiment)
    assert not (tmp_path / "run").exists()


class Torn(ArraySource):
    """No example of the first batch can be read, in the order of the source."""

    def __getitem__(self, index):
        if index < 20:
            raise OSError(f"{object()!r} ends early")
        return super().__getitem__(index)


def test_the_first_readable_example_is_the_model_of_all_and_two_runs_tell_the_same(tmp_path):
    torn = [Torn(source.arrays, source.info) for source in (TRAIN, TEST)]
    loading = Loading(unreadable="skip", resident_mib=0, threads=1)
    for name in ("one", "two"):
        result = run(settings(tmp_path / name, epochs=1.0, loading=loading), train_source=torn[0], test_source=torn[1])
        assert np.isfinite(result.evaluation.summary["loss"])
        assert result.evaluation.examples["id"].tolist() == list(range(20, 30))
    first, second = ((tmp_path / name / "unreadable.jsonl").read_text() for name in ("one", "two"))
    assert first == second
    assert "example 0 of stripes (train) cannot be read: <object object> ends early" in first
