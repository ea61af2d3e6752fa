"""The loop: the one place where a run's state changes. It knows batches, states and metrics, and no task."""

import json
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from cnnjax.data.batches.loader import Fault
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.diagnosis import divergence_error
from cnnjax.train.evaluation import Evaluation, Evaluator
from cnnjax.train.interruption import Interruption, describe_signal, leave
from cnnjax.train.log import MetricsLog, describe
from cnnjax.train.manifest import write_whole
from cnnjax.train.parallel import replicate
from cnnjax.train.plan import CALLS_AHEAD
from cnnjax.train.progress import RunProgress
from cnnjax.train.setup import Setup
from cnnjax.train.span import Span
from cnnjax.train.state import TrainState
from cnnjax.train.throughput import Profile

RESULT = "result.json"

# Variables, the run's folder, and whether the run is asked to end, to collections that take the place of the model's
# own, none of them its parameters; None where it ended.
Conclude: TypeAlias = Callable[[Mapping[str, Any], Path, Callable[[], int | None]], Mapping[str, Any] | None]


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What a run leaves.

    Attributes:
        run_dir: its folder.
        state: the last one; with validation examples, that of the best checkpoint, which was tested.
        evaluation: of this state on the test split.
        best_step: the step of the highest score; None where no checkpoint with a score was kept.
        best_score: its score.
        chosen_on: the split that the scores are of.
        first_step: where the run began or was resumed.
        seconds: since then.
    """

    run_dir: Path
    state: TrainState
    evaluation: Evaluation
    best_step: int | None
    best_score: float
    chosen_on: str
    first_step: int
    seconds: float


@dataclass(eq=False)
class Loop:
    """A run between its steps: everything is fixed but state, step, span and the last evaluation.

    Attributes:
        setup: what the run is made of.
        calls: the compiled calls of the device, by the number of their steps.
        record: what the run is, saved with every checkpoint.
        folder: of the run.
        check_lock: raises OSError once the folder is no longer this run's.
        checkpoints: in the folder.
        log: of metrics; None in all processes but the first.
        progress: on the screen.
        profile: a trace of some calls.
        macs: multiply-accumulates of a step's forward pass; None where they are not known.
        peak: floating-point operations a second that the devices can do; None where it is not known.
        owed: (0,) where the run was stopped in the test of its last step, whose row is still to be written.
        state: after the last step.
        step: its number.
        span: the steps since the last row of the log.
        evaluation: the last one.
    """

    setup: Setup
    calls: Mapping[int, Any]
    record: Mapping[str, Any]
    folder: Path
    check_lock: Callable[[], None]
    checkpoints: Checkpoints
    log: MetricsLog | None
    progress: RunProgress
    profile: Profile
    macs: int | None
    peak: float | None
    owed: tuple[int, ...]
    state: TrainState
    step: int
    span: Span
    evaluation: Evaluation | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        setup = self.setup
        self._evaluate = Evaluator(setup.recipe, setup.parallel, setup.epoch_feed)

    def run(self, interruption: Interruption) -> None:
        """All calls that are left; between two of them, what is due: test, row, checkpoint, and the way out."""
        setup, plan = self.setup, self.setup.plan
        if not self.owed and plan.epoch_ends(self.step) and plan.is_over(self.step, self._best()):
            return
        start, of_calls = self.step * setup.training.batch_size, deque[list[Fault]]()
        with (
            closing(setup.train_feed.shuffled(seed=setup.training.seed, start=start)) as batches,
            closing(_arriving(batches, setup, self.step, of_calls)) as arriving,
        ):
            for size in chain(self.owed, plan.calls(self.step)):
                if size:
                    self._call(size, arriving, of_calls)
                score = None
                if plan.epoch_ends(self.step):
                    self._test(interruption)
                    score = None if self.evaluation is None else self._score(self.evaluation)
                if plan.logs(self.step) and not (plan.epoch_ends(self.step) and self.evaluation is None):
                    self._write_row()
                self._save_or_leave(score, interruption)
                if plan.epoch_ends(self.step) and plan.is_over(self.step, self._best()):
                    self.progress.say(
                        f"ended early after step {self.step}: {setup.training.patience} epochs without a better score"
                    )
                    return

    def conclude(self, change: Conclude, interruption: Interruption) -> None:
        """Learns what is not learned by gradients, tests it, and saves it as one step more; a resumed run has it."""
        setup, last = self.setup, self.setup.plan.total + 1
        if self.step == last:
            return
        state = setup.parallel.unreplicate(self.state)
        best = self.checkpoints.best if setup.validates and setup.training.saving.keep_best else None
        if best is not None and best != self.step:
            state = self.checkpoints.restore(state, best)
        changed = change(state.variables, self.folder, interruption.asked)
        if changed is None:
            leave(interruption.asked() or signal.SIGTERM)
        state = state.replace(
            step=np.int32(last),
            model_state={**state.model_state, **changed},
            averages={**state.averages, **changed} if state.averages else {},
        )
        self.state, self.step = setup.parallel.replicate(replicate(setup.parallel.mesh, state)), last
        self._test(interruption)
        score = None
        if self.evaluation is not None:
            score = self._score(self.evaluation)
            row = {"step": last, "epoch": setup.plan.epoch(setup.plan.total), self.tested: self.evaluation.summary}
            if self.log is not None:
                self.log.write(row)
            self.progress.say(f"what is not learned by gradients is learned too: {describe(row)}")
        self._save_or_leave(score, interruption)

    def _call(self, size: int, arriving: Iterator[Any], of_calls: deque[list[Fault]]) -> None:
        """Takes so many steps in one call of the device."""
        setup = self.setup
        self.profile.call()
        batch = self.span.wait_for(arriving)
        self.span.faults += of_calls.popleft()
        self.state, metrics = self.calls[size](self.state, batch, setup.train_feed.on_device)
        self.step += size
        self.span.add(size, metrics)
        self.progress.advance(size)
        self.check_lock()
        self.checkpoints.check()
        skipped, later = self.span.skipped(calls_ago=0 if setup.plan.logs(self.step) else CALLS_AHEAD)
        if skipped >= min(setup.training.most_skipped, setup.plan.total):
            raise divergence_error(setup, self.state, self.step - later, skipped, self.folder)

    def _test(self, interruption: Interruption) -> None:
        """Tests the state after an epoch; None where the test was interrupted, and begins anew when the run resumes."""
        setup = self.setup
        keep = not setup.validates and (self.step >= setup.plan.total or setup.training.patience is not None)
        self.evaluation = self._evaluate(setup.parallel.unreplicate(self.state), keep=keep, asked=interruption.asked)
        if self.evaluation is not None:
            self.span.faults += setup.faults
        setup.faults.clear()

    def _write_row(self) -> None:
        setup, plan = self.setup, self.setup.plan
        training = setup.training
        row: dict[str, Any] = {"step": self.step, "epoch": plan.epoch(self.step)}
        if (rate := setup.rate(self.step)) is not None:
            row["learning_rate"] = rate
        row |= self.span.row(setup.recipe.task, batch_size=training.batch_size, macs=self.macs, peak=self.peak)
        if plan.epoch_ends(self.step) and self.evaluation is not None:
            row[self.tested] = self.evaluation.summary
        if self.log is not None:
            if training.loading.unreadable != "raise":
                row["unreadable"] = self.log.faults(self.step, self.span.faults)
            self.log.write(row)
        self.progress.row(row)
        self.span = Span()

    def _save_or_leave(self, score: float | None, interruption: Interruption) -> None:
        """Saves where it is due; after the row, so that a run that dies in between repeats the steps and their row."""
        number = interruption.asked()
        if number is not None:
            self.progress.say(
                f"{describe_signal(number)}: saving step {self.step}, then leaving; once more leaves at once"
            )
        if self.setup.plan.saves(self.step) or self.step > self.setup.plan.total or number is not None:
            state = self.setup.parallel.unreplicate(self.state)
            begun = self.span.pack()
            self.checkpoints.save(state, self.step, score=score, record=self.record, unfinished_row=begun)
        if number is not None:
            self.checkpoints.wait()
            leave(number)

    @property
    def tested(self) -> str:
        """What log and result call the split that is tested after every epoch."""
        return "validation" if self.setup.validates else "test"

    def _score(self, evaluation: Evaluation) -> float:
        return self.setup.recipe.task.score(evaluation.summary)

    def _best(self) -> int | None:
        """The step of the best checkpoint, where patience asks for it."""
        return None if self.setup.training.patience is None else self.checkpoints.best

    def result(self, interruption: Interruption, *, first_step: int, began: float) -> TrainResult:
        """What the run leaves, after the test of its end."""
        setup = self.setup
        best = self.checkpoints.best if setup.training.saving.keep_best else None
        state, evaluation = setup.parallel.unreplicate(self.state), self.evaluation
        if setup.validates:
            if best is not None and best != self.step:
                state = self.checkpoints.restore(state, best)
            which = "the last" if best is None else f"the best on the {self.tested} split"
            self.progress.say(f"testing step {int(state.step)}, {which}, on the test split")
            evaluation = Evaluator(setup.recipe, setup.parallel, setup.test_feed)(
                state, keep=True, asked=interruption.asked
            )
        elif evaluation is None:
            evaluation = self._evaluate(state, keep=True, asked=interruption.asked)
        number = interruption.asked()
        if number is not None or evaluation is None:
            leave(number or signal.SIGTERM)
        best_score = float("nan") if best is None else self.checkpoints.score(best)
        seconds = time.perf_counter() - began
        chosen_on = setup.epoch_feed.source.info.split
        return TrainResult(self.folder, state, evaluation, best, best_score, chosen_on, first_step, seconds)

    def write(self, result: TrainResult) -> None:
        """Writes `result.json`: the numbers that are reported, of which split and step, and what chose the best."""
        best = None
        if result.best_step is not None:
            best = {"step": result.best_step, "score": result.best_score, "chosen on": result.chosen_on}
        evaluation = result.evaluation
        told = {"split": evaluation.split, "step": evaluation.step, **evaluation.summary, "best checkpoint": best}
        finite = {
            name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in told.items()
        }
        write_whole(result.run_dir / RESULT, json.dumps(finite, indent=2) + "\n")


def _arriving(
    batches: Iterator[Any], setup: Setup, done: int, of_calls: deque[list[Fault]]
) -> Generator[Any, None, None]:
    """What each call takes, on the devices: a batch, or several as one; what was not readable goes to `of_calls`."""

    def taken() -> Generator[Any, None, None]:
        for size in setup.plan.calls(done):
            batch = next(batches) if size == 1 else [next(batches) for _ in range(size)]
            of_calls.append(setup.faults.copy())
            setup.faults.clear()
            yield batch

    yield from setup.parallel.to_devices(taken(), training=True)
