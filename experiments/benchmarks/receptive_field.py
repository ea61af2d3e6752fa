"""Receptive fields read from the program, against one gradient for each layer.

Claim: every layer of ResNet-152 at 224 pixels takes under 3 s and of the net of 1,001 layers under 10 s, from the model
to the fields of every position; and reading is at least 50 times as fast as the usual probe, which differentiates the
centre unit of each layer by the picture and looks where the gradient is not zero (and tells that one position only).

    python experiments/benchmarks/receptive_field.py              # writes results/receptive_field.json
    python experiments/benchmarks/receptive_field.py --rounds 1 --probed 2       # prints, and writes nothing

The probe of all layers is taken to last as long as that of some, evenly spread, times how many there are; each is
compiled once and run once, as a probe is. All weights are positive, so that no path cancels another; what a max pool
does not let through a gradient does not show, so that a probe may only find less.

Expected: 0.86 s and 1.61 s on two cores of an AMD EPYC; ResNet-50 in 0.27 s, 392 times as fast as its probe.
"""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from cnnjax import analysis, models
from cnnjax.analysis.interpreter import evaluate
from cnnjax.analysis.tracing import trace_call
from cnnjax.cli import one_line_errors
from cnnjax.report.results import write_results

RESULTS = Path(__file__).parent.parent / "results" / "receptive_field.json"
BARS = {"resnet152": 3.0, "preact_resnet1001": 10.0}
PROBED, BAR = "resnet50", 50.0


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        rounds: times that every net is read; at least 7 for a result that is kept.
        probed: layers whose gradient is taken; at least 8 for a result that is kept.
    """

    rounds: int = 7
    probed: int = 8


def read(name: str) -> tuple[float, analysis.ReceptiveFields]:
    """Seconds to read a model's fields, tracing included."""
    model, shape = models.create(name), (1, *models.image_shape(name))
    began = time.perf_counter()
    fields = analysis.receptive_field(model, shape)
    return time.perf_counter() - began, fields


def probe(name: str, count: int) -> tuple[list[float], list[bool]]:
    """Seconds for the gradient of each of some layers' centre units, and whether it lies in the exact field read."""
    model, shape = models.create(name), (1, *models.image_shape(name))
    images = jnp.ones(shape)
    abstract = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 1e-2, leaf.dtype), abstract)
    fields = analysis.receptive_field(model, shape)
    program = trace_call(models.bind(model, variables), images)
    spread = [layer for layer in program.layers() if None not in fields[layer.name].stride]
    chosen = [spread[place] for place in np.linspace(0, len(spread) - 1, count).round().astype(int)]
    seconds, inside = [], []
    for layer in chosen:
        field = fields[layer.name]
        centre = tuple(size // 2 for size in field.shape[1:3])

        def unit(x: Any, value: int = layer.value, centre: tuple[int, ...] = centre) -> Any:
            (maps,) = evaluate(program, [x], [value])
            return maps[0, centre[0], centre[1]].sum()

        began = time.perf_counter()
        gradient = np.asarray(jax.jit(jax.grad(unit))(images))[0].any(axis=-1)
        seconds.append(time.perf_counter() - began)
        rows, columns = np.flatnonzero(gradient.any(1)), np.flatnonzero(gradient.any(0))
        bounds = zip((rows, columns), field.box(centre, exact=True), strict=True)
        inside.append(all(len(line) and low <= line[0] and line[-1] <= high for line, (low, high) in bounds))
    return seconds, inside


def main(options: Options) -> None:
    """Measures, prints, and writes the result if it is whole."""
    if options.rounds < 1 or options.probed < 1:
        raise ValueError(f"rounds={options.rounds}, probed={options.probed}; expected numbers above 0")
    names = (*BARS, PROBED)
    times: dict[str, list[float]] = {name: [] for name in names}
    layers = {}
    for _ in range(options.rounds):
        for name in names:
            seconds, fields = read(name)
            times[name].append(seconds)
            layers[name] = len(fields.layers)
    probes, inside = probe(PROBED, options.probed)
    whole = statistics.fmean(probes) * layers[PROBED]
    medians = {name: statistics.median(found) for name, found in times.items()}
    ratio = whole / medians[PROBED]
    for name in names:
        bar = f", bar {BARS[name]:g} s" if name in BARS else ""
        print(f"{name}: {layers[name]:,} layers in {medians[name]:.2f} s ({min(times[name]):.2f} best{bar})")
    print(
        f"{PROBED}: a gradient for each of {layers[PROBED]} layers {whole:.0f} s (from {len(probes)}, within the"
        f" field read in {sum(inside)}), {ratio:.0f} times as long as reading (bar {BAR:g})"
    )
    if options.rounds >= 7 and options.probed >= 8:
        write_results(
            RESULTS,
            {
                "read_seconds": medians,
                "rounds": times,
                "layers": layers,
                "bars_seconds": BARS,
                "probe_seconds_per_layer": probes,
                "probes_within_the_field": sum(inside),
                "probe_seconds_all_layers": whole,
                "times_as_fast": ratio,
                "bar": BAR,
            },
        )


if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=__doc__))
