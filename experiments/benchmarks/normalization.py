"""Norms whose variances are exact, against the formula of one pass, which loses them to rounding, and against Flax.

Claim: exact variances add nothing to a training step of ResNet-20 that can be told from noise (bar 1.1). Norms alone
take about a tenth more, and up to twice as long where the images' mean is many deviations and one pass is wrong. All
sides are interleaved in one process; processor time, medians of the rounds and of the rounds' ratios.

    python experiments/benchmarks/normalization.py               # writes results/normalization.json
    python experiments/benchmarks/normalization.py --rounds 3 --norms batch     # prints, and writes nothing

Expected: on two busy cores 0.97 of the training step of one pass. Of norms at mean 0, the median of three shapes: batch
0.97 forward and 0.99 with the gradient, layer 1.16 and 1.02, instance and group 1.10 and 1.17 (single rows scatter by a
third there); at mean 10,000, 1.1 to 1.9. Ten minutes there, two on quiet cores.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from cnnjax import functional, models
from cnnjax.cli import one_line_errors
from cnnjax.data.augment import unchanged
from cnnjax.report.results import write_results
from cnnjax.report.timing import interleaved, medians
from cnnjax.tasks import Classification
from cnnjax.train import Recipe
from cnnjax.train.parallel import Parallel, make_mesh

RESULTS = Path(__file__).parent.parent / "results" / "normalization.json"

SHAPES = (8, 56, 56, 64), (32, 32, 32, 16), (128, 8, 8, 64)
GROUPS = 8
# The offset of all pictures: the second is lost by one pass.
MEANS = 0.0, 1e4
STEP_BATCH = 64
BAR = 1.1

Norm = Callable[..., jax.Array]


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        rounds: rounds; at least 7 for a result that is kept.
        norms: which norms, all for a result that is kept.
        step: whether the training step is measured too.
    """

    rounds: int = 15
    norms: tuple[str, ...] = ("batch", "layer", "instance", "group")
    step: bool = True


def moments(images: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Means of the values and of their squares, which one pass finds."""
    return jnp.mean(images, axes, keepdims=True), jnp.mean(jnp.square(images), axes, keepdims=True)


def variance(mean: jax.Array, square: jax.Array) -> jax.Array:
    """By the formula of one pass."""
    return jnp.maximum(square - jnp.square(mean), 0.0)


def one_pass(name: str, images: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """A norm by the formula of one pass."""
    mean, square = moments(images, {"batch": (0, 1, 2), "layer": (3,)}.get(name, (1, 2)))
    if name == "group":
        runs = (each.reshape(*each.shape[:-1], GROUPS, -1).mean(-1) for each in (mean, square))
        mean, square = (jnp.repeat(run, images.shape[-1] // GROUPS, axis=-1) for run in runs)
    factor = jax.lax.rsqrt(variance(mean, square) + 1e-6) * scale
    if name == "layer":
        return (images - mean) * factor + bias
    return images * factor + (bias - mean * factor)


def batch_statistics_in_one_pass(images: jax.Array, **_: Any) -> tuple[jax.Array, jax.Array]:
    """What batch normalisation took before: for a training step without masks."""
    mean, square = moments(images, tuple(range(images.ndim - 1)))
    return mean.reshape(-1), variance(mean, square).reshape(-1)


def sides(name: str) -> dict[str, Norm]:
    """A norm by us, by the formula of one pass, and by Flax."""
    ours = {
        "batch": partial(functional.batch_norm, epsilon=1e-6),
        "layer": functional.layer_norm,
        "instance": functional.instance_norm,
        "group": partial(functional.group_norm, groups=GROUPS),
    }[name]
    flax = {
        "batch": nn.BatchNorm(use_running_average=False, epsilon=1e-6),
        "layer": nn.LayerNorm(),
        "instance": nn.InstanceNorm(),
        "group": nn.GroupNorm(GROUPS),
    }[name]

    def by_flax(images: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        stats = {"mean": jnp.zeros_like(bias), "var": jnp.ones_like(scale)}
        variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}
        return flax.apply(variables, images, mutable=["batch_stats"])[0]

    return {
        "ours": lambda images, scale, bias: ours(images, scale=scale, bias=bias),
        "one pass": partial(one_pass, name),
        "flax": by_flax,
    }


def with_gradient(norm: Norm) -> Callable[..., Any]:
    """The cotangents of images, scale and bias, from that of the output."""

    def run(cotangent: jax.Array, *arrays: jax.Array) -> Any:
        return jax.vjp(norm, *arrays)[1](cotangent)

    return run


def training_step(*, exact: bool) -> Callable[[], Any]:
    """A step of ResNet-20 on 64 pictures of noise."""
    random = np.random.default_rng(0)
    batch = {
        "image": random.normal(size=(STEP_BATCH, 32, 32, 3)).astype(np.float32),
        "label": random.integers(0, 10, STEP_BATCH).astype(np.int32),
        "id": np.arange(STEP_BATCH, dtype=np.int32),
        "valid": np.ones(STEP_BATCH, bool),
    }
    model, task = models.create("resnet20", num_classes=10), Classification(tuple(map(str, range(10))))
    recipe = Recipe(model, task, optax.sgd(0.01), unchanged, lambda batch: batch)
    parallel = Parallel(make_mesh(1))
    state = parallel.replicate(recipe.first_state(batch, seed=0))
    (on_device,) = parallel.to_devices([batch], training=True)
    rough = mock.patch("cnnjax.functional.normalization.batch_statistics", batch_statistics_in_one_pass)
    with nullcontext() if exact else rough:
        run = parallel.compile_training(recipe, state, on_device, None)

    def take() -> Any:
        nonlocal state
        state, metrics = run(state, on_device, None)
        return metrics

    return take


def compare(name: str, calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    """Milliseconds a side, and ours over each other's, told in a line."""
    seconds = interleaved(calls, rounds=rounds, clock=time.process_time)
    ratios = {
        other: statistics.median(ours / theirs for ours, theirs in zip(seconds["ours"], taken, strict=True))
        for other, taken in seconds.items()
        if other != "ours"
    }
    milliseconds = {side: 1e3 * value for side, value in medians(seconds).items()}
    told = ", ".join(f"{side} {value:.2f} ms" for side, value in milliseconds.items())
    print(f"{name}: {told}; {ratios['one pass']:.2f} of one pass", flush=True)
    return {"milliseconds": milliseconds, "ours_over": ratios}


def main(options: Options) -> None:
    """Measures, prints, and writes the result if it is whole."""
    if options.rounds < 1 or not set(options.norms) <= set(Options.norms):
        raise ValueError(
            f"rounds={options.rounds}, norms={options.norms}; expected a number above 0, of {', '.join(Options.norms)}"
        )
    found: dict[str, Any] = {}
    for shape in SHAPES:
        images, cotangent = (jax.random.normal(jax.random.key(seed), shape) for seed in (0, 1))
        affine = jnp.ones(shape[-1]), jnp.zeros(shape[-1])
        for norm in options.norms:
            forward: dict[str, Callable[..., Any]] = {side: jax.jit(function) for side, function in sides(norm).items()}
            gradient: dict[str, Callable[..., Any]] = {
                side: jax.jit(with_gradient(function)) for side, function in sides(norm).items()
            }
            for mean in MEANS:
                arrays = images + mean, *affine
                name = f"{norm}, {'x'.join(map(str, shape))}, mean {mean:g}"
                calls: dict[str, Callable[[], Any]]
                calls = {side: partial(run, *arrays) for side, run in forward.items()}
                found[f"{name}, forward"] = compare(f"{name}, forward", calls, options.rounds)
                calls = {side: partial(run, cotangent, *arrays) for side, run in gradient.items()}
                found[f"{name}, gradient"] = compare(f"{name}, gradient", calls, options.rounds)
    if options.step:
        steps = {"ours": training_step(exact=True), "one pass": training_step(exact=False)}
        name = f"training step of resnet20, batch of {STEP_BATCH}"
        found[name] = compare(name, steps, options.rounds)
    if options.rounds >= 7 and options.step and set(options.norms) == set(Options.norms):
        write_results(RESULTS, {"bar": BAR, "groups": GROUPS, "rows": found})


if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=__doc__))
