"""Rows of the log from the metrics of calls."""

import time

import jax.numpy as jnp
import numpy as np

from cnnjax.data.batches.loader import Fault
from cnnjax.tasks import Classification, Mean, Rows
from cnnjax.train.span import Span
from cnnjax.train.step import StepMetrics
from tests.train.toy_run import TASK


def metrics(*, right, of, norm=1.0, in_a_row=0):
    of_task = ({"loss": Mean(np.float32(2 * of), np.float32(of)), "accuracy": Mean(np.float32(right), np.float32(of))},)
    return StepMetrics(np.float32(2), np.float32(norm), np.int32(in_a_row), of_task)


def test_a_row_is_of_all_steps_of_all_calls():
    def late():
        time.sleep(0.02)
        yield "batch"

    span = Span()
    assert span.wait_for(late()) == "batch"
    span.add(1, metrics(right=1, of=4, norm=1.0))
    of_two = [metrics(right=2, of=4, norm=2.0), metrics(right=0, of=0, norm=6.0, in_a_row=1)]
    stacked = StepMetrics(
        *(np.stack(values) for values in list(zip(*of_two, strict=True))[:3]), metrics=_stacked(of_two)
    )
    span.add(2, stacked)
    row = span.row(TASK, batch_size=4, macs=1000, peak=1e9)
    assert row["train"] == {"loss": 2.0, "accuracy": 3 / 8}
    assert row["gradient_norm"] == 3.0
    assert row["skipped"] == 1
    assert row["examples_per_second"] == 4 / row["seconds_per_step"]
    # Six operations a multiply-accumulate of the forward pass.
    np.testing.assert_allclose(row["utilisation"], 6 * 1000 / row["seconds_per_step"] / 1e9)
    # Of the three steps' time, that which the batch took.
    assert 0.02 / (3 * row["seconds_per_step"]) <= row["waiting_for_input"] <= 1


def _stacked(steps):
    names = steps[0].metrics[0]
    means = {name: [step.metrics[0][name] for step in steps] for name in names}
    return ({name: Mean(*(np.stack(sums) for sums in zip(*parts, strict=True))) for name, parts in means.items()},)


def test_skipped_steps_are_known_some_calls_later():
    span = Span()
    for number in range(3):
        span.add(1, metrics(right=0, of=1, in_a_row=number))
    assert span.skipped(calls_ago=3) == (0, 0)
    assert span.skipped(calls_ago=1) == (1, 1)
    assert span.skipped(calls_ago=1) == (0, 0)
    assert span.skipped(calls_ago=0) == (2, 0)
    # In a call of four steps the worst is the second, and two came after it.
    span = Span()
    span.add(4, StepMetrics(np.zeros(4), np.zeros(4), np.array([4, 5, 0, 1]), ()))
    assert span.skipped(calls_ago=0) == (5, 2)


class Listing(Classification):
    """A task that summarises by what it is given."""

    def summarize(self, metrics):
        return {"scores": metrics["scores"].kept().tolist(), "half": float(metrics["half"].total)}


def listed(*scores):
    half = Mean(jnp.bfloat16(0.5), jnp.bfloat16(1))
    rows = Rows(np.array(scores, np.float32), np.array([True] * (len(scores) - 1) + [False]))
    return StepMetrics(np.float32(1), np.float32(1), np.int32(0), ({"scores": rows, "half": half},))


def test_a_span_that_is_packed_makes_the_same_row_to_the_bit():
    """Sums of 0.1, 0.2, ... in float32 depend on their order, and on where they are cut in two."""
    norms = (np.arange(1, 41) / 10).astype(np.float32)
    straight, first = Span(), Span()
    first.faults.append(Fault("digits", "train", 3, "torn \udcff"))
    for place, norm in enumerate(norms):
        for span in (straight, first)[: 2 if place < 17 else 1]:
            span.add(1, metrics(right=place % 3, of=3, norm=norm, in_a_row=int(place == 4)))
    like = metrics(right=0, of=1)
    later = Span.unpack(Span.unpack(first.pack(), like).pack(), like)
    assert later.skipped(calls_ago=0) == (0, 0)
    assert later.faults == first.faults
    for norm, place in zip(norms[17:], range(17, 40), strict=True):
        later.add(1, metrics(right=place % 3, of=3, norm=norm))
    rows = [span.row(TASK, batch_size=3, macs=None, peak=None) for span in (straight, later)]
    for name in ("train", "gradient_norm", "skipped"):
        assert rows[0][name] == rows[1][name]
    assert rows[0]["skipped"] == 1


def test_rows_of_examples_and_types_that_numpy_does_not_know_are_packed_too():
    span = Span()
    span.add(1, listed(0.5, 0.25, 9))
    later = Span.unpack(span.pack(), listed(0, 0))
    later.add(1, listed(0.125, 9, 9))
    assert later.row(Listing(("a", "b")), batch_size=3, macs=None, peak=None)["train"] == {
        "scores": [0.5, 0.25, 0.125, 9.0],
        "half": 1.0,
    }


def test_nothing_is_packed_of_nothing():
    assert Span().pack() is None
    assert not Span.unpack(None, metrics(right=0, of=1))
    span = Span()
    span.faults.append(Fault("digits", "train", 3, "torn"))
    assert Span.unpack(span.pack(), metrics(right=0, of=1)).faults == span.faults


def test_the_time_of_a_row_is_that_of_all_who_took_its_steps():
    span = Span()
    span.add(1, metrics(right=0, of=1))
    span._before = 30.0
    later = Span.unpack(span.pack(), metrics(right=0, of=1))
    later.add(1, metrics(right=0, of=1))
    assert 15 <= later.row(TASK, batch_size=1, macs=None, peak=None)["seconds_per_step"] < 16
