"""The loop: the one place where a run's state changes. It knows batches, states and metrics, and no task."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from cnnjax.data.augment import unchanged
from cnnjax.data.pipeline import eval_batches, train_batches
from cnnjax.data.sources import Source
from cnnjax.tasks import Task
from cnnjax.train import parallel
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.config import Experiment
from cnnjax.train.log import MetricsLog, reporting
from cnnjax.train.optimizer import make_optimizer, make_schedule
from cnnjax.train.run_folder import open_run_folder
from cnnjax.train.state import TrainState, create_state
from cnnjax.train.step import Recipe, eval_step, train_step

# Enough for a confusion matrix, and few enough for memory.
KEPT_EXAMPLES = 10_000


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A test set as the model sees it: the numbers over all, and the first examples beside their predictions."""

    summary: dict[str, float]
    examples: dict[str, np.ndarray]
    predictions: Any


@dataclass(frozen=True, eq=False)
class Fit:
    """What a run leaves: its folder, the last state, the last evaluation, the best step with its score, seconds."""

    run_dir: Path
    state: TrainState
    evaluation: Evaluation
    best_step: int | None
    best_score: float
    seconds: float


def fit(
    model: nn.Module,
    task: Task,
    train_source: Source,
    test_source: Source,
    experiment: Experiment,
    *,
    prepare: Callable[[Any], Any] = lambda batch: batch,
    augment: Callable[[jax.Array, Any], Any] = unchanged,
    console: Console | None = None,
) -> Fit:
    """Trains, tests after every epoch, keeps the latest and the best state, and logs; resumes where told to.

    `augment` (key, batch) changes training batches on the device; `prepare` changes every batch after it. The result
    is that of the last step: the test set chooses nothing. (The best checkpoint is chosen by it, and says so.)

    Raises:
        ValueError: the batch cannot be split over the devices, or the data does not fit the model.
        FileExistsError, FileNotFoundError: the run folder (see `open_run_folder`).
        FloatingPointError: the training loss is no longer finite.
    """
    began = time.perf_counter()
    mesh = parallel.make_mesh(experiment.devices)
    parallel.check_batch_size(experiment.batch_size, mesh)
    size = None if experiment.image_size is None else (experiment.image_size,) * 2
    batching = {
        "batch_size": experiment.batch_size,
        "image_size": size,
        "fit": experiment.fit,
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
    }
    first = next(iter(eval_batches(train_source, **batching)))
    total = experiment.total_steps(len(train_source))
    schedule = make_schedule(experiment.schedule, learning_rate=experiment.optimizer.learning_rate, steps=total)
    recipe = Recipe(model, task, make_optimizer(experiment.optimizer, schedule), augment, prepare)
    inputs = jax.eval_shape(lambda batch: task.inputs(prepare(batch)), first)
    fresh = create_state(model, recipe.optimizer, inputs, seed=experiment.seed)
    fresh = jax.device_put(fresh, parallel.replicated(mesh))
    # Nothing is written before everything fits.
    folder = open_run_folder(experiment)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        latest = checkpoints.latest if experiment.resume else None
        state = start = fresh if latest is None else checkpoints.restore(fresh, latest)
        done = int(start.step)
        evaluate = _evaluator(recipe, mesh, test_source, batching)
        with MetricsLog(folder, step=done) as log, reporting(total, done, console) as report:
            report.say(_header(model, start, mesh, experiment, folder, total, done))
            stream = parallel.to_devices(
                train_batches(train_source, seed=experiment.seed, start_step=done, **batching), mesh
            )
            evaluation = None
            for step, state, row in _steps(start, stream, recipe, mesh, experiment, len(train_source), total):
                report.advance()
                if row is None:
                    continue
                row["learning_rate"] = float(np.asarray(schedule(step - 1)))
                _check_finite(row, checkpoints)
                epoch_ends = row.pop("epoch_ends")
                if epoch_ends:
                    evaluation = evaluate(state, keep=step == total)
                    row["test"] = evaluation.summary
                log.write(row)
                report.row(row)
                # After its row: a run that dies in between repeats the epoch, and the log forgets the row.
                if epoch_ends and evaluation is not None:
                    checkpoints.save(state, step, score=task.score(evaluation.summary))
            evaluation = evaluation or evaluate(state, keep=True)
        best = checkpoints.best
        best_score = float("nan") if best is None else checkpoints.score(best)
    return Fit(folder, state, evaluation, best, best_score, time.perf_counter() - began)


def _steps(
    state: TrainState,
    stream: Iterator[Any],
    recipe: Recipe,
    mesh: Mesh,
    experiment: Experiment,
    examples: int,
    total: int,
) -> Iterator[tuple[int, TrainState, dict[str, Any] | None]]:
    """Runs the steps that are left; gives each one's number, the state after it, and a row to log where one is due."""
    batch_size = experiment.batch_size
    run = None
    pending: list[Any] = []
    since = time.perf_counter()
    for step in range(int(state.step) + 1, total + 1):
        batch = next(stream)
        if run is None:
            run = parallel.compile_step(partial(train_step, recipe=recipe), mesh, state, batch, donate_state=True)
            since = time.perf_counter()
        state, metrics = run(state, batch)
        pending.append(metrics)
        epoch_ends = step == total or step * batch_size // examples > (step - 1) * batch_size // examples
        if not (epoch_ends or (experiment.log_every and step % experiment.log_every == 0)):
            yield step, state, None
            continue
        summary = recipe.task.summarize(_merge(pending))
        seconds = (time.perf_counter() - since) / len(pending)
        row = {
            "step": step,
            "epoch": step * batch_size / examples,
            "train": summary,
            "seconds_per_step": seconds,
            "examples_per_second": batch_size / seconds,
            "epoch_ends": epoch_ends,
        }
        pending = []
        yield step, state, row
        since = time.perf_counter()


def _evaluator(recipe: Recipe, mesh: Mesh, source: Source, batching: dict[str, Any]) -> Callable[..., Evaluation]:
    """A function that evaluates a state on all of a source, compiled at its first use."""
    run = None

    def evaluate(state: TrainState, *, keep: bool) -> Evaluation:
        nonlocal run
        sums, examples, predictions, kept = [], [], [], 0
        for batch in eval_batches(source, **batching):
            (on_device,) = parallel.to_devices([batch], mesh)
            if run is None:
                run = parallel.compile_step(partial(eval_step, recipe=recipe), mesh, state, on_device)
            metrics, predicted = run(state, on_device)
            sums.append(metrics)
            if keep and kept < KEPT_EXAMPLES:
                valid = batch["valid"]
                examples.append(jax.tree.map(lambda array, valid=valid: array[valid], batch))
                predictions.append(jax.tree.map(lambda array, valid=valid: np.asarray(array)[valid], predicted))
                kept += int(valid.sum())
        return Evaluation(
            recipe.task.summarize(_merge(sums)),
            _concatenate(examples),
            _concatenate(predictions),
        )

    return evaluate


def _merge(parts: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.sum(leaves, axis=0), *jax.device_get(parts))


def _concatenate(parts: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts) if parts else {}


def _check_finite(row: dict[str, Any], checkpoints: Checkpoints) -> None:
    for name, value in row["train"].items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"train {name} is {value} at step {row['step']}, with learning rate {row['learning_rate']:.3g};"
                f" try a lower one (the latest checkpoint is of step {checkpoints.latest})"
            )


def _header(
    model: nn.Module, state: TrainState, mesh: Mesh, experiment: Experiment, folder: Path, total: int, done: int
) -> str:
    params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    kind = mesh.devices.flat[0].device_kind
    return (
        f"{type(model).__name__}, {params:,} parameters, {experiment.precision}, on {mesh.size} {kind} device(s)\n"
        f"{f'resuming at step {done} of' if done else 'training'} {total} steps of {experiment.batch_size},"
        f" {experiment.optimizer.name} with {experiment.schedule.name} learning rate"
        f" {experiment.optimizer.learning_rate:g}\n"
        f"run folder: {folder}"
    )
