"""The loop: the one place where a run's state changes. It knows batches, states and metrics, and no task."""

import io
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from cnnjax.data.augment import unchanged
from cnnjax.data.batches.loader import Fault
from cnnjax.data.batches.resident import gather
from cnnjax.data.sources.class_names import compare_sources
from cnnjax.data.sources.source import Source
from cnnjax.models import Model
from cnnjax.tasks import Task
from cnnjax.train import preflight
from cnnjax.train.calls import CALLS_AHEAD, Plan
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.config import Experiment, differences
from cnnjax.train.diagnosis import lost
from cnnjax.train.evaluation import Evaluation, Evaluator
from cnnjax.train.feed import Feed, open_feed
from cnnjax.train.hosts import from_first_process, on_first_process, release
from cnnjax.train.interruption import describe_signal, interruptible, leave
from cnnjax.train.log import MetricsLog, print_text, reporting
from cnnjax.train.optimizer import make_optimizer, make_schedule
from cnnjax.train.output import outlasting
from cnnjax.train.parallel import Parallel, check_batch_size, make_mesh, whole_on
from cnnjax.train.recipe import Recipe
from cnnjax.train.run_folder import RECORD, check_run_folder, make_record, open_run_folder, refuse_drift
from cnnjax.train.span import Span
from cnnjax.train.state import TrainState
from cnnjax.train.step import StepMetrics, eval_step, train_step
from cnnjax.view.text import escape_unencodable


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
    name: str | None = None,
    prepare: Callable[[Any], Any] = lambda batch: batch,
    augment: Callable[[jax.Array, Any], Any] = unchanged,
    record: Mapping[str, Any] | None = None,
    count_macs: Callable[[tuple[int, ...]], int] | None = None,
    finish: Callable[[Fit], Any] | None = None,
    console: Console | None = None,
) -> Fit:
    """Trains, tests after every epoch, saves, and logs; resumes where told to.

    `model` is a Flax module called as `model(inputs, train=...)`. `augment` (key, batch) changes training batches on
    the device; `prepare` changes every batch after it. Model, task and data are those given; of the `experiment` count
    the settings of training. Folder, record and log call the data what `train_source.info` does, and the model `name`,
    or by its class where None. `record` (plain values, such as statistics used by `prepare`) is saved with the run and
    compared when it resumes. `count_macs` tells the multiply-accumulates of the model on one example of a shape, from
    which the log tells how much of a device's peak is used. `finish` is called last, by the first process, while no
    other run may write in the folder.

    The result is that of the last step: the test set chooses nothing. Training metrics are means over the steps since
    the last row, on augmented batches. The best checkpoint is the one of the highest `task.score` on the test set.

    A step whose numbers are not finite is refused, and changes nothing. SIGTERM and Ctrl-C let the step finish and
    save it. Several processes call this alike; the first of them writes and speaks.

    Raises:
        ValueError: the batch cannot be split over the devices, or the data does not fit the model or the task.
        MemoryError: the devices have less memory than a step needs.
        FileExistsError, FileNotFoundError: the run folder (see `check_run_folder`).
        BlockingIOError: another run is at work in the run folder.
        FloatingPointError: too many steps in a row were refused.
        KeyboardInterrupt, SystemExit: the run was interrupted, and saved.
    """
    began = time.perf_counter()
    leads = jax.process_index() == 0
    escape_unencodable()
    console, output = outlasting((console or Console()) if leads else Console(file=io.StringIO()))
    if experiment.restartable and experiment.run_dir is not None:
        there = leads and (experiment.run_dir / RECORD).is_file()
        experiment = replace(experiment, resume=from_first_process("yes" if there else "") == "yes")
    experiment = replace(
        experiment,
        model=name or type(model).__name__,
        data=train_source.info.name,
        train_split=train_source.info.split,
        test_split=test_source.info.split,
        precision=preflight.choose_precision(experiment.precision),
    )
    run = _open(experiment, model, task, train_source, test_source, prepare, augment, console)
    parallel, plan, train_feed = run.parallel, run.plan, run.train_feed
    sample = train_feed.sample()
    whole = jax.eval_shape(gather, train_feed.examples, sample)
    tested = jax.eval_shape(gather, run.test_feed.examples, run.test_feed.sample())
    state, of_a_step = _first_state(run.recipe, whole, tested, experiment.seed)
    like = whole_on(parallel.mesh, state)
    # Nothing is written before everything fits.
    identity = {"model": describe(model), "task": describe(task), "record": dict(record or {})}
    on_first_process(partial(check_run_folder, experiment, identity))
    say = partial(print_text, console)
    say(_header(like, parallel, plan))
    state, examples = parallel.place(like), train_feed.on_device
    calls, compiling = _compile(run, state, sample, examples)
    needed = preflight.check_memory(
        calls[1], state, parallel.mesh, batch_size=experiment.batch_size, accumulate=experiment.accumulate
    )
    macs = None if count_macs is None else count_macs(_one(run.recipe, whole)) * experiment.batch_size
    say(preflight.describe(compiling, needed, macs, parallel.mesh))
    peak = None if macs is None else preflight.peak(parallel.mesh, experiment.precision)
    kept = make_record(experiment, identity)
    with (
        open_run_folder(experiment, identity, report=say) as (folder, check_lock),
        Checkpoints(folder / "checkpoints", experiment.saving, report=say) as checkpoints,
    ):
        done, span = 0, Span()
        if experiment.resume and checkpoints.latest is not None:
            restored = _restored(checkpoints, like, kept, experiment, say)
            state, done = parallel.place(restored), int(restored.step)
            span = Span.unpack(checkpoints.unfinished_row(done), of_a_step)
            run.faults.clear()  # what reading all of a source finds was logged when the run began
        say(f"resuming at step {done} in {folder}" if done else f"run folder: {folder}")
        # A run that was stopped in its test goes on with the test and its row.
        owed = (0,) if span and plan.logs(done) else ()
        evaluate, evaluation, step = Evaluator(run.recipe, parallel, run.test_feed), None, done
        of_calls: deque[list[Fault]] = deque()
        with (
            MetricsLog(folder, step=done - len(owed)) if leads else nullcontext() as log,
            reporting(plan.total, done, console) as report,
            interruptible(parallel.mesh, output) as interruption,
            preflight.profiling(folder / "profile" if experiment.profile else None) as profile,
            closing(train_feed.shuffled(seed=experiment.seed, start=done * experiment.batch_size)) as batches,
            closing(_arriving(batches, run, done, of_calls)) as arriving,
        ):
            for size in chain(owed, plan.calls(done)):
                if size:
                    profile.call()
                    batch = span.wait_for(arriving)
                    span.faults += of_calls.popleft()
                    state, metrics = calls[size](state, batch, examples)
                    step += size
                    span.add(size, metrics)
                    report.advance(size)
                    check_lock()
                    checkpoints.check()
                    refused, later = span.refused(calls_ago=0 if plan.logs(step) else CALLS_AHEAD)
                    if refused >= min(experiment.most_refused, plan.total):
                        at = step - later
                        raise lost(
                            run.recipe, parallel, state, at, refused, train_feed, experiment.seed, run.rate(at), folder
                        )
                tests, score = plan.epoch_ends(step), None
                if tests:
                    evaluation = evaluate(parallel.collect(state), keep=step == plan.total, asked=interruption.asked)
                    if evaluation is not None:  # else the test begins anew
                        span.faults += run.faults
                    run.faults.clear()
                if plan.logs(step) and not (tests and evaluation is None):
                    row = {
                        "step": step,
                        "epoch": plan.epoch(step),
                        "learning_rate": run.rate(step),
                        **span.row(task, batch_size=experiment.batch_size, macs=macs, peak=peak),
                    }
                    if tests and evaluation is not None:
                        row["test"] = evaluation.summary
                        score = task.score(evaluation.summary)
                    if log is not None:
                        if experiment.loading.unreadable != "raise":
                            row["unreadable"] = log.faults(step, span.faults)
                        log.write(row)
                    report.row(row)
                    span = Span()
                number = interruption.asked()
                if number is not None:
                    report.say(f"{describe_signal(number)}: saving step {step}, then leaving; once more leaves at once")
                # After its row: a run that dies in between repeats the steps, and the log forgets the row.
                if plan.saves(step) or number is not None:
                    begun = span.pack()
                    checkpoints.save(parallel.collect(state), step, score=score, record=kept, unfinished_row=begun)
                if number is not None:
                    checkpoints.wait()
                    leave(number)
            if evaluation is None:
                evaluation = evaluate(parallel.collect(state), keep=True, asked=interruption.asked)
            number, best = interruption.asked(), checkpoints.best
            if number is not None or evaluation is None:
                leave(number or signal.SIGTERM)
        best_score = float("nan") if best is None else checkpoints.score(best)
        release()
        result = Fit(folder, parallel.collect(state), evaluation, best, best_score, done, time.perf_counter() - began)
        if leads and finish is not None:
            finish(result)
    return result


@dataclass(frozen=True, eq=False)
class _Run:
    """What a run is made of before its first step: its settings, devices, data, and what a step computes."""

    experiment: Experiment
    parallel: Parallel
    recipe: Recipe
    plan: Plan
    schedule: Callable[[Any], Any]
    train_feed: Feed
    test_feed: Feed
    faults: list[Fault]

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1."""
        return float(np.asarray(self.schedule(step - 1)))


def _open(
    experiment: Experiment,
    model: Model,
    task: Task,
    train_source: Source,
    test_source: Source,
    prepare: Callable[[Any], Any],
    augment: Callable[[jax.Array, Any], Any],
    console: Console,
) -> _Run:
    """Lays out the devices, opens the data, and puts together what a step computes; small data is read now."""
    remarks = compare_sources(train_source, test_source)
    parallel = Parallel(make_mesh(experiment.devices), experiment.parallel, experiment.bn)
    check_batch_size(experiment.batch_size, parallel.mesh, accumulate=experiment.accumulate)
    _check_processes(train_source, test_source)
    told = [(s.info.name, remark) for s in (train_source, test_source) for remark in s.info.remarks]
    told += [(train_source.info.name, remark) for remark in remarks]
    for name, remark in dict.fromkeys(told):
        print_text(console, f"note: {name}: {remark}")
    faults: list[Fault] = []
    opened = partial(open_feed, experiment=experiment, parallel=parallel, on_fault=faults.append, console=console)
    train_feed, test_feed = opened(train_source, training=True), opened(test_source)
    plan = Plan(experiment, len(train_source))
    schedule = make_schedule(experiment.schedule, learning_rate=experiment.optimizer.learning_rate, steps=plan.total)
    recipe = Recipe(
        model,
        task,
        make_optimizer(experiment.optimizer, schedule),
        augment,
        prepare,
        accumulate=experiment.accumulate,
        average=experiment.average,
        loss_scaling=experiment.precision == "float16",
    )
    return _Run(experiment, parallel, recipe, plan, schedule, train_feed, test_feed, faults)


def _restored(
    checkpoints: Checkpoints,
    like: TrainState,
    ours: Mapping[str, Any],
    experiment: Experiment,
    say: Callable[[str], Any],
) -> TrainState:
    """The newest whole state of a run, if it was saved by the same run; other versions are told."""
    restored = checkpoints.restore(like)
    saved = checkpoints.record(int(restored.step))
    refuse_drift(saved, ours, str(experiment.run_dir), allowed=experiment.allow_drift)
    if changed := differences(saved["versions"], ours["versions"]):
        say(f"warning: saved by other versions ({'; '.join(changed)}); the rest may be rounded otherwise")
    return restored


def _check_processes(*sources: Source) -> None:
    for source in sources:
        if jax.process_count() > len(source):
            raise ValueError(
                f"{jax.process_count()} processes came, and {source.info.name} ({source.info.split}) has {len(source)}"
                " examples; start fewer"
            )


def _first_state(recipe: Recipe, train_batch: Any, test_batch: Any, seed: int) -> tuple[TrainState, StepMetrics]:
    """The state before the first step, and types of what a step reports, both traced on batches like theirs."""
    inputs = jax.eval_shape(lambda batch: recipe.task.inputs(recipe.prepare(batch)), train_batch)
    state = recipe.first_state(inputs, seed=seed)
    _, metrics = jax.eval_shape(partial(train_step, recipe=recipe), state, train_batch)
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
    return state, metrics


def _compile(run: _Run, state: Any, sample: Any, examples: Any) -> tuple[dict[int, Any], float]:
    """The compiled calls of a run by the number of their steps, and the seconds that compiling took."""
    began, calls = time.perf_counter(), {}
    for steps in sorted({1, run.experiment.steps_per_call}):
        batch = run.parallel.shapes(sample, steps=steps)
        calls[steps] = run.parallel.compile_training(run.recipe, state, batch, examples, steps=steps)
    return calls, time.perf_counter() - began


def _arriving(batches: Iterator[Any], run: _Run, done: int, of_calls: deque[list[Fault]]) -> Generator[Any, None, None]:
    """What each call takes, on the devices: a batch, or several as one; what was not readable goes to `of_calls`."""

    def taken() -> Generator[Any, None, None]:
        for size in run.plan.calls(done):
            batch = next(batches) if size == 1 else [next(batches) for _ in range(size)]
            of_calls.append(run.faults.copy())
            run.faults.clear()
            yield batch

    yield from run.parallel.to_devices(taken(), training=True)


def _one(recipe: Recipe, batch: Any) -> tuple[int, ...]:
    """The shape of the model's input for one example."""
    inputs = jax.eval_shape(lambda batch: recipe.task.inputs(recipe.prepare(batch)), batch)
    return (1, *inputs.shape[1:])


def describe(thing: Any) -> str:
    """A repr that is the same in the next process: without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(thing).split()))


def _header(state: TrainState, parallel: Parallel, plan: Plan) -> str:
    experiment, mesh = plan.experiment, parallel.mesh
    params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    types = sorted({leaf.dtype.name for leaf in jax.tree.leaves(state.params)})
    processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return (
        f"{experiment.model} on {experiment.data}: {params:,} {'/'.join(types)} parameters, computing in"
        f" {experiment.precision}, on {mesh.size} {mesh.devices.flat[0].device_kind} device(s){processes} by"
        f" {parallel.way}\n"
        f"training {plan.total} steps of {experiment.batch_size}, {experiment.optimizer.name} with"
        f" {experiment.schedule.name} learning rate {experiment.optimizer.learning_rate:g}"
    )
