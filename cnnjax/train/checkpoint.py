"""Checkpoints of a run: written in the background, verified when they are read, set aside where they are damaged.

Orbax writes the arrays; a step counts as complete once its manifest stands beside them. A step that is not complete
was interrupted: nothing vouches for it, and it is passed over, renamed where it is in the way, and deleted once a later
step is complete, as are complete steps that are no longer kept. Who saves here holds the lock of the run's folder.
Several processes call everything alike; the first one writes manifests, renames and deletes.
"""

import dataclasses
import logging
import math
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from cnnjax.models import stack, unstack
from cnnjax.settings import Saving
from cnnjax.train import manifest as manifests
from cnnjax.train.hosts import on_first_process
from cnnjax.train.state import TrainState
from cnnjax.train.writer import cause, new_writer, read_like, read_part

_ARRAYS = "state"
_ROW = "unfinished_row.npz"
_DELETED = "deleted-"

# A step, or what was written of one before; of both, those that have no manifest.
_STEP = re.compile(r"(?:unfinished-(?P<before>\d+)-\d+|(?P<step>\d+))", re.ASCII)

_LOGGER = logging.getLogger(__name__)


class Checkpoints:
    """The folder `checkpoints/` of a run: a folder for each step that is kept."""

    def __init__(self, folder: Path, keeping: Saving | None = None, *, report: Callable[[str], Any] = _LOGGER.warning):
        """Opens, or creates, the folder.

        Kept are the newest `keep_last` steps, the `keep_best` of highest score, and all that are multiples of
        `keep_every`. What is wrong with a checkpoint that is passed over is said to `report`.

        Raises:
            ValueError: the whole path of the folder is not UTF-8.
        """
        check_path(folder)
        self._folder = folder.absolute()
        self._keeping = Saving() if keeping is None else keeping
        self._report = report
        self._leads = jax.process_index() == 0
        self._writer = new_writer()
        self._finishing: threading.Thread | None = None
        self._error: BaseException | None = None
        if self._leads:
            self._folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        try:
            self._join()
            self._writer.close()
        finally:
            if kind is None:
                self.check()

    @property
    def steps(self) -> list[int]:
        """The complete steps."""
        return sorted(step for step, path in self._written("step") if manifests.is_complete(path))

    @property
    def latest(self) -> int | None:
        """The newest complete step, or None."""
        return max(self.steps, default=None)

    @property
    def best(self) -> int | None:
        """The step of highest score, or None; waits for a write under way."""
        self.wait()
        return next(iter(self._ranked()), None)

    def score(self, step: int) -> float:
        """The score that a step was saved with.

        Raises:
            ValueError: it was saved without, or its manifest is damaged.
        """
        score = manifests.read_manifest(self._at(step)).score
        if score is None:
            raise ValueError(f"the checkpoint of step {step} in {self._folder} has no score")
        return score

    def record(self, step: int) -> dict[str, Any]:
        """The plain values that a step was saved with."""
        return manifests.read_manifest(self._at(step)).record

    def unfinished_row(self, step: int) -> bytes | None:
        """What a step was saved with of a row of the log that was not finished then."""
        path = self._at(step) / _ROW
        return path.read_bytes() if path.is_file() else None

    def save(
        self,
        state: TrainState,
        step: int,
        *,
        score: float | None = None,
        record: Mapping[str, Any] | None = None,
        unfinished_row: bytes | None = None,
    ) -> None:
        """Begins to write a state; an earlier write still under way is waited for.

        A step that is complete already is left as it is, but for its score.

        Args:
            state: What is written.
            step: Its number.
            score: How good it is; a NaN is the worst. None where it was not tested.
            record: Plain values to keep with it.
            unfinished_row: What was gathered for the next row of the log, as the caller will want it back.

        Raises:
            OSError: an earlier write failed.
        """
        self.wait()
        if score is not None and not math.isfinite(score):
            score = -math.inf
        if step in self.steps:
            if score is not None and self._leads:
                manifests.rate(self._at(step), score)
                self._delete(set(self.steps) - self._kept())
            return
        folder, plain = self._at(step), _plain(state)
        told = {"score": score, "record": record or {}}
        try:
            if self._leads:
                if folder.exists():
                    aside = self._set_aside(step, "unfinished")
                    self._report(f"what was written of step {step} before is kept as {aside} until it is complete")
                folder.mkdir()
                if unfinished_row is not None:
                    (folder / _ROW).write_bytes(unfinished_row)
            self._writer.save(folder / _ARRAYS, args=ocp.args.StandardSave(plain))
        except Exception as error:
            raise self._failed(step, error) from error
        arguments = step, manifests.describe_arrays(plain), told
        self._finishing = threading.Thread(target=self._finish, args=arguments, name=f"checkpoint {step}")
        self._finishing.start()

    def check(self) -> None:
        """Raises OSError if a write in the background has failed; never waits."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Waits for the write under way, its manifest included; raises OSError if it failed."""
        self._join()
        if jax.process_count() > 1:
            # The others see the manifest once the first process has written it.
            multihost_utils.sync_global_devices("checkpoint")
        self.check()

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """Reads the state of a step, of the types, shapes and shardings of `like`; by default of the newest whole one.

        Without a step, damaged ones are set aside under another name, which is reported, and the one before is read.

        Raises:
            FileNotFoundError: there is no complete step.
            ValueError: the step asked for is damaged, or all are; or it is of another state, whose arrays are listed.
            OSError: a file cannot be read for the moment; nothing is set aside.
        """
        self.wait()
        plain = _plain(like)

        def choose() -> str:
            if step is not None:
                self._verified(step)
            return str(self._whole() if step is None else step)

        found = int(on_first_process(choose))
        different = manifests.differences(
            manifests.read_manifest(self._at(found)).arrays, manifests.describe_arrays(plain)
        )
        if different:
            raise ValueError(
                f"the checkpoint of step {found} in {self._folder} is of another model, optimizer or setting"
                f" ({different})"
            )
        restored = stack(self._read(found, read_like, plain), _fields(like))
        # Stacked blocks come on one device.
        fields = jax.tree.map(
            lambda array, old: array if array.sharding == old.sharding else jax.device_put(array, old.sharding),
            restored,
            _fields(like),
        )
        return dataclasses.replace(like, **(fields | {"key": jax.random.wrap_key_data(fields["key"])}))

    def load_variables(self, step: int) -> dict[str, Any]:
        """What `model.apply` takes, of a step, on the default device: the running averages, where they were kept.

        Blocks have each their own name, as in a model that does not scan. On how many devices, and by how many
        processes, the step was written does not matter.

        Raises:
            ValueError: the checkpoint is damaged.
            OSError: a file cannot be read for the moment.
        """
        saved = manifests.parse_arrays(self._verified(step).arrays)
        names = ("averages",) if "averages" in saved else ("params", "model_state")
        part = {name: saved[name] for name in names if name in saved}
        restored = self._read(step, read_part, part)
        if different := manifests.differences(manifests.describe_arrays(part), manifests.describe_arrays(restored)):
            raise ValueError(
                f"the checkpoint of step {step} in {self._folder} comes otherwise than saved ({different})"
            )
        found = restored.get("averages") or {"params": restored.get("params", {}), **restored.get("model_state", {})}
        return {"params": {}, **found}

    def _at(self, step: int) -> Path:
        return self._folder / str(step)

    def _written(self, kind: str) -> list[tuple[int, Path]]:
        """Step and folder of all that was written here, complete or not: of a "step", or "before" of one."""
        paths = sorted(self._folder.iterdir()) if self._folder.is_dir() else []
        matched = [(_STEP.fullmatch(path.name), path) for path in paths]
        return [(int(match[kind]), path) for match, path in matched if match and match[kind]]

    def _read(self, step: int, how: Callable[[Path, Any], Any], tree: Any) -> Any:
        try:
            return how(self._at(step) / _ARRAYS, tree)
        except Exception as error:  # Orbax and TensorStore fail in many ways
            raise ValueError(
                f"the checkpoint of step {step} in {self._folder} cannot be read ({cause(error)})"
            ) from error

    def _verified(self, step: int) -> manifests.Manifest:
        """The manifest of a step whose files are all as they were written."""
        try:
            return manifests.verify(self._at(step))
        except ValueError as error:
            raise ValueError(f"the checkpoint of step {step} cannot be used: {error}") from None
        except OSError as error:
            raise OSError(
                f"the checkpoint of step {step} may be whole, but cannot be read now ({error}); nothing was changed:"
                f" try again, or move {self._at(step)} away to use the one before"
            ) from error

    def _whole(self) -> int:
        """The newest step whose files are all as they were written; newer ones, which are damaged, are set aside."""
        damaged: dict[int, ValueError] = {}
        for step, path in self._written("step"):
            if not manifests.is_complete(path):
                self._report(f"the checkpoint of step {step} was not completed, and is passed over")
        for candidate in reversed(self.steps):
            try:
                self._verified(candidate)
            except ValueError as error:
                damaged[candidate] = error
                continue
            for step, error in damaged.items():
                self._report(f"WARNING: step {step} is set aside as {self._set_aside(step, 'damaged')}: {error}")
            return candidate
        if damaged:
            raise ValueError(
                f"every checkpoint in {self._folder} is damaged: {'; '.join(map(str, damaged.values()))}. Nothing was"
                " changed; to begin anew, delete this folder, or choose another --run-dir"
            )
        raise FileNotFoundError(f"{self._folder} holds no complete checkpoint: none has a {manifests.NAME}")

    def _set_aside(self, step: int, why: str) -> str:
        number = 1
        while (aside := self._folder / f"{why}-{step}-{number}").exists():
            number += 1
        self._at(step).rename(aside)
        return aside.name

    def _finish(self, step: int, arrays: Mapping[str, str], told: Mapping[str, Any]) -> None:
        """In the background: waits for the arrays, writes the manifest, and deletes what is not kept."""
        try:
            self._writer.wait_until_finished()
            if self._leads:
                manifests.write_manifest(self._at(step), arrays=arrays, **told)
                self._delete(set(self.steps) - self._kept())
                self._delete_unfinished(step)
        except BaseException as error:
            self._error = self._failed(step, error)

    def _failed(self, step: int, error: BaseException) -> OSError:
        # Orbax's writer tells of a failure again and again.
        self._writer = new_writer()
        try:
            complete = self.steps
        except OSError:  # the same cause, which is told
            complete = []
        newest = f"the newest complete one is that of step {complete[-1]}" if complete else "none is complete"
        failed = (
            "is complete, but older ones could not be deleted from" if step in complete else "could not be written to"
        )
        return OSError(f"the checkpoint of step {step} {failed} {self._folder} ({cause(error)}); {newest}")

    def _kept(self) -> set[int]:
        keeping, steps = self._keeping, self.steps
        for_good = {step for step in steps if keeping.keep_every and step % keeping.keep_every == 0}
        return {*steps[-keeping.keep_last :], *self._ranked()[: keeping.keep_best], *for_good}

    def _ranked(self) -> list[int]:
        """Steps that have a score, from the best on; of equals the newest first. Damaged manifests have none."""
        scored = []
        for step in self.steps:
            try:
                score = manifests.read_manifest(self._at(step)).score
            except ValueError:
                continue
            if score is not None:
                scored.append((score, step))
        return [step for _, step in sorted(scored, reverse=True)]

    def _delete(self, steps: Iterable[int]) -> None:
        """Under another name first, so that what is half deleted is no step; and what an earlier run left half so."""
        for leftover in self._folder.glob(f"{_DELETED}*"):
            shutil.rmtree(leftover)
        for step in steps:
            renamed = self._folder / f"{_DELETED}{step}"
            self._at(step).rename(renamed)
            shutil.rmtree(renamed)

    def _delete_unfinished(self, complete: int) -> None:
        """What was not completed of steps up to one that is complete: the lock says that it is this run's own."""
        for step, path in [*self._written("step"), *self._written("before")]:
            if step <= complete and not manifests.is_complete(path):
                shutil.rmtree(path)

    def _join(self) -> None:
        if self._finishing is not None:
            self._finishing.join()
            self._finishing = None


def load_variables(run_dir: Path | str, *, step: int | Literal["best"] | None = None) -> dict[str, Any]:
    """What `model.apply` takes, from a run's folder: of the latest checkpoint, of the one of a step, or of the best.

    Where the run kept running averages, they are it. Blocks have each their own name: apply a model with `scan=False`,
    or `models.stack` them for one that scans.

    Raises:
        FileNotFoundError: the folder holds no complete checkpoint, or none of that step, or no best one. Those
            that were written before there were manifests are not complete.
        ValueError: the checkpoint is damaged.
        OSError: a file cannot be read for the moment.
    """
    return load_checkpoint(run_dir, step=step)[0]


def load_checkpoint(
    run_dir: Path | str, *, step: int | Literal["best"] | None = None
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """`load_variables`, the plain values that were saved with them, and the step."""
    folder = Path(run_dir) / "checkpoints"
    if not folder.is_dir():
        raise FileNotFoundError(f"{run_dir} holds no checkpoints; pass the folder of a run")
    with Checkpoints(folder) as checkpoints:
        wanted = checkpoints.best if step == "best" else checkpoints.latest if step is None else step
        if wanted is None:
            if step == "best" and checkpoints.steps:
                raise FileNotFoundError(f"no checkpoint in {folder} has a score; there are {checkpoints.steps}")
            raise FileNotFoundError(f"{folder} holds no complete checkpoint: none has a {manifests.NAME}")
        if wanted not in checkpoints.steps:
            raise FileNotFoundError(f"{folder} holds no step {wanted}; there are {checkpoints.steps}")
        return checkpoints.load_variables(wanted), checkpoints.record(wanted), wanted


def check_path(folder: Path) -> None:
    """Raises ValueError if the whole path of a folder is not UTF-8, as TensorStore needs it."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"run_dir={os.fsencode(folder)}; expected a path in UTF-8 from the root on; choose another --run-dir"
        ) from None


def _plain(state: TrainState) -> dict[str, Any]:
    """The state as it lies in the file: ordinary arrays, and the blocks of scanned models by their own names."""
    return {name: unstack(value) for name, value in _fields(state).items()}


def _fields(state: TrainState) -> dict[str, Any]:
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return fields | {"key": jax.random.key_data(state.key)}
