"""Checkpoints of a run: written in the background, verified when they are read, set aside where they are damaged.

Orbax writes the arrays; a step counts as complete once its manifest stands beside them. A step that is not complete
was interrupted, or written before there were manifests: nothing vouches for it, and it is passed over, and renamed
where it is in the way. Only complete steps that are no longer kept are deleted. Several processes call everything
alike; the first one writes manifests, renames and deletes.
"""

import dataclasses
import logging
import math
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from cnnjax.models import stack, unstack
from cnnjax.train import manifest as manifests
from cnnjax.train.hosts import from_first_process
from cnnjax.train.settings import Saving
from cnnjax.train.state import TrainState

_ARRAYS = "state"
_ROW = "unfinished_row.npz"
_DELETED = "deleted-"

# Characters of the cause of an error that are told.
_LONGEST_CAUSE = 300

_LOGGER = logging.getLogger(__name__)


class Checkpoints:
    """The folder `checkpoints/` of a run: a folder for each step that is kept."""

    def __init__(self, folder: Path, keeping: Saving | None = None, *, report: Callable[[str], Any] = _LOGGER.warning):
        """Opens, or creates, the folder.

        Kept are the newest `keep_last` steps, the `keep_best` of highest score, and all that are multiples of
        `keep_every`. What is wrong with a checkpoint that is passed over is said to `report`.
        """
        self._folder = folder.absolute()
        self._keeping = Saving() if keeping is None else keeping
        self._report = report
        self._leads = jax.process_index() == 0
        self._writer = _new_writer()
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
        folders = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(int(path.name) for path in folders if path.name.isdigit() and (path / manifests.NAME).is_file())

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
                    self._report(f"what was written of step {step} before is kept as {aside}, and may be deleted")
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
        """
        self.wait()
        plain = _plain(like)
        found = self._agreed(step)
        different = manifests.differences(
            manifests.read_manifest(self._at(found)).arrays, manifests.describe_arrays(plain)
        )
        if different:
            raise ValueError(
                f"the checkpoint of step {found} in {self._folder} is of another model, optimizer or setting"
                f" ({different})"
            )
        restored = stack(
            self._read(found, ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, plain))),
            _fields(like),
        )
        # Stacked blocks come on one device.
        fields = jax.tree.map(
            lambda array, old: array if array.sharding == old.sharding else jax.device_put(array, old.sharding),
            restored,
            _fields(like),
        )
        return dataclasses.replace(like, **(fields | {"key": jax.random.wrap_key_data(fields["key"])}))

    def load_variables(self, step: int) -> dict[str, Any]:
        """What `model.apply` takes, of a step, on the default device: the running averages, where they were kept.

        Blocks have each their own name, as in a model that does not scan.

        Raises:
            ValueError: the checkpoint is damaged.
        """
        self._whole(step)
        restored = self._read(step, ocp.args.StandardRestore())
        chosen = restored.get("averages") or restored
        return {"params": chosen["params"], "batch_stats": chosen.get("batch_stats") or {}}

    def _at(self, step: int) -> Path:
        return self._folder / str(step)

    def _read(self, step: int, how: Any) -> Any:
        try:
            with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
                return reader.restore(self._at(step) / _ARRAYS, args=how)
        except Exception as error:  # Orbax and TensorStore fail in many ways
            raise ValueError(
                f"the checkpoint of step {step} in {self._folder} cannot be read ({_cause(error)})"
            ) from error

    def _agreed(self, step: int | None) -> int:
        """The step that the first process finds whole, in all of them; where it finds none, none waits for it."""
        found, failure = "", None
        if self._leads:
            try:
                found = str(self._whole(step))
            except (OSError, ValueError) as error:
                failure = error
        found = from_first_process(found)
        if failure is not None:
            raise failure
        if not found:
            raise ValueError(
                f"the first process found no checkpoint in {self._folder} that can be used; see what it says"
            )
        return int(found)

    def _whole(self, step: int | None) -> int:
        """A step whose files are all as they were written: the one asked for, or the newest."""
        if step is not None:
            try:
                manifests.verify(self._at(step))
            except ValueError as error:
                raise ValueError(f"the checkpoint of step {step} cannot be used: {error}") from None
            return step
        for unfinished in sorted(self._folder.iterdir()):
            if unfinished.name.isdigit() and not (unfinished / manifests.NAME).is_file():
                self._report(f"the checkpoint of step {unfinished.name} was not completed, and is passed over")
        complete = self.steps
        for candidate in reversed(complete):
            try:
                manifests.verify(self._at(candidate))
                return candidate
            except ValueError as error:
                aside = self._set_aside(candidate, "damaged")
                self._report(f"WARNING: the checkpoint of step {candidate} is set aside as {aside}: {error}")
        if complete:
            raise ValueError(f"every checkpoint in {self._folder} is damaged: steps {complete}; all are set aside")
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
        except BaseException as error:
            self._error = self._failed(step, error)

    def _failed(self, step: int, error: BaseException) -> OSError:
        # Orbax's writer tells of a failure again and again.
        self._writer = _new_writer()
        complete = self.steps
        newest = f"the newest complete one is that of step {complete[-1]}" if complete else "none is complete"
        failed = (
            "is complete, but older ones could not be deleted from" if step in complete else "could not be written to"
        )
        return OSError(f"the checkpoint of step {step} {failed} {self._folder} ({_cause(error)}); {newest}")

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

    def _join(self) -> None:
        if self._finishing is not None:
            self._finishing.join()
            self._finishing = None


def load_variables(run_dir: Path | str, *, step: int | None = None) -> dict[str, Any]:
    """What `model.apply` takes, from a run's folder: of the latest checkpoint, or of the one of a step.

    Where the run kept running averages, they are it. Blocks have each their own name: apply a model with `scan=False`,
    or `models.stack` them for one that scans.

    Raises:
        FileNotFoundError: the folder holds no complete checkpoint, or none of that step. Those that were written before
            there were manifests are not complete.
        ValueError: the checkpoint is damaged.
    """
    folder = Path(run_dir) / "checkpoints"
    if not folder.is_dir():
        raise FileNotFoundError(f"{run_dir} holds no checkpoints; pass the folder of a run")
    with Checkpoints(folder) as checkpoints:
        wanted = checkpoints.latest if step is None else step
        if wanted is None:
            raise FileNotFoundError(f"{folder} holds no complete checkpoint: none has a {manifests.NAME}")
        if wanted not in checkpoints.steps:
            raise FileNotFoundError(f"{folder} holds no step {wanted}; there are {checkpoints.steps}")
        return checkpoints.load_variables(wanted)


def _new_writer() -> ocp.AsyncCheckpointer:
    return ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler())


def _cause(error: BaseException) -> str:
    """The first line of an error, without the specification that TensorStore adds; of a long one the end, the cause."""
    first = next(iter(str(error).splitlines()), "") or type(error).__name__
    said = first.partition(" [os_error_code=")[0].partition(" [tensorstore_spec=")[0]
    return said if len(said) <= _LONGEST_CAUSE else f"... {said[-_LONGEST_CAUSE:]}"


def _plain(state: TrainState) -> dict[str, Any]:
    """The state as it lies in the file: ordinary arrays, and the blocks of scanned models by their own names."""
    return {name: unstack(value) for name, value in _fields(state).items()}


def _fields(state: TrainState) -> dict[str, Any]:
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return fields | {"key": jax.random.key_data(state.key)}
