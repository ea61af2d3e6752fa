"""The metrics of a run on disk, and in words."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from cnnjax.data.batches.loader import Fault

METRICS = "metrics.jsonl"
# The parts of a row that hold metrics: of training, and of the split that is tested while the run goes on.
SPLITS = ("train", "validation", "test")
FAULTS = "unreadable.jsonl"


class MetricsLog:
    """`metrics.jsonl` and TensorBoard event files of a run, one row per logged step.

    A row is `{"step", "epoch", "train": {...}, "validation" or "test": {...}, ...}`. Opened for a run that
    resumes at `step`, the log forgets what came later, so no step is ever there twice; so does that of unreadable
    examples.
    """

    def __init__(self, folder: Path, *, step: int = 0):
        """Opens the log of a run that goes on after `step`."""
        self._path = folder / METRICS
        resumes = self._path.exists()
        for path, is_sound in ((self._path, _is_row), (folder / FAULTS, _has_step)):
            if path.exists():
                kept = [row for row in _read(path, is_sound) if row["step"] <= step]
                rewritten = path.with_suffix(".tmp")
                rewritten.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
                rewritten.replace(path)
        self._path.touch()
        # TensorBoard drops what came after the step; the suffix keeps two logs of one second apart.
        self._events = SummaryWriter(
            str(folder), purge_step=step + 1 if resumes else None, filename_suffix=f".{time.monotonic_ns()}"
        )

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *error: object) -> None:
        self._events.close()

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends a row; its numbers become scalars "train/loss", "learning_rate", ... A NaN is written as null."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(row), allow_nan=False) + "\n")
        for name, value in _scalars(row):
            self._events.add_scalar(name, value, row["step"])

    def faults(self, step: int, faults: Sequence[Fault]) -> int:
        """Appends what could not be read up to a step to `unreadable.jsonl`, a line each; returns how many."""
        with (self._path.parent / FAULTS).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"step": step, **fault._asdict()}) + "\n" for fault in faults)
        return len(faults)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's `metrics.jsonl`; a last line that was cut off in the writing is left out.

    Raises:
        ValueError: another line is damaged, or is no row.
    """
    return _read(folder / METRICS, _is_row)


def _read(path: Path, is_sound: Callable[[Any], bool]) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if line.endswith(b"\n"):
            try:
                row = json.loads(line)
                if not is_sound(row):
                    raise ValueError("it is no row of such a log")
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}, is damaged ({error}); mend or remove the line") from None
            rows.append(row)
    return rows


def _has_step(row: Any) -> bool:
    return isinstance(row, dict) and type(row.get("step")) is int


def _is_row(row: Any) -> bool:
    """Whether a value is what `MetricsLog` writes as a row, as far as resumed runs and pages read it."""
    if not _has_step(row) or not _is_number(row.get("epoch")):
        return False
    metrics = [row[split] for split in SPLITS if split in row]
    return bool(metrics) and all(isinstance(one, dict) and all(map(_is_number, one.values())) for one in metrics)


def _is_number(value: Any) -> bool:
    """Whether a value is a number, or null, as one that is not finite is written."""
    return value is None or type(value) in (int, float)


def describe(row: Mapping[str, Any]) -> str:
    """The metrics of a row in one line.

    >>> describe({"step": 9, "train": {"loss": 0.25}, "test": {"accuracy": 0.985}})
    'train loss 0.25  test accuracy 98.50%'
    """
    told = [
        f"{split} {name} {format_metric(name, value)}" for split in SPLITS for name, value in row.get(split, {}).items()
    ]
    return "  ".join([*told, *([f"{unread} unreadable"] if (unread := row.get("unreadable")) else [])])


def format_metric(name: str, value: float) -> str:
    """A metric for people: shares called "accuracy" as percent, all else with four digits.

    >>> format_metric("top5_accuracy", 0.925), format_metric("loss", 0.0123456)
    ('92.50%', '0.01235')
    """
    return f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4g}"


def _scalars(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{name}/")
        elif name != "step" and math.isfinite(value):
            yield f"{prefix}{name}", float(value)


def _finite(value: Any) -> Any:
    """The same record with None for numbers that JSON does not know."""
    if isinstance(value, Mapping):
        return {name: _finite(entry) for name, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
