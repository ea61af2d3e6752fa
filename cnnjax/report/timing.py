"""Side-by-side timing on shared, noisy machines: everything in turn, round by round."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


def interleaved(
    calls: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 7,
    least_seconds: float = 0.02,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds per call of every function, one number per round; each round times them all, one after the other.

    A function is called once beforehand, which compiles it, and within a round as often as `least_seconds` needs.
    What a call returns is waited for.

    Args:
        calls: The functions by name.
        rounds: How often each is timed.
        least_seconds: How long a function is timed in a round, at least.
        clock: What tells the seconds; `time.process_time`, those that processors worked for this program, is the least
            disturbed by others on the machine.

    Raises:
        ValueError: there is nothing to time, or less than one round.
    """
    if not calls or rounds < 1:
        raise ValueError(f"{len(calls)} functions over {rounds} rounds; expected at least one of each")
    repeats = {}
    for name, call in calls.items():
        jax.block_until_ready(call())
        began = clock()
        jax.block_until_ready(call())
        repeats[name] = max(1, round(least_seconds / max(clock() - began, 1e-9)))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = clock()
            for _ in range(repeats[name]):
                jax.block_until_ready(call())
            seconds[name].append((clock() - began) / repeats[name])
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of every function's rounds.

    >>> medians({"a": [1.0, 5.0, 2.0]})
    {'a': 2.0}
    """
    return {name: statistics.median(rounds) for name, rounds in seconds.items()}
