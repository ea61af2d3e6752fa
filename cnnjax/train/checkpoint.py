"""Checkpoints of a run: the latest and the best, written by Orbax in the background."""

import dataclasses
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from cnnjax.train.state import TrainState


class Checkpoints:
    """The folder `checkpoints/` of a run: the newest step and the step of highest score are kept."""

    def __init__(self, folder: Path):
        """Opens, or creates, the folder."""
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(n=1), policies.BestN(get_metric_fn=_score, n=1)]
            ),
            best_fn=_score,
            best_mode="max",
            create=True,
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager.close()

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

    def save(self, state: TrainState, step: int, *, score: float) -> None:
        """Begins to write a state; an earlier write still under way is waited for."""
        if step != self.latest:
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(_plain(state))),
                metrics={"score": score},
            )

    def restore(self, like: TrainState, step: int) -> TrainState:
        """Reads the state of a step, of the same shapes, types and shardings as `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(like))
        restored = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)))
        fields = dict(restored["state"])
        return dataclasses.replace(like, **(fields | {"key": jax.random.wrap_key_data(fields["key"])}))


def _plain(state: TrainState) -> dict[str, Any]:
    """The state as a dictionary of ordinary arrays."""
    return {
        "step": state.step,
        "params": state.params,
        "batch_stats": state.batch_stats,
        "opt_state": state.opt_state,
        "key": jax.random.key_data(state.key),
    }


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]
