"""The folder of a run: whose it is, and whether a run may write into it."""

import json
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cnnjax.train import config

RECORD = "config.json"


def open_run_folder(experiment: config.Experiment, identity: Mapping[str, Any], *, now: datetime | None = None) -> Path:
    """Creates the folder of a run with its `config.json`, or checks that a resumed run is the same one.

    `identity` is what makes the run what it is besides its settings (model, task, statistics of the data), as plain
    values: saved, and compared when it resumes.

    Raises:
        FileExistsError: the folder holds something already and `resume` is not set.
        FileNotFoundError: `resume` is set and the folder holds no run.
        ValueError: the folder belongs to another run (what differs is listed), or its record is damaged.
    """
    ours = {"experiment": config.to_json(experiment), **identity}
    if experiment.resume and experiment.run_dir is not None:
        folder = experiment.run_dir
        saved = _read(folder)
        changed = config.differences(saved.pop("experiment"), ours.pop("experiment"))
        changed += config.differences({name: saved.get(name) for name in ours}, ours)
        if changed:
            raise ValueError(
                f"{folder} belongs to another experiment ({'; '.join(changed)});"
                f" resume with its settings, or choose another --run-dir"
            )
        return folder
    now = now or datetime.now()
    folder = _create(experiment, now)
    record = ours | {"versions": versions(), "started": f"{now:%Y-%m-%d %H:%M:%S}"}
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return folder


def versions() -> dict[str, str]:
    """Versions of the packages that decide what a run computes."""
    return {name: version(name) for name in ("cnnjax", "jax", "flax", "optax", "numpy")}


def _read(folder: Path) -> dict[str, Any]:
    record = folder / RECORD
    if not record.is_file():
        raise FileNotFoundError(
            f"{folder} holds no run to resume; pass the folder of one, or leave out --resume to start there"
        )
    try:
        saved = json.loads(record.read_text(encoding="utf-8"))
        return {"experiment": {}, **saved}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{record} is damaged ({error}); the run cannot be resumed, start another") from None


def _create(experiment: config.Experiment, now: datetime) -> Path:
    if experiment.run_dir is not None:
        folder = experiment.run_dir
        if folder.exists() and not folder.is_dir():
            raise FileExistsError(f"{folder} is a file; choose another --run-dir")
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(
                f"{folder} is not empty; pass --resume to continue the run in it, or choose another --run-dir"
            )
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    data = "".join(letter if letter.isalnum() else "-" for letter in experiment.data.split("/")[-1]).strip("-")
    stem = f"{experiment.model}-{data}-{now:%Y%m%d-%H%M%S}"
    folder, number = Path("runs") / stem, 1
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:  # a run of the same second
            number += 1
            folder = Path("runs") / f"{stem}-{number}"
