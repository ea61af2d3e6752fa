"""The folder of a run: whose it is, and whether a run may write into it."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cnnjax.train import config

RECORD = "config.json"


def check_run_folder(experiment: config.Experiment, identity: Mapping[str, Any]) -> None:
    """Does nothing if a run may begin, or go on, in the folder that its settings name.

    `identity` is what makes the run what it is besides its settings (model, task, statistics of the data), as plain
    values: saved, and compared when it resumes.

    Raises:
        FileExistsError: the folder holds something already and `resume` is not set.
        FileNotFoundError: `resume` is set and the folder holds no run.
        ValueError: the folder belongs to another run (what differs is listed), or its record is damaged.
    """
    folder = experiment.run_dir
    if folder is None:
        return
    if experiment.resume:
        refuse_drift(_read(folder), make_record(experiment, identity), str(folder), allowed=experiment.allow_drift)
    elif folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; choose another --run-dir")
    elif folder.exists() and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} is not empty; pass --resume to continue the run in it, or choose another --run-dir"
        )


def open_run_folder(experiment: config.Experiment, identity: Mapping[str, Any], *, now: datetime | None = None) -> Path:
    """Creates the folder of a run with its `config.json`; that of a resumed run is taken as it is.

    Raises:
        OSError: the folder cannot be written.
    """
    if experiment.resume and experiment.run_dir is not None:
        return experiment.run_dir
    now = now or datetime.now()
    record = make_record(experiment, identity) | {"started": f"{now:%Y-%m-%d %H:%M:%S}"}
    try:
        folder = _create(experiment, now)
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        where = experiment.run_dir or "runs"
        raise OSError(f"the run folder {where} cannot be written ({error}); choose another --run-dir") from error
    return folder


def make_record(experiment: config.Experiment, identity: Mapping[str, Any]) -> dict[str, Any]:
    """What a run is, as plain values: settings, identity, versions."""
    return {"experiment": config.to_json(experiment), **identity, "versions": versions()}


def refuse_drift(saved: Mapping[str, Any], ours: Mapping[str, Any], where: str, *, allowed: Sequence[str] = ()) -> None:
    """Does nothing if a saved record is that of the same run, but for what is allowed to differ, and for versions.

    A name allows all below it: "optimizer" allows "optimizer.learning_rate".

    Raises:
        ValueError: something else differs; all of it is listed.
    """
    changed = config.differences(saved.get("experiment", {}), ours["experiment"])
    rest = [name for name in ours if name not in ("experiment", "versions")]
    changed += config.differences({name: saved.get(name) for name in rest}, {name: ours[name] for name in rest})
    refused = [line for line in changed if not any(_below(line.partition(":")[0], name) for name in allowed)]
    if refused:
        raise ValueError(
            f"{where} belongs to another experiment ({'; '.join(refused)}); resume with its settings, choose another"
            f" --run-dir, or allow it by name (--allow-drift {refused[0].partition(':')[0]!r})"
        )


def versions() -> dict[str, str]:
    """Versions of the packages that decide what a run computes."""
    return {name: version(name) for name in ("cnnjax", "jax", "flax", "optax", "numpy")}


def _below(name: str, above: str) -> bool:
    return name == above or name.startswith(f"{above}.")


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
        experiment.run_dir.mkdir(parents=True, exist_ok=True)
        return experiment.run_dir
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
