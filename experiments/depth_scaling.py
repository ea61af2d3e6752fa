"""Compile time against depth, with equal blocks scanned and unrolled.

Claim: scanned, the training step of a 1,001-layer net compiles within twice the time of the 29-layer net of the same
kind, and in at most a fifth of its own unrolled time, while a step takes at most 1.1 times as long as unrolled.

    python experiments/depth_scaling.py                        # every net; about ten minutes
    python experiments/depth_scaling.py --only resnet20 preact29 --rounds 3        # prints, and writes nothing

Expected: on two cores with jax 0.12, 1,001 layers scanned compile in 8.9 s, 1.3 times the 29 layers' 7.0; unrolled they
had not compiled after 181 s. A step of 164 layers takes 0.72 of the time unrolled; of 29, 1.3 times, where there is
little to loop over.

Each net is traced and compiled in a process of its own, on batches of eight CIFAR pictures; the steps of the scanned
and of the unrolled program are then timed in turn. A net that is still compiling unrolled when patience ends is given
up, and the time it had is what is said: the 1,001 layers unrolled ran out of 23 GiB of memory after seven minutes.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from functools import partial
from itertools import product
from pathlib import Path
from typing import IO, Any, cast

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
from matplotlib.ticker import LogLocator, NullFormatter

from cnnjax import models
from cnnjax.report.results import write_results
from cnnjax.report.timing import interleaved, medians
from cnnjax.view.figures import png, style

RESULTS = Path(__file__).parent / "results"
BATCH = 8

# Layers, and what makes the net.
NETS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "resnet20": (20, "resnet20", {}),
    "resnet56": (56, "resnet56", {}),
    "resnet110": (110, "resnet110", {}),
    "preact29": (29, "preact_resnet164", {"depth": 3}),
    "preact_resnet164": (164, "preact_resnet164", {}),
    "preact497": (497, "preact_resnet164", {"depth": 55}),
    "preact_resnet1001": (1001, "preact_resnet1001", {}),
}


def training_step(name: str, *, scan: bool) -> tuple[Any, tuple[Any, ...]]:
    """A step of stochastic gradient descent with momentum, and its first arguments."""
    _, model_name, options = NETS[name]
    model = models.create(model_name, scan=scan, **options)
    images = jax.random.normal(jax.random.key(0), (BATCH, 32, 32, 3))
    labels = jnp.arange(BATCH, dtype=jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(1), images)
    # Constants start quicker than draws, whose program would grow with depth too.
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.05, leaf.dtype), variables)
    optimizer = optax.sgd(1e-4, momentum=0.9)

    def step(params: Any, batch_stats: Any, opt_state: Any, images: jax.Array, labels: jax.Array) -> Any:
        def loss(params: Any) -> Any:
            logits, updates = model.apply(
                {"params": params, "batch_stats": batch_stats}, images, train=True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return jnp.mean(losses), updates["batch_stats"]

        gradients, statistics = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state)
        return optax.apply_updates(params, updates), statistics, opt_state

    params = variables["params"]
    return jax.jit(step), (params, variables["batch_stats"], optimizer.init(params), images, labels)


def build(name: str, *, scan: bool) -> tuple[dict[str, float], partial[Any]]:
    """Seconds to trace and to compile a step, and the compiled step with its arguments."""
    step, arguments = training_step(name, scan=scan)
    began = time.perf_counter()
    lowered = step.lower(*arguments)
    traced = time.perf_counter()
    compiled = lowered.compile()
    seconds = {"trace": traced - began, "compile": time.perf_counter() - traced}
    return seconds, partial(compiled, *arguments)


def report(name: str, rounds: int) -> None:
    """Prints trace, compile and step seconds of the scanned form of a net, then of the unrolled one, then of both."""
    seconds, scanned = build(name, scan=True)
    seconds |= medians(interleaved({"step": scanned}, rounds=rounds))
    print(json.dumps({"scanned": seconds}), flush=True)
    seconds, unrolled = build(name, scan=False)
    steps = medians(interleaved({"scanned": scanned, "unrolled": unrolled}, rounds=rounds))
    seconds["step"] = steps["unrolled"]
    print(json.dumps({"unrolled": seconds, "step_ratio": steps["scanned"] / steps["unrolled"]}), flush=True)


def measure(name: str, rounds: int, patience: float) -> dict[str, Any]:
    """What `report` says of a net in a process of its own, which is stopped when patience ends."""
    command = [sys.executable, __file__, "--alone", name, "--rounds", str(rounds)]
    row: dict[str, Any] = {"net": name, "layers": NETS[name][0]}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = cast(IO[str], process.stdout)
        row |= json.loads(lines.readline() or "{}")
        if "scanned" not in row:
            raise SystemExit(f"{name} failed, see above")
        began = time.perf_counter()
        timer = threading.Timer(patience, process.kill)
        timer.start()
        row |= json.loads(lines.readline() or "{}")
        timer.cancel()
    if "unrolled" not in row:
        row["unrolled"] = {"given_up_after": time.perf_counter() - began}
    return cast(dict[str, Any], rounded(row))


def rounded(tree: Any) -> Any:
    """A tree of plain values with four significant digits."""
    return jax.tree.map(lambda leaf: float(f"{leaf:.4g}") if isinstance(leaf, float) else leaf, tree)


def draw(rows: list[dict[str, Any]]) -> Any:
    """Seconds of tracing, compiling and one step over the number of layers, a line for each kind of net and form."""
    with style():
        figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
        for axis, kind in zip(axes, ("trace", "compile", "step"), strict=True):
            forms = (("scanned", "C0o"), ("unrolled", "C1s"))
            for (net, dash), (form, look) in product((("resnet", "--"), ("preact", "-")), forms):
                found = [row for row in rows if row["net"].startswith(net) and kind in row[form]]
                points = sorted((row["layers"], row[form][kind]) for row in found)
                axis.plot(*zip(*points, strict=True), f"{look}{dash}", label=f"{net}, {form}")
            axis.set(xscale="log", yscale="log", title=f"{kind}, seconds", xlabel="layers")
            axis.set_xticks([row["layers"] for row in rows], [str(row["layers"]) for row in rows], minor=False)
            axis.set_xticks([], minor=True)
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter(NullFormatter())
        axes[2].legend()
        return figure


def main() -> None:
    """Measures every net in a process of its own, writes JSON and picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", nargs="*", choices=NETS, help="these nets; prints only")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the steps' timing")
    parser.add_argument("--patience", type=float, default=180.0, help="seconds after which an unrolled net is given up")
    parser.add_argument("--alone", choices=NETS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        report(options.alone, options.rounds)
        return
    rows = []
    for name in options.only or NETS:
        rows.append(measure(name, options.rounds, options.patience))
        print(rows[-1], flush=True)
    if options.only:
        return
    by_name = {row["net"]: row for row in rows}
    deep, shallow = by_name["preact_resnet1001"], by_name["preact29"]
    compiled = deep["scanned"]["compile"]
    ratios = {row["net"]: row["step_ratio"] for row in rows if "step_ratio" in row}
    # A net that was given up would have compiled later than that: the ratio is at most what is said.
    unrolled = deep["unrolled"].get("compile", deep["unrolled"].get("given_up_after"))
    deepest = list(ratios)[-1]
    bars = {
        "compile of 1,001 layers, scanned over unrolled (at most 0.2)": compiled / unrolled,
        "compile of 1,001 layers over 29, scanned (at most 2)": compiled / shallow["scanned"]["compile"],
        f"step of {deepest}, the deepest that compiles unrolled, scanned over unrolled (at most 1.1)": ratios[deepest],
        "step scanned over unrolled, largest of all nets": max(ratios.values()),
    }
    bars = rounded(bars)
    print(json.dumps(bars, indent=2))
    write_results(RESULTS / "depth_scaling.json", {"batch": BATCH, "bars": bars, "rows": rows})
    (RESULTS / "depth_scaling.png").write_bytes(png(draw(rows)))


if __name__ == "__main__":
    main()
