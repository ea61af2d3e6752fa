"""The folder of a run: whose it is, and whether a run may write into it."""

import json
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cnnjax.train import config


def open_run_folder(experiment: config.Experiment, *, now: datetime | None = None) -> Path:
    """Creates the folder of a run with its `config.json`, or checks that a resumed run is the same one.

    Raises:
        FileExistsError: the folder holds something already and `resume` is not set.
        FileNotFoundError: `resume` is set and the folder holds no run.
        ValueError: the folder belongs to a run with other settings; they are listed.
    """
    folder = experiment.run_dir or _fresh_name(experiment, now or datetime.now())
    record = folder / "config.json"
    if experiment.resume:
        if not record.is_file():
            raise FileNotFoundError(
                f"{folder} holds no run to resume; pass the folder of one, or leave out --resume to start there"
            )
        saved = json.loads(record.read_text(encoding="utf-8"))["experiment"]
        if changed := config.differences(saved, config.to_json(experiment)):
            raise ValueError(
                f"{folder} belongs to another experiment ({'; '.join(changed)});"
                f" resume with its settings, or choose another --run-dir"
            )
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"{folder} is not empty; pass --resume to continue the run in it, or choose another --run-dir"
        )
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"experiment": config.to_json(experiment), "versions": _versions()}
    record.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return folder


def _fresh_name(experiment: config.Experiment, now: datetime) -> Path:
    data = "".join(letter if letter.isalnum() else "-" for letter in experiment.data.split("/")[-1]).strip("-")
    stem = f"{experiment.model}-{data}-{now:%Y%m%d-%H%M%S}"
    names = [Path("runs") / stem, *(Path("runs") / f"{stem}-{number}" for number in range(2, 100))]
    return next(name for name in names if not name.exists())


def _versions() -> dict[str, Any]:
    return {name: version(name) for name in ("cnnjax", "jax", "flax", "optax", "numpy")}
