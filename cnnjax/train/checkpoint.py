"""Checkpoints of a run: the latest and the best, written by Orbax in the background."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from cnnjax.models import stack, unstack
from cnnjax.train.state import TrainState


class Checkpoints:
    """The folder `checkpoints/` of a run: the newest step and the step of highest score are kept."""

    def __init__(self, folder: Path, *, keep_last=1, keep_best=1, keep_every=None, report=print):
        """Opens, or creates, the folder."""
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(n=keep_last), policies.BestN(get_metric_fn=_score, n=keep_best)]
            ),
            best_fn=_score,
            best_mode="max",
            create=True,
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self._manager.close()

    @property
    def steps(self) -> list[int]:
        """The steps that are kept."""
        return sorted(self._manager.all_steps())

    @property
    def latest(self) -> int | None:
        """The newest step, or None."""
        return self._manager.latest_step()

    @property
    def best(self) -> int | None:
        """The step of highest score, or None; waits for a write under way."""
        self._manager.wait_until_finished()
        return self._manager.best_step()

    def score(self, step: int) -> float:
        """The score that a step was saved with."""
        metrics = self._manager.metrics(step)
        if metrics is None:
            raise FileNotFoundError(f"the checkpoint of step {step} has no score")
        return float(metrics["score"])

    def check(self):
        self._manager.check_for_errors()

    def wait(self):
        self._manager.wait_until_finished()

    def record(self, step):
        return self._manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore()))["record"]

    def save(self, state: TrainState, step: int, *, score: float = None, record=None) -> None:
        """Begins to write a state; an earlier write still under way is waited for. A NaN score is the worst."""
        if step != self.latest:
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(_plain(state)), record=ocp.args.JsonSave(record)),
                metrics={"score": score if score is not None and math.isfinite(score) else -math.inf},
            )

    def restore(self, like: TrainState, step: int = None) -> TrainState:
        """Reads the state of a step, of the same shapes, types and shardings as `like`."""
        step = self.latest if step is None else step
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(like))
        restored = stack(self._read(step, ocp.args.StandardRestore(abstract)), _fields(like))
        fields = jax.tree.map(lambda array, old: jax.device_put(array, old.sharding), restored, _fields(like))
        return dataclasses.replace(like, **(fields | {"key": jax.random.wrap_key_data(fields["key"])}))

    def load_variables(self, step: int) -> dict[str, Any]:
        """Parameters and running statistics of a step, on the default device, without a state to compare with.

        Blocks have each their own name, as in a model that does not scan.
        """
        restored = self._read(step, ocp.args.StandardRestore())
        return {"params": restored["params"], "batch_stats": restored.get("batch_stats") or {}}

    def _read(self, step: int, how: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(state=how))["state"]
        except Exception as error:  # Orbax and TensorStore fail in many ways on a damaged file
            raise ValueError(
                f"the checkpoint of step {step} in {self._manager.directory} cannot be read; it is damaged, or of"
                f" another model ({str(error).splitlines()[0][:200]})"
            ) from error


def load_variables(run_dir: Path | str, *, step: int | None = None) -> dict[str, Any]:
    """What `model.apply` takes, from a run's folder: of the latest checkpoint, or of the one of a step.

    Blocks have each their own name: apply a model with `scan=False`, or `models.stack` them for one that scans.

    Raises:
        FileNotFoundError: the folder holds no checkpoint, or none of that step.
        ValueError: the checkpoint cannot be read.
    """
    folder = Path(run_dir) / "checkpoints"
    if not folder.is_dir():
        raise FileNotFoundError(f"{run_dir} holds no checkpoints; pass the folder of a run")
    with Checkpoints(folder) as checkpoints:
        wanted = checkpoints.latest if step is None else step
        if wanted is None or wanted not in checkpoints.steps:
            raise FileNotFoundError(f"{folder} holds no step {wanted}; there are {checkpoints.steps}")
        return checkpoints.load_variables(wanted)


def _plain(state: TrainState) -> dict[str, Any]:
    """The state as it lies in the file: ordinary arrays, and the blocks of scanned models by their own names."""
    return {name: unstack(value) for name, value in _fields(state).items()}


def _fields(state: TrainState) -> dict[str, Any]:
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return fields | {"key": jax.random.key_data(state.key)}


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]
