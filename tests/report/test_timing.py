"""What is timed, how often and in which order; never how long it takes."""

import pytest

from cnnjax.report.timing import interleaved, medians


def test_functions_take_turns():
    order = []
    seconds = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, least_seconds=0.0)
    assert order == [*"aabb", *"ab" * 3]  # twice each beforehand: to compile, and to learn how often to call
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    assert all(time >= 0 for times in seconds.values() for time in times)


def test_fast_functions_are_called_often_within_a_round():
    calls = []
    interleaved({"a": lambda: calls.append(0)}, rounds=1, least_seconds=1e-4)
    assert len(calls) > 3


def test_another_clock_tells_the_seconds():
    ticks = iter(range(100))
    assert interleaved({"a": lambda: None}, rounds=2, least_seconds=0.0, clock=lambda: next(ticks)) == {"a": [1.0, 1.0]}


def test_medians_are_by_function():
    assert medians({"a": [3.0, 1.0, 2.0], "b": [4.0, 2.0]}) == {"a": 2.0, "b": 3.0}


@pytest.mark.parametrize(("calls", "rounds"), [({}, 3), ({"a": lambda: None}, 0)], ids=["nothing", "no rounds"])
def test_nothing_to_time(calls, rounds):
    with pytest.raises(ValueError, match="expected at least one of each"):
        interleaved(calls, rounds=rounds)
