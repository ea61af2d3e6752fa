"""Which steps a run takes together, and what it does after them, written out by hand."""

import pytest

from cnnjax.settings import Saving, Training
from cnnjax.train.plan import Plan


def plan(**settings):
    # Epochs of 100 examples end with steps 7, 13, 19 and 25.
    return Plan(Training(**{"epochs": 4.0, "batch_size": 16} | settings), 100)


def test_epochs_end_with_the_step_that_passes_the_last_example():
    assert plan().total == 25
    assert [step for step in range(1, 26) if plan().epoch_ends(step)] == [7, 13, 19, 25]
    assert plan().epoch(25) == 4.0
    # The last step is an end, be it in the middle of an epoch.
    assert [step for step in range(1, 10) if plan(steps=9).epoch_ends(step)] == [7, 9]


def test_logging_and_saving_in_between():
    chosen = plan(log_every=5, saving=Saving(every=10))
    assert [step for step in range(1, 26) if chosen.logs(step)] == [5, 7, 10, 13, 15, 19, 20, 25]
    assert [step for step in range(1, 26) if chosen.saves(step)] == [7, 10, 13, 19, 20, 25]


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        # Four at once, but one by one before step 7, 13, 19 and 25 where less than four are left.
        (0, [4, 1, 1, 1, 4, 1, 1, 4, 1, 1, 4, 1, 1]),
        (5, [1, 1, 4, 1, 1, 4, 1, 1, 4, 1, 1]),
        (25, []),
    ],
)
def test_calls_of_several_steps_end_before_something_is_to_be_done(done, expected):
    calls = list(plan(steps_per_call=4).calls(done))
    assert calls == expected
    assert done + sum(calls) == 25
    assert list(plan().calls(done)) == [1] * (25 - done)


def test_patience_counts_whole_epochs_since_the_best():
    patient = plan(patience=2)
    over = {(step, best): patient.is_over(step, best) for step in (7, 13, 19, 25) for best in (7, 13) if best <= step}
    assert [pair for pair, ends in over.items() if ends] == [(19, 7), (25, 7), (25, 13)]
    assert not patient.is_over(25, None)
    assert not plan().is_over(25, 7)
