"""Timing and metrics of the training steps since the last row of a run's log."""

import io
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from cnnjax.data.batches.loader import Fault
from cnnjax.tasks import Task, merge
from cnnjax.train.plan import CALLS_AHEAD
from cnnjax.train.step import StepMetrics
from cnnjax.train.throughput import OPERATIONS_PER_MAC


class Span:
    """Calls of the step, whose results stay on the device until a row is made of them, or a checkpoint.

    Attributes:
        faults: the examples among them that could not be read.
    """

    def __init__(self) -> None:
        """Begins now, with no call."""
        self.faults: list[Fault] = []
        self._calls: list[tuple[int, StepMetrics]] = []
        self._fetched = 0
        self._looked_at = 0
        self._before = 0.0
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

    def skipped(self, *, calls_ago: int = CALLS_AHEAD) -> tuple[int, int]:
        """The most skipped steps in a row that a call reported, and how many steps came after the last of them.

        Looked at are the calls that were not looked at before, but for the newest `calls_ago`; they are waited for.
        """
        worst, later = 0, 0
        for place in range(self._looked_at, len(self._calls) - calls_ago):
            in_a_row = np.atleast_1d(self._calls[place][1].skipped_in_a_row)
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
        steps = self._steps()
        seconds = self._seconds() / len(steps)
        row: dict[str, Any] = {
            "train": task.summarize(merge([part for step in steps for part in step.metrics])),
            "gradient_norm": float(np.mean([step.gradient_norm for step in steps])),
            "seconds_per_step": seconds,
            "examples_per_second": batch_size / seconds,
            "waiting_for_input": self._waiting / (seconds * len(steps)),
        }
        if macs is not None and peak is not None:
            row["utilisation"] = OPERATIONS_PER_MAC * macs / seconds / peak
        if skipped := sum(int(step.skipped_in_a_row > 0) for step in steps):
            row["skipped"] = skipped
        return row

    def pack(self) -> bytes | None:
        """All that the row of these calls will need, for a process that goes on after them; None where it is nothing.

        The steps are kept one by one: rounded sums of them, added up in another order, would be another row.
        """
        steps = self._steps()
        if not steps and not self.faults:
            return None
        leaves = jax.tree.leaves(jax.tree.map(lambda *leaves: np.stack(leaves), *steps)) if steps else []
        arrays = {f"leaf {place}": leaf for place, leaf in enumerate(leaves)}
        told = {"faults": json.dumps(self.faults), "seconds": self._seconds(), "waiting": self._waiting}
        file = io.BytesIO()
        np.savez(file, **arrays, **told, steps=len(steps))
        return file.getvalue()

    @classmethod
    def unpack(cls, packed: bytes | None, like: StepMetrics) -> "Span":
        """The span that was packed, whose metrics are of a tree and types like those of one step; a new one of None."""
        span = cls()
        if packed is None:
            return span
        with np.load(io.BytesIO(packed)) as file:
            count = int(file["steps"])
            span.faults = [Fault(*fault) for fault in json.loads(str(file["faults"]))]
            span._before, span._waiting = float(file["seconds"]), float(file["waiting"])
            if count:
                types, tree = jax.tree.flatten(like)
                # NumPy does not know the names of types such as bfloat16, but keeps their bytes.
                leaves = [file[f"leaf {place}"].view(leaf.dtype) for place, leaf in enumerate(types)]
                span._calls = [(1, step) for step in _split(count, jax.tree.unflatten(tree, leaves))]
        span._fetched = span._looked_at = count
        return span

    def __bool__(self) -> bool:
        """Whether there is a call."""
        return bool(self._calls)

    def _seconds(self) -> float:
        return self._before + time.perf_counter() - self._began

    def _steps(self) -> list[StepMetrics]:
        """The metrics of all calls step by step, each fetched from the device once."""
        self._calls[self._fetched :] = jax.device_get(self._calls[self._fetched :])
        self._fetched = len(self._calls)
        return [
            step for count, metrics in self._calls for step in ([metrics] if count == 1 else _split(count, metrics))
        ]


def _split(count: int, metrics: StepMetrics) -> Sequence[StepMetrics]:
    """The metrics of several steps, one by one."""
    return [jax.tree.map(lambda leaf, place=place: leaf[place], metrics) for place in range(count)]
