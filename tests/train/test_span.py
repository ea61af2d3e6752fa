"""Rows of the log from the metrics of calls."""

import numpy as np

from cnnjax.tasks import Mean
from cnnjax.train.span import Span
from cnnjax.train.step import StepMetrics
from tests.train.toy_run import TASK


def metrics(*, right, of, norm=1.0, in_a_row=0):
    parts = ({"loss": Mean(np.float32(2 * of), np.float32(of)), "accuracy": Mean(np.float32(right), np.float32(of))},)
    return StepMetrics(np.float32(2), np.float32(norm), np.int32(in_a_row), parts)


def test_a_row_is_of_all_steps_of_all_calls():
    span = Span()
    assert span.wait_for(iter(["batch"])) == "batch"
    span.add(1, metrics(right=1, of=4, norm=1.0))
    of_two = [metrics(right=2, of=4, norm=2.0), metrics(right=0, of=0, norm=6.0, in_a_row=1)]
    stacked = StepMetrics(*(np.stack(values) for values in list(zip(*of_two, strict=True))[:3]), parts=_stacked(of_two))
    span.add(2, stacked)
    row = span.row(TASK, batch_size=4, macs=1000, peak=1e9)
    assert row["train"] == {"loss": 2.0, "accuracy": 3 / 8}
    assert row["gradient_norm"] == 3.0
    assert row["refused"] == 1
    assert row["examples_per_second"] == 4 / row["seconds_per_step"]
    # Six operations a multiply-accumulate of the forward pass.
    np.testing.assert_allclose(row["utilisation"], 6 * 1000 / row["seconds_per_step"] / 1e9)
    assert 0 <= row["waiting_for_input"] <= 1


def _stacked(steps):
    names = steps[0].parts[0]
    means = {name: [step.parts[0][name] for step in steps] for name in names}
    return ({name: Mean(*(np.stack(sums) for sums in zip(*parts, strict=True))) for name, parts in means.items()},)


def test_refused_steps_are_known_some_calls_later():
    span = Span()
    for number in range(3):
        span.add(1, metrics(right=0, of=1, in_a_row=number))
    assert span.refused(calls_ago=3) == (0, 0)
    assert span.refused(calls_ago=1) == (1, 1)
    assert span.refused(calls_ago=1) == (0, 0)
    assert span.refused(calls_ago=0) == (2, 0)
    # In a call of four steps the worst is the second, and two came after it.
    span = Span()
    span.add(4, StepMetrics(np.zeros(4), np.zeros(4), np.array([4, 5, 0, 1]), ()))
    assert span.refused(calls_ago=0) == (5, 2)
