"""The folder of a run: whose it is, and whether a run may write into it."""

import json
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from cnnjax.functional.cpu.machine import this_machine
from cnnjax.settings import Folder, Training, differences, to_plain
from cnnjax.train import manifest
from cnnjax.train.checkpoint import check_path
from cnnjax.train.hosts import from_first_process, on_first_process
from cnnjax.train.lock import LOCK, locked

RECORD = "config.json"

# What a record holds besides what makes a run what it is; settings of training are compared by themselves.
_NO_IDENTITY = ("training", "versions", "started", "allow_drift")

_LOGGER = logging.getLogger(__name__)


def check_run_folder(folder: Folder, record: Mapping[str, Any]) -> None:
    """Does nothing if a run may begin, or go on, in the folder that its settings name.

    `record` is what the run is, as `make_record` gives it: saved, and compared when it resumes.

    Raises:
        FileExistsError: the folder holds something already and `resume` is not set.
        FileNotFoundError: `resume` is set and the folder holds no run.
        ValueError: the folder belongs to another run (what differs is listed), or its path is not UTF-8.
    """
    path = folder.run_dir
    check_path(Path("runs") if path is None else path)
    if path is None:
        return
    if folder.resume:
        saved = _saved(path)
        if saved is not None:
            refuse_drift(saved, record, str(path), allowed=folder.allow_drift)
    elif path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file; choose another --run-dir")
    # The lock, and a record that was not written to its end, are left by a run that was killed as it began.
    elif path.exists() and any(entry.name not in (LOCK, f"{RECORD}.tmp") for entry in path.iterdir()):
        raise FileExistsError(
            f"{path} is not empty; pass --resume to continue the run in it, or choose another --run-dir"
        )


def goes_on(folder: Folder) -> bool:
    """Whether a run in this folder would go on from a checkpoint; all processes ask alike."""
    if folder.run_dir is None or not (folder.resume or folder.restartable):
        return False
    found = any(folder.run_dir.glob(f"checkpoints/*/{manifest.NAME}"))
    return from_first_process("yes" if found else "") == "yes"


@contextmanager
def open_run_folder(
    folder: Folder,
    record: Mapping[str, Any],
    *,
    name: str,
    now: datetime | None = None,
    report: Callable[[str], Any] = _LOGGER.warning,
) -> Generator[tuple[Path, Callable[[], None]], None, None]:
    """Holds the folder of a run alone: created with its `config.json`, or that of a run that is resumed.

    Gives its path, in all processes, and what raises OSError once the folder is no longer this run's. A `config.json`
    that is damaged is written anew, from what the newest checkpoint was saved with.

    Args:
        folder: where, by the settings.
        record: as `check_run_folder` takes it.
        name: what a folder is called that the settings do not name; the time is added.
        now: when the run begins; the present where None.
        report: is told what a user should know.

    Raises:
        BlockingIOError: another run is at work in the folder.
        OSError: the folder cannot be written.
        FileExistsError, FileNotFoundError, ValueError: as `check_run_folder`.
    """
    with ExitStack() as held:
        check = _unlocked

        def begin() -> str:
            nonlocal check
            time = now or datetime.now()
            with _writing(folder):
                path = _create(folder.run_dir, name, time)
                check = held.enter_context(locked(path, report=report))
            # Others may have written here before it was locked.
            check_run_folder(folder, record)
            written = {**record, "started": f"{time:%Y-%m-%d %H:%M:%S}"}
            if folder.resume:
                if _is_sound(path):
                    return str(path)
                written = _saved(path) or written
                report(f"{path / RECORD} is damaged, and is written anew")
            with _writing(folder):
                manifest.write_whole(path / RECORD, json.dumps(written, indent=2) + "\n")
            return str(path)

        path = Path(on_first_process(begin))
        yield path, check


def make_record(training: Training, identity: Mapping[str, Any]) -> dict[str, Any]:
    """What a run is, as plain values: settings, identity, versions, and in what it may differ from how it began.

    `identity` is what makes the run what it is besides its settings, such as model, task and statistics of the data.
    """
    allowed = {"allow_drift": list(training.folder.allow_drift)}
    return {**identity, "training": to_plain(training), "versions": versions(), **allowed}


def read_record(folder: Path) -> dict[str, Any]:
    """What `config.json` in the folder of a run holds.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    path = folder / RECORD
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None
    if not isinstance(saved, dict) or not isinstance(saved.get("training", {}), dict):
        raise ValueError(f"{path} is damaged: it is not the record of a run")
    return saved


def drift(saved: Mapping[str, Any], ours: Mapping[str, Any], *, allowed: Sequence[str] = ()) -> list[str]:
    """In what a saved record differs from ours, but for versions, times, and what is allowed; a line each.

    A name allows all below it: "optimizer" allows "optimizer.learning_rate". What is in `training` goes by its name
    there.
    """
    changed = differences(saved.get("training", {}), ours["training"])
    there, here = ({name: record[name] for name in record if name not in _NO_IDENTITY} for record in (saved, ours))
    changed += differences(there, here)
    return [line for line in changed if not any(_below(line.partition(":")[0], name) for name in allowed)]


def refuse_drift(saved: Mapping[str, Any], ours: Mapping[str, Any], where: str, *, allowed: Sequence[str] = ()) -> None:
    """Does nothing if a saved record is that of the same run, as `drift` compares them.

    Raises:
        ValueError: something else differs; all of it is listed.
    """
    refused = drift(saved, ours, allowed=allowed)
    if refused:
        raise ValueError(
            f"{where} belongs to another experiment ({'; '.join(refused)}); resume with its settings, choose another"
            f" --run-dir, or allow it by name (--allow-drift {refused[0].partition(':')[0]!r})"
        )


def versions() -> dict[str, str]:
    """Versions of the packages that decide what a run computes, and on a CPU how it convolves."""
    found = {name: version(name) for name in ("cnnjax", "jax", "flax", "optax", "numpy")}
    return found | ({"convolutions": str(this_machine())} if jax.default_backend() == "cpu" else {})


def _below(name: str, above: str) -> bool:
    return name == above or name.startswith(f"{above}.")


def _saved(folder: Path) -> dict[str, Any] | None:
    """The record of the run in a folder: its `config.json`, or that of its newest checkpoint where that is damaged.

    None where it is empty and nothing was saved: the machine stopped as the run began.
    """
    try:
        return read_record(folder)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{folder} holds no run to resume; pass the folder of one, or leave out --resume to start there"
        ) from None
    except ValueError as error:
        steps = [path for path in (folder / "checkpoints").glob("*") if path.name.isdecimal()]
        for step in sorted(steps, key=lambda path: int(path.name), reverse=True):
            with suppress(ValueError):  # that one is damaged too
                return manifest.read_manifest(step).record
        if not steps and not (folder / RECORD).read_bytes().strip(b"\0 \n"):
            return None
        raise ValueError(f"{error}; the run cannot be resumed, start another") from None


def _unlocked() -> None:
    """In the other processes, which hold nothing."""


def _is_sound(folder: Path) -> bool:
    try:
        read_record(folder)
    except ValueError:
        return False
    return True


@contextmanager
def _writing(folder: Folder) -> Generator[None, None, None]:
    try:
        yield
    except BlockingIOError:  # says whose the folder is
        raise
    except OSError as error:
        where = folder.run_dir or "runs"
        raise OSError(f"the run folder {where} cannot be written ({error}); choose another --run-dir") from error


def _create(run_dir: Path | None, name: str, now: datetime) -> Path:
    if run_dir is not None:
        run_dir.mkdir(parents=True, exist_ok=True)
        return run_dir
    stem = f"{name}-{now:%Y%m%d-%H%M%S}"
    folder, number = Path("runs") / stem, 1
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:  # a run of the same second
            number += 1
            folder = Path("runs") / f"{stem}-{number}"
