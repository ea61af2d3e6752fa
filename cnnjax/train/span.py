"""The calls since the last row of a run's log: how long they took, what they reported, and whether they went well."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from cnnjax.tasks import Task
from cnnjax.train.evaluation import merge
from cnnjax.train.preflight import OPERATIONS_PER_MAC
from cnnjax.train.step import StepMetrics

# Calls handed to the device before the first of them is waited for.
CALLS_AHEAD = 2


class Span:
    """Calls of the step, whose results stay on the device until a row is made of them."""

    def __init__(self) -> None:
        """Begins now, with no call."""
        self._calls: list[tuple[int, StepMetrics]] = []
        self._looked_at = 0
        self._waiting = 0.0
        self._began = time.perf_counter()

    def wait_for(self, batches: Iterator[Any]) -> Any:
        """The next batch; the time until it is there counts as waiting for input."""
        asked = time.perf_counter()
        batch = next(batches)
        self._waiting += time.perf_counter() - asked
        return batch

    def add(self, steps: int, metrics: StepMetrics) -> None:
        """Notes a call of so many steps."""
        self._calls.append((steps, metrics))

    def refused(self, *, calls_ago: int = CALLS_AHEAD) -> tuple[int, int]:
        """The most refused steps in a row that a call reported, and how many steps came after the last of them.

        Looked at are the calls that were not looked at before, but for the newest `calls_ago`; they are waited for.
        """
        worst, later = 0, 0
        for place in range(self._looked_at, len(self._calls) - calls_ago):
            in_a_row = np.atleast_1d(self._calls[place][1].in_a_row)
            step = int(in_a_row.argmax())
            if in_a_row[step] > worst:
                worst = int(in_a_row[step])
                later = len(in_a_row) - 1 - step + sum(steps for steps, _ in self._calls[place + 1 :])
            self._looked_at = place + 1
        return worst, later

    def row(self, task: Task, *, batch_size: int, macs: int | None, peak: float | None) -> dict[str, Any]:
        """The numbers of all calls, which are waited for; utilisation where the peak is known.

        `macs` are those of a step's forward pass.
        """
        steps = [step for call in jax.device_get(self._calls) for step in _steps(*call)]
        seconds = (time.perf_counter() - self._began) / len(steps)
        row: dict[str, Any] = {
            "train": task.summarize(merge([part for step in steps for part in step.parts])),
            "gradient_norm": float(np.mean([step.gradient_norm for step in steps])),
            "seconds_per_step": seconds,
            "examples_per_second": batch_size / seconds,
            "waiting_for_input": self._waiting / (seconds * len(steps)),
        }
        if macs is not None and peak is not None:
            row["utilisation"] = OPERATIONS_PER_MAC * macs / seconds / peak
        if refused := sum(int(step.in_a_row > 0) for step in steps):
            row["refused"] = refused
        return row


def _steps(count: int, metrics: StepMetrics) -> Sequence[StepMetrics]:
    """The metrics of a call step by step."""
    if count == 1:
        return [metrics]
    return [jax.tree.map(lambda leaf, place=place: leaf[place], metrics) for place in range(count)]
