"""The loop: the one place where a run's state changes. It knows batches, states and metrics, and no task."""

import math
import re
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from cnnjax.data.augment import unchanged
from cnnjax.data.resident import gather
from cnnjax.data.sources import Source
from cnnjax.models import Model
from cnnjax.tasks import Task
from cnnjax.train import parallel
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.config import Experiment
from cnnjax.train.feed import Feed, open_feed
from cnnjax.train.log import MetricsLog, reporting
from cnnjax.train.optimizer import make_optimizer, make_schedule
from cnnjax.train.run_folder import open_run_folder
from cnnjax.train.state import TrainState, create_state
from cnnjax.train.step import Recipe, StepMetrics, eval_step, train_step

# Test examples kept beside their predictions for drawing: enough for a confusion matrix, few enough for memory.
KEPT_BYTES = 2**28

# Steps handed to the device before the first of them is waited for.
STEPS_AHEAD = 2


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A test set as the model sees it: the numbers over all, and the first examples beside their predictions."""

    summary: dict[str, float]
    examples: dict[str, Any]
    predictions: Any


@dataclass(frozen=True, eq=False)
class Fit:
    """What a run leaves: its folder, the last state, the last evaluation, the best step with its score.

    `seconds` are those since `first_step`, where the run began or was resumed.
    """

    run_dir: Path
    state: TrainState
    evaluation: Evaluation
    best_step: int | None
    best_score: float
    first_step: int
    seconds: float


def fit(
    model: Model,
    task: Task,
    train_source: Source,
    test_source: Source,
    experiment: Experiment,
    *,
    prepare: Callable[[Any], Any] = lambda batch: batch,
    augment: Callable[[jax.Array, Any], Any] = unchanged,
    record: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Fit:
    """Trains, tests after every epoch, keeps the latest and the best state, and logs; resumes where told to.

    `model` is a Flax module called as `model(inputs, train=...)`. `augment` (key, batch) changes training batches on
    the device; `prepare` changes every batch after it. Of the `experiment`, the length, batch size, optimizer,
    schedule, seed, devices, picture size and run folder count here; model, task and data are those given. `record`
    (plain values, such as statistics used by `prepare`) is saved with the run and compared when it resumes.

    The result is that of the last step: the test set chooses nothing. Training metrics are means over the steps since
    the last row, on augmented batches. The best checkpoint is the one of the highest `task.score` on the test set.

    Raises:
        ValueError: the batch cannot be split over the devices, or the data does not fit the model or the task.
        FileExistsError, FileNotFoundError: the run folder (see `open_run_folder`).
        FloatingPointError: the training loss is no longer finite.
    """
    began = time.perf_counter()
    if jax.process_count() > 1:
        raise ValueError(f"{jax.process_count()} processes came, a run takes one; start it in one process")
    mesh = parallel.make_mesh(experiment.devices)
    parallel.check_batch_size(experiment.batch_size, mesh)
    console, faults = console or Console(), []
    opened = partial(open_feed, experiment=experiment, mesh=mesh, on_fault=faults.append, console=console)
    train_feed, test_feed = opened(train_source, training=True), opened(test_source)
    total = experiment.total_steps(len(train_source))
    schedule = make_schedule(experiment.schedule, learning_rate=experiment.optimizer.learning_rate, steps=total)
    recipe = Recipe(model, task, make_optimizer(experiment.optimizer, schedule), augment, prepare)
    sample = train_feed.sample()
    whole = gather(train_feed.examples, sample), gather(test_feed.examples, test_feed.sample())
    fresh = _first_state(recipe, *whole, experiment.seed)
    # Nothing is written before everything fits.
    identity = {"model": _describe(model), "task": _describe(task), "record": dict(record or {})}
    folder = open_run_folder(experiment, identity)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        start = jax.device_put(fresh, parallel.replicated(mesh))
        if experiment.resume and checkpoints.latest is not None:
            start = checkpoints.restore(start, checkpoints.latest)
        done = int(start.step)
        evaluate = _evaluator(recipe, mesh, test_feed)
        place = done * experiment.batch_size
        with (
            MetricsLog(folder, step=done) as log,
            reporting(total, done, console) as report,
            closing(train_feed.shuffled(seed=experiment.seed, start=place)) as batches,
        ):
            report.say(_header(model, start, mesh, experiment, folder, total, done))
            (on_device,), examples = parallel.to_devices([sample], mesh), train_feed.on_device
            step_of = partial(train_step, recipe=recipe)
            run = parallel.compile_step(step_of, mesh, start, on_device, examples, donate_state=True)
            state, evaluation, pending, since = start, None, [], time.perf_counter()
            for step, batch in zip(range(done + 1, total + 1), parallel.to_devices(batches, mesh), strict=False):
                state, metrics = run(state, batch, examples)
                pending.append(metrics)
                report.advance()
                jax.block_until_ready(pending[-1 - STEPS_AHEAD :][0])
                epoch_ends = step == total or _epoch(step, experiment, train_source) > _epoch(
                    step - 1, experiment, train_source
                )
                if not (epoch_ends or (experiment.log_every and step % experiment.log_every == 0)):
                    continue
                rate = float(np.asarray(schedule(step - 1)))
                _check_finite(pending, step, rate)
                seconds = (time.perf_counter() - since) / len(pending)
                row: dict[str, Any] = {
                    "step": step,
                    "epoch": step * experiment.batch_size / len(train_source),
                    "train": task.summarize(_merge([metrics.sums for metrics in pending])),
                    "learning_rate": rate,
                    "seconds_per_step": seconds,
                    "examples_per_second": experiment.batch_size / seconds,
                }
                if epoch_ends:
                    evaluation = evaluate(state, keep=step == total)
                    row["test"] = evaluation.summary
                if experiment.loading.unreadable != "raise":
                    row["unreadable"] = log.faults(step, faults)
                    faults.clear()
                log.write(row)
                report.row(row)
                # After its row: a run that dies in between repeats the epoch, and the log forgets the row.
                if evaluation is not None and epoch_ends:
                    checkpoints.save(state, step, score=task.score(evaluation.summary))
                pending, since = [], time.perf_counter()
            evaluation = evaluation or evaluate(state, keep=True)
        best = checkpoints.best
        best_score = float("nan") if best is None else checkpoints.score(best)
    return Fit(folder, state, evaluation, best, best_score, done, time.perf_counter() - began)


def _epoch(step: int, experiment: Experiment, source: Source) -> int:
    """Whole passes over the training examples after a step."""
    return step * experiment.batch_size // len(source)


def _first_state(recipe: Recipe, train_batch: Any, test_batch: Any, seed: int) -> TrainState:
    """The state before the first step, both steps having been traced on batches like theirs."""
    inputs = jax.eval_shape(lambda batch: recipe.task.inputs(recipe.prepare(batch)), train_batch)
    state = create_state(recipe.model, recipe.optimizer, inputs, seed=seed)
    jax.eval_shape(partial(train_step, recipe=recipe), state, train_batch)
    try:
        jax.eval_shape(partial(eval_step, recipe=recipe), state, test_batch)
    except Exception as error:
        shapes = [jax.tree.map(lambda array: array.shape[1:], batch) for batch in (test_batch, train_batch)]
        differing = [f"{name} {shapes[0].get(name)} and {shapes[1].get(name)}" for name in shapes[1]]
        if shapes[0] == shapes[1]:
            raise
        raise ValueError(
            f"the model does not take the test examples; they and the training examples have the shapes"
            f" {', '.join(differing)}: bring pictures to one size (--image-size N)"
        ) from error
    return state


def _evaluator(recipe: Recipe, mesh: Mesh, feed: Feed) -> Callable[..., Evaluation]:
    """A function that evaluates a state on all of a source, compiled at its first use."""
    run = None

    def evaluate(state: TrainState, *, keep: bool) -> Evaluation:
        nonlocal run
        sums, examples, predictions, kept = [], [], [], 0
        for batch in feed.once():
            (on_device,) = parallel.to_devices([batch], mesh)
            if run is None:
                run = parallel.compile_step(partial(eval_step, recipe=recipe), mesh, state, on_device, feed.on_device)
            metrics, predicted = run(state, on_device, feed.on_device)
            sums.append(metrics)
            if keep and kept < KEPT_BYTES:
                whole = gather(feed.examples, batch)
                pair = _valid((whole, jax.device_get(predicted)), whole["valid"])
                examples.append(pair[0])
                predictions.append(pair[1])
                kept += sum(array.nbytes for array in jax.tree.leaves(pair))
        return Evaluation(recipe.task.summarize(_merge(sums)), _concatenate(examples), _concatenate(predictions))

    return evaluate


def _valid(tree: Any, valid: np.ndarray) -> Any:
    return jax.tree.map(lambda array: array[valid], tree)


def _merge(parts: list[Any]) -> Any:
    """Metrics of several batches as those of one: what has a method `merge` by it, all else by addition."""

    def merges(part: Any) -> bool:
        return hasattr(part, "merge")

    def merged(*those: Any) -> Any:
        return those[0].merge(those) if merges(those[0]) else np.sum(those, axis=0)

    return jax.tree.map(merged, *jax.device_get(parts), is_leaf=merges)


def _concatenate(parts: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts) if parts else {}


def _check_finite(pending: list[StepMetrics], step: int, rate: float) -> None:
    """Raises FloatingPointError for the first loss that is not finite, of the steps up to `step`."""
    losses = jax.device_get([metrics.loss for metrics in pending])
    for number, loss in enumerate(losses, step - len(pending) + 1):
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the training loss is {loss} at step {number}, with learning rate {rate:.3g}; try a lower one, and"
                f" look for NaN in the data and for labels that name no class"
            )


def _describe(thing: Any) -> str:
    """A repr that is the same in the next process: without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(thing).split()))


def _header(
    model: Model, state: TrainState, mesh: Mesh, experiment: Experiment, folder: Path, total: int, done: int
) -> str:
    params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    types = sorted({leaf.dtype.name for leaf in jax.tree.leaves(state.params)})
    return (
        f"{type(model).__name__}, {params:,} {'/'.join(types)} parameters,"
        f" on {mesh.size} {mesh.devices.flat[0].device_kind} device(s)\n"
        f"{f'resuming at step {done} of' if done else 'training'} {total} steps of {experiment.batch_size},"
        f" {experiment.optimizer.name} with {experiment.schedule.name} learning rate"
        f" {experiment.optimizer.learning_rate:g}\n"
        f"run folder: {folder}"
    )
