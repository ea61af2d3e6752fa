"""Several training steps in one call of the device, against a Python loop that calls for each.

Claim: `--steps-per-call` is no slower than a loop on a CPU, where calls cost little; its use is for small nets on
accelerators, which would wait for the host between two steps.

    python experiments/benchmarks/steps_per_call.py                # writes results/steps_per_call.json
    python experiments/benchmarks/steps_per_call.py --rounds 2 --nets lenet5     # prints, and writes nothing

Expected: on two cores of an AMD EPYC 0.94 of the loop's time for LeNet-5, 0.81 for ResNet-20; a minute.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from cnnjax import Optimizer, Schedule, models
from cnnjax.cli import one_line_errors
from cnnjax.data.augment import unchanged
from cnnjax.report.results import write_results
from cnnjax.report.timing import interleaved
from cnnjax.tasks import Classification
from cnnjax.train import Recipe, make_optimizer, make_schedule
from cnnjax.train.parallel import Parallel, make_mesh

RESULTS = Path(__file__).parent.parent / "results" / "steps_per_call.json"

STEPS = 10
BATCH = 128
# Pictures (height, width, channels) of noise, 10 classes.
NETS = {"lenet5": (32, 32, 1), "resnet20": (32, 32, 3)}


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        rounds: rounds; at least 7 for a result that is kept.
        nets: which nets, all for a result that is kept.
    """

    rounds: int = 7
    nets: tuple[str, ...] = tuple(NETS)


def side(net: str, steps: int) -> Callable[[], Any]:
    """Ten steps of a net, so many of them a call."""
    random = np.random.default_rng(0)
    batch = {
        "image": random.normal(size=(BATCH, *NETS[net])).astype(np.float32),
        "label": random.integers(0, 10, BATCH).astype(np.int32),
        "id": np.arange(BATCH, dtype=np.int32),
        "valid": np.ones(BATCH, bool),
    }
    rule = make_optimizer(Optimizer(), make_schedule(Schedule(), learning_rate=0.01, steps=1000))
    task = Classification(tuple(map(str, range(10))))
    recipe = Recipe(models.create(net, num_classes=10), task, rule, unchanged, lambda batch: batch)
    parallel = Parallel(make_mesh(1))
    state = parallel.replicate(recipe.first_state(batch, seed=0))
    (on_device,) = parallel.to_devices([batch if steps == 1 else [batch] * steps], training=True)
    run = parallel.compile_training(recipe, state, on_device, None, steps=steps)

    def take() -> Any:
        nonlocal state
        metrics = None
        for _ in range(STEPS // steps):
            state, metrics = run(state, on_device, None)
        return jax.block_until_ready(metrics)

    return take


def main(options: Options) -> None:
    """Measures, prints, and writes the result if it is whole."""
    if options.rounds < 1 or any(net not in NETS for net in options.nets):
        raise ValueError(
            f"rounds={options.rounds}, nets={options.nets}; expected a number above 0, of {', '.join(NETS)}"
        )
    found = {}
    for net in options.nets:
        seconds = interleaved({"a loop": side(net, 1), f"{STEPS} a call": side(net, STEPS)}, rounds=options.rounds)
        ratios = [one / other for other, one in zip(*seconds.values(), strict=True)]
        milliseconds = {name: 1e3 * statistics.median(taken) / STEPS for name, taken in seconds.items()}
        found[net] = {"milliseconds_a_step": milliseconds, "ratio": statistics.median(ratios), "ratios": ratios}
        told = ", ".join(f"{name} {value:.2f} ms" for name, value in milliseconds.items())
        print(f"{net}: {told} a step; {found[net]['ratio']:.2f} of the loop's time (bar 1)")
    if options.rounds >= 7 and set(options.nets) == set(NETS):
        write_results(RESULTS, {"steps": STEPS, "batch": BATCH, "bar": 1.0, "nets": found})


if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=__doc__))
