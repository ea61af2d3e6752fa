"""`fit`: everything from given parts and settings to a finished run."""

import io
import re
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import optax
from rich.console import Console
from rich.filesize import decimal

from cnnjax.data.augment import unchanged
from cnnjax.data.pictures.read import Read, decode_example
from cnnjax.data.sources.source import Source
from cnnjax.models import Model
from cnnjax.settings import Training, differences
from cnnjax.tasks import Task
from cnnjax.train import throughput
from cnnjax.train.allocator import keep_memory
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.hosts import from_first_process, on_first_process, release
from cnnjax.train.interruption import interruptible
from cnnjax.train.log import MetricsLog
from cnnjax.train.loop import Conclude, Loop, TrainResult
from cnnjax.train.memory import check_memory
from cnnjax.train.output import outlasting
from cnnjax.train.parallel import replicate
from cnnjax.train.progress import print_text, reporting
from cnnjax.train.run_folder import RECORD, check_run_folder, make_record, open_run_folder, refuse_drift
from cnnjax.train.setup import Inputs, Setup, identity_of, set_up
from cnnjax.train.span import Span
from cnnjax.train.state import TrainState
from cnnjax.view.text import escape_unencodable


def fit(
    model: Model,
    task: Task,
    train_source: Source,
    test_source: Source,
    training: Training,
    *,
    validation_source: Source | None = None,
    variables: Mapping[str, Any] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    schedule: optax.Schedule | None = None,
    read: Read = decode_example,
    read_training: Read | None = None,
    prepare: Callable[[Any], Any] = lambda batch: batch,
    augment: Callable[[jax.Array, Any], Any] = unchanged,
    name: str | None = None,
    record: Mapping[str, Any] | None = None,
    count_macs: Callable[[Any], int | None] | None = None,
    conclude: Conclude | None = None,
    finish: Callable[[TrainResult], Any] | None = None,
    console: Console | None = None,
) -> TrainResult:
    """Trains, tests after every epoch, saves, and logs; resumes where told to.

    After every epoch the validation examples are tested, and the test examples once, at the end, with the checkpoint
    of the highest score. Without validation examples, the test examples are tested after every epoch, the result is
    that of the last step, and they choose nothing but the checkpoint that is kept as the best one.

    A step whose numbers are not finite is skipped. SIGTERM and Ctrl-C let the step finish and save it. Several
    processes call this alike; the first of them writes and prints.

    Args:
        model: a Flax module, called as `model(inputs, train=...)`. All its collections are carried and saved.
        task: loss, metrics and predictions.
        train_source: examples to train on.
        test_source: examples to test on.
        training: the settings.
        validation_source: examples to test on after every epoch.
        variables: to start from, all collections of the model; drawn where None. A run that goes on from a checkpoint
            needs none.
        optimizer: an Optax rule of your own, in the place of that of the settings.
        schedule: learning rate by step, of your own; it is only logged where `optimizer` is given.
        read: makes arrays of an example, such as `data.ReadPictures(224)`.
        read_training: the same for training, where every reading draws anew, as random crops do.
        prepare: changes every batch on the device, after `augment`.
        augment: (key, batch) to batch: changes training batches on the device.
        name: what log and folder call the model; its class's name where None.
        record: plain values, such as statistics that `prepare` uses; saved with the run, compared when it resumes.
        count_macs: multiply-accumulates of the model on one example of a shape, for the log's utilisation; of several
            inputs it is given a tree of shapes. None where they are not known.
        conclude: what is learned after the last step and not by gradients: called with the variables (those of the
            best checkpoint, where validation examples choose it), the run's folder, and a function that says whether
            the run was asked to end; gives the collections that changed, none of them parameters, or None where it
            ended. They are tested and saved as one step more.
        finish: is called last, by the first process, while no other run may write in the folder.
        console: to print to.

    Raises:
        ValueError: the batch cannot be split over the devices, or the data does not fit the model or the task.
        MemoryError: the devices have less memory than a step needs.
        FileExistsError, FileNotFoundError: the run folder (see `check_run_folder`).
        BlockingIOError: another run is at work in the run folder.
        FloatingPointError: too many steps in a row were skipped.
        KeyboardInterrupt, SystemExit: the run was interrupted, and saved.
    """
    began, leads = time.perf_counter(), jax.process_index() == 0
    escape_unencodable()
    console, output = outlasting((console or Console()) if leads else Console(file=io.StringIO()))
    inputs = Inputs(
        model=model,
        task=task,
        train_source=train_source,
        test_source=test_source,
        validation_source=validation_source,
        variables=variables,
        optimizer=optimizer,
        schedule=schedule,
        read=read,
        read_training=read_training,
        prepare=prepare,
        augment=augment,
    )
    setup = set_up(inputs, _resumed(training), console)
    with ExitStack() as open_until_the_end:
        loop = _prepare_loop(
            inputs, setup, name or type(model).__name__, record or {}, count_macs, console, open_until_the_end
        )
        first_step = loop.step
        with interruptible(setup.parallel.mesh, output) as interruption:
            loop.run(interruption)
            if conclude is not None:
                loop.conclude(conclude, interruption)
            result = loop.result(interruption, first_step=first_step, began=began)
        release()
        if leads:
            loop.write(result)
            if finish is not None:
                finish(result)
    return result


def _resumed(training: Training) -> Training:
    """Settings that resume where they are restartable and a run is there."""
    folder = training.folder
    if not folder.restartable or folder.run_dir is None:
        return training
    there = jax.process_index() == 0 and (folder.run_dir / RECORD).is_file()
    resume = from_first_process("yes" if there else "") == "yes"
    return replace(training, folder=replace(folder, resume=resume))


def _prepare_loop(
    inputs: Inputs,
    setup: Setup,
    name: str,
    record: Mapping[str, Any],
    count_macs: Callable[[Any], int | None] | None,
    console: Console,
    open_until_the_end: ExitStack,
) -> Loop:
    """Makes or restores the state, compiles, and opens the folder; nothing is written before everything fits."""
    training, parallel = setup.training, setup.parallel
    say = partial(print_text, console)
    sample = setup.train_feed.sample()
    state, of_a_step = setup.first_state(sample, inputs.variables)
    like = replicate(parallel.mesh, state)
    identity = {
        "name": name,
        "sources": {
            "training": _told(inputs.train_source),
            "validation": None if inputs.validation_source is None else _told(inputs.validation_source),
            "test": _told(inputs.test_source),
        },
        "model": describe(inputs.model),
        "task": describe(inputs.task),
        **record,
        **identity_of(inputs, setup, state),
    }
    whole = make_record(training, identity)
    on_first_process(partial(check_run_folder, training.folder, whole))
    say(_header(name, inputs, setup, like))
    state = parallel.replicate(like)
    began = time.perf_counter()
    calls = setup.compile(state, sample)
    needed = check_memory(
        calls[1], state, parallel.mesh, batch_size=training.batch_size, accumulate=training.accumulate
    )
    macs = None if count_macs is None else count_macs(_one(setup, sample))
    if macs is not None:
        macs *= training.batch_size
    say(_compiled(time.perf_counter() - began, needed, macs))
    opened = open_until_the_end.enter_context
    folder, check_lock = opened(
        open_run_folder(training.folder, whole, name=_folder_name(name, inputs.train_source), report=say)
    )
    checkpoints = opened(Checkpoints(folder / "checkpoints", training.saving, report=say))
    done, span = 0, Span()
    if training.folder.resume and checkpoints.latest is not None:
        restored = _restored(checkpoints, like, whole, training, say)
        state, done = parallel.replicate(restored), int(restored.step)
        span = Span.unpack(checkpoints.unfinished_row(done), of_a_step)
        setup.faults.clear()  # what reading all of a source finds was logged when the run began
    say(f"resuming at step {done} in {folder}" if done else f"run folder: {folder}")
    # A run that was stopped in its test goes on with the test and its row.
    owed = (0,) if span and setup.plan.logs(done) else ()
    log = opened(MetricsLog(folder, step=done - len(owed))) if jax.process_index() == 0 else None
    progress = opened(reporting(setup.plan.total, done, console))
    profile = opened(throughput.profiling(folder / "profile" if training.profile else None))
    peak = None if macs is None else throughput.peak(parallel.mesh, training.precision)
    keep_memory()
    return Loop(
        setup=setup,
        calls=calls,
        record=whole,
        folder=folder,
        check_lock=check_lock,
        checkpoints=checkpoints,
        log=log,
        progress=progress,
        profile=profile,
        macs=macs,
        peak=peak,
        owed=owed,
        state=state,
        step=done,
        span=span,
    )


def _restored(
    checkpoints: Checkpoints,
    like: TrainState,
    ours: Mapping[str, Any],
    training: Training,
    say: Callable[[str], Any],
) -> TrainState:
    """The newest whole state of a run, if it was saved by the same run; other versions are told."""
    restored = checkpoints.restore(like)
    saved = checkpoints.record(int(restored.step))
    refuse_drift(saved, ours, str(training.folder.run_dir), allowed=training.folder.allow_drift)
    if changed := differences(saved["versions"], ours["versions"]):
        say(f"warning: saved by other versions ({'; '.join(changed)}); the rest may be rounded otherwise")
    for part in ("optimizer", "schedule"):
        if f"{part} from Python" in ours:
            what = "the kinds of its states" if part == "optimizer" else "some of its rates"
            say(f"note: the {part} was given from Python; of it only {what} could be compared with the saved run's")
    return restored


def _one(setup: Setup, sample: Any) -> Any:
    """The shape of the model's input for one example; of several inputs, a tree of shapes."""
    task, prepare = setup.recipe.task, setup.recipe.prepare
    inputs = jax.eval_shape(lambda batch: task.inputs(prepare(batch), train=False), setup.training_batch(sample))
    return jax.tree.map(lambda leaf: (1, *leaf.shape[1:]), inputs)


def describe(thing: Any) -> str:
    """A repr that is the same in the next process: without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(thing).split()))


def _told(source: Source) -> dict[str, str]:
    return {"data": source.info.name, "split": source.info.split}


def _folder_name(name: str, source: Source) -> str:
    data = "".join(letter if letter.isalnum() else "-" for letter in source.info.name.split("/")[-1]).strip("-")
    return f"{name}-{data}"


def _compiled(seconds: float, needed: int | None, macs: int | None) -> str:
    told = [f"compiled in {seconds:.1f} s"]
    if needed is not None:
        where = "this machine" if jax.default_backend() == "cpu" else "each device"
        told.append(f"a step needs {decimal(needed)} on {where}")
    if macs is not None:
        told.append(f"and {3 * macs:,} multiply-accumulates")
    return ", ".join(told)


def _header(name: str, inputs: Inputs, setup: Setup, state: TrainState) -> str:
    training, mesh = setup.training, setup.parallel.mesh
    params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    types = sorted({leaf.dtype.name for leaf in jax.tree.leaves(state.params)})
    processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    optimizer = training.optimizer.name if inputs.optimizer is None else "an optimizer of your own"
    rate = f" with {training.schedule.name} learning rate {training.optimizer.learning_rate:g}"
    if inputs.schedule is not None:
        rate = " with a schedule of your own"
    elif inputs.optimizer is not None:
        rate = ""
    lines = [
        f"{name} on {inputs.train_source.info.name}: {params:,} {'/'.join(types)} parameters, computing in"
        f" {training.precision}, on {mesh.size} {mesh.devices.flat[0].device_kind} device(s){processes} by"
        f" {setup.parallel.strategy}",
        f"training {setup.plan.total} steps of {training.batch_size}, {optimizer}{rate}",
    ]
    if setup.validates:
        lines.append(
            f"the {len(setup.epoch_feed.source):,} validation examples ({setup.epoch_feed.source.info.split}) are"
            f" tested after every epoch and choose the best checkpoint; the {len(setup.test_feed.source):,} test"
            f" examples ({setup.test_feed.source.info.split}) are touched once, at the end"
        )
    return "\n".join(lines)
