"""A training step of three nets, against plain Flax and PyTorch, and what the loop adds to it.

Claim: on two CPU cores the step of LeNet-5 (batch 128), ResNet-20 (128 pictures of 32) and ResNet-50 (8 of 224) should
be at least 2, 1.5 and 1.6 times as fast as the same net written with `flax.linen` and trained by a plain loop, and at
least 1.5, 1.0 and 0.9 times as fast as PyTorch. All sides are interleaved in one run; medians of the rounds. What the
loop of a run adds takes under 3 % of a ResNet-20 step: inside it, where metrics are summed and a guard chooses between
the old state and the new, against the same net in a plain loop; and under 0.3 ms between two steps (metrics, signals,
progress).

    python experiments/benchmarks/train_step.py --torch-python PATH     # writes results/train_step.json
    python experiments/benchmarks/train_step.py --rounds 3 --nets lenet5     # prints, and writes nothing

PATH is a Python that has PyTorch and torchvision, by default this one; without them their side is left out. On an
accelerator `--gpu` measures ResNet-50 in bfloat16 with 256 pictures instead, against Flax and torch.compile.

Expected: on two cores of an AMD EPYC, 1.79, 1.50 and 1.97 times as fast as Flax, where LeNet-5 misses its bar, and
1.16, 0.62 and 0.74 times as fast as PyTorch 2.14, where all do: its convolutions are better than XLA's. The loop adds
nothing that can be told from noise inside the step, and 0.07 ms between two. Two minutes, where nothing else runs.
"""

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from rich.console import Console
from rich.table import Table

from cnnjax import models
from cnnjax.data.augment import unchanged
from cnnjax.report.results import write_results
from cnnjax.settings import Training
from cnnjax.tasks import Classification, Mean
from cnnjax.train import Recipe
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.interruption import interruptible
from cnnjax.train.log import MetricsLog
from cnnjax.train.output import Output
from cnnjax.train.parallel import Parallel, make_mesh
from cnnjax.train.plan import CALLS_AHEAD, Plan
from cnnjax.train.progress import reporting
from cnnjax.train.span import Span
from cnnjax.train.step import StepMetrics

RESULTS = Path(__file__).parent.parent / "results" / "train_step.json"

# Batch, side, channels, classes, steps in a round; bars against Flax and PyTorch.
NETS: dict[str, tuple[int, int, int, int, int]] = {
    "lenet5": (128, 32, 1, 10, 20),
    "resnet20": (128, 32, 3, 10, 2),
    "resnet50": (8, 224, 3, 1000, 1),
}
BARS = {"lenet5": (2.0, 1.5), "resnet20": (1.5, 1.0), "resnet50": (1.6, 0.9)}
GPU_BATCH, GPU_STEPS, GPU_BARS = 256, 10, (1.15, 1.0)


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        rounds: rounds; at least 7 for a result that is kept.
        nets: which nets, all for a result that is kept.
        torch_python: a Python that has PyTorch and torchvision.
        gpu: ResNet-50 in bfloat16 on an accelerator, in place of the three nets on a CPU.
    """

    rounds: int = 7
    nets: tuple[str, ...] = tuple(NETS)
    torch_python: str = sys.executable
    gpu: bool = False


# The same nets as one writes them with Flax alone.


class FlaxLeNet5(nn.Module):
    """LeNet-5 with hyperbolic tangents and average pools, as `cnnjax.models.LeNet5`."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        for features in (6, 16):
            x = nn.tanh(nn.Conv(features, (5, 5), padding="VALID")(x))
            x = nn.avg_pool(x, (2, 2), (2, 2))
        x = nn.tanh(nn.Conv(120, (5, 5), padding="VALID")(x))
        x = nn.tanh(nn.Dense(84)(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.classes)(x)


class FlaxCifarBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters."""

    features: int
    strides: int
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Branch plus shortcut."""
        y = nn.Conv(self.features, (3, 3), (self.strides,) * 2, padding=1, use_bias=False)(x)
        y = nn.relu(self.norm()(y))
        y = self.norm()(nn.Conv(self.features, (3, 3), padding=1, use_bias=False)(y))
        x = x[:, :: self.strides, :: self.strides]
        return nn.relu(y + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.features - x.shape[-1]))))


class FlaxResNet20(nn.Module):
    """ResNet-20 for CIFAR."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        x = nn.relu(norm()(nn.Conv(16, (3, 3), padding=1, use_bias=False)(x)))
        for stage, features in enumerate((16, 32, 64)):
            for block in range(3):
                x = FlaxCifarBlock(features, 2 if stage and block == 0 else 1, norm)(x)
        return nn.Dense(self.classes)(x.mean((1, 2)))


class FlaxBottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1, and a shortcut that is projected where the shape changes."""

    features: int
    strides: int
    norm: Callable[..., nn.Module]
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Branch plus shortcut."""
        conv = partial(nn.Conv, use_bias=False, dtype=self.dtype)
        y = nn.relu(self.norm()(conv(self.features, (1, 1))(x)))
        y = nn.relu(self.norm()(conv(self.features, (3, 3), (self.strides,) * 2, padding=1)(y)))
        y = self.norm()(conv(4 * self.features, (1, 1))(y))
        if x.shape != y.shape:
            x = self.norm()(conv(4 * self.features, (1, 1), (self.strides,) * 2)(x))
        return nn.relu(y + x)


class FlaxResNet50(nn.Module):
    """ResNet-50, stride on the 3x3."""

    classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, dtype=self.dtype)
        x = nn.Conv(64, (7, 7), (2, 2), padding=3, use_bias=False, dtype=self.dtype)(x)
        x = nn.max_pool(nn.relu(norm()(x)), (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, blocks in enumerate((3, 4, 6, 3)):
            for block in range(blocks):
                x = FlaxBottleneck(64 * 2**stage, 2 if stage and block == 0 else 1, norm, self.dtype)(x)
        return nn.Dense(self.classes, dtype=self.dtype)(x.mean((1, 2)))


FLAX: dict[str, Callable[..., nn.Module]] = {"lenet5": FlaxLeNet5, "resnet20": FlaxResNet20, "resnet50": FlaxResNet50}


def make_batch(net: str, batch: int | None = None) -> dict[str, np.ndarray]:
    """A batch of noise."""
    size, side, channels, classes, _ = NETS[net]
    size = batch or size
    random = np.random.default_rng(0)
    return {
        "image": random.normal(size=(size, side, side, channels)).astype(np.float32),
        "label": random.integers(0, classes, size).astype(np.int32),
        "id": np.arange(size, dtype=np.int32),
        "valid": np.ones(size, bool),
    }


def our_side(net: str, *, batch: int | None = None, dtype: Any = jnp.float32) -> Callable[[], Any]:
    """The step of a run, compiled as a run compiles it; each call takes one."""
    classes = NETS[net][3]
    model = models.create(net, num_classes=classes, dtype=dtype)
    recipe = Recipe(model, Classification(tuple(map(str, range(classes)))), optimizer(), unchanged, lambda batch: batch)
    parallel = Parallel(make_mesh(1))
    examples = make_batch(net, batch)
    state = parallel.replicate(recipe.first_state(examples, seed=0))
    (on_device,) = parallel.to_devices([examples], training=True)
    run = parallel.compile_training(recipe, state, on_device, None)

    def step() -> Any:
        nonlocal state
        state, metrics = run(state, on_device, None)
        return metrics

    return step


def flax_model(net: str, dtype: Any) -> nn.Module:
    """The net as written here."""
    classes = NETS[net][3]
    return FLAX[net](classes) if dtype == jnp.float32 else FLAX[net](classes, dtype)


def plain_side(model: Any, net: str, *, batch: int | None = None) -> Callable[[], Any]:
    """The step of a model in a plain Flax loop; each call takes one."""
    examples = jax.device_put(make_batch(net, batch))
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), examples["image"])
    params, stats = variables["params"], variables.get("batch_stats", {})
    rule = optimizer()
    opt_state = rule.init(params)

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def run(params: Any, stats: Any, opt_state: Any, batch: Any) -> Any:
        def loss_of(params: Any) -> Any:
            logits, updates = model.apply(
                {"params": params, "batch_stats": stats}, batch["image"], train=True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), batch["label"])
            return losses.mean(), (updates.get("batch_stats", {}), (logits.argmax(-1) == batch["label"]).mean())

        (loss, (new_stats, accuracy)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, new_opt_state = rule.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), new_stats, new_opt_state, loss, accuracy

    def step() -> Any:
        nonlocal params, stats, opt_state
        params, stats, opt_state, loss, accuracy = run(params, stats, opt_state, examples)
        return loss, accuracy

    return step


def optimizer() -> optax.GradientTransformation:
    """The rule that every side uses."""
    return optax.sgd(0.01, momentum=0.9)


# Answers each line on its standard input, a net and a number of steps, with the seconds that these took.
TORCH_SIDE = """
import sys, time
import torch
import torch.nn as nn
import torch.nn.functional as F
from torchvision.models import resnet50
torch.set_num_threads(2)
gpu = sys.argv[1] == "gpu"
device = "cuda" if gpu else "cpu"
if gpu and not torch.cuda.is_available():
    raise SystemExit("PyTorch sees no GPU")

class LeNet5(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c3 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.c5, self.f6, self.output = nn.Conv2d(16, 120, 5), nn.Linear(120, 84), nn.Linear(84, 10)
    def forward(self, x):
        x = F.avg_pool2d(torch.tanh(self.c1(x)), 2)
        x = F.avg_pool2d(torch.tanh(self.c3(x)), 2)
        return self.output(torch.tanh(self.f6(torch.tanh(self.c5(x)).flatten(1))))

class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.stride, self.new = stride, outputs - inputs
    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        x = F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, 0, self.new))
        return F.relu(y + x)

class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        blocks, inputs = [], 16
        for stage, outputs in enumerate((16, 32, 64)):
            for block in range(3):
                blocks.append(Block(inputs, outputs, 2 if stage and not block else 1))
                inputs = outputs
        self.stem, self.bn = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Linear(64, 10)
    def forward(self, x):
        return self.output(self.blocks(F.relu(self.bn(self.stem(x)))).mean((2, 3)))

nets = {
    "lenet5": (LeNet5, 128, 32, 1, 10),
    "resnet20": (ResNet20, 128, 32, 3, 10),
    "resnet50": (resnet50, 8, 224, 3, 1000),
}
if gpu:
    nets = {"resnet50": (resnet50, 256, 224, 3, 1000)}

def side(make, batch, size, channels, classes, layout):
    torch.manual_seed(0)
    model = make().train().to(device, memory_format=layout)
    model = torch.compile(model) if gpu else model
    rule = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    images = torch.randn(batch, channels, size, size, device=device).contiguous(memory_format=layout)
    labels = torch.randint(0, classes, (batch,), device=device)
    def step():
        rule.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=gpu):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        rule.step()
    return step

def seconds(step, count):
    began = time.perf_counter()
    for _ in range(count):
        step()
    if gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - began

layouts = [torch.channels_last] if gpu else [torch.channels_last, torch.contiguous_format]
sides = {}
print(torch.__version__, flush=True)
for line in sys.stdin:
    net, count = line.split()
    if net not in sides:
        tried = [side(*nets[net], layout) for layout in layouts]
        for step in tried:
            seconds(step, 2)
        # The faster memory layout, as a user would choose it.
        sides[net] = min(tried, key=lambda step: min(seconds(step, int(count)) for _ in range(3)))
    print(seconds(sides[net], int(count)), flush=True)
"""


@contextmanager
def torch_side(options: Options) -> Iterator[tuple[str, Callable[[str, int], float]] | None]:
    """PyTorch's version and the seconds that its steps take, in a process of its own; None where there is none."""
    command = [options.torch_python, "-c", TORCH_SIDE, "gpu" if options.gpu else "cpu"]
    with (
        # Compiling warns, which must not stand among the answers.
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True) as side,
    ):
        questions, answers = cast(TextIO, side.stdin), cast(TextIO, side.stdout)

        def complaint() -> str:
            complaints.seek(0)
            return [*complaints.read().strip().splitlines(), "no answer"][-2:][0]

        def run(net: str, steps: int) -> float:
            print(net, steps, file=questions, flush=True)
            said = answers.readline()
            if not said:
                raise RuntimeError(f"PyTorch's side stopped: {complaint()}")
            return float(said)

        try:
            version = answers.readline().strip()
            if version:
                yield version, run
            else:
                print("PyTorch left out:", complaint(), flush=True)
                yield None
        finally:
            questions.close()
            side.wait(timeout=60)


def seconds_of(step: Callable[[], Any], steps: int) -> float:
    """How long so many steps take, the last one waited for."""
    began = time.perf_counter()
    told = [step() for _ in range(steps)]
    jax.block_until_ready(told[-1])
    return time.perf_counter() - began


def measure_net(net: str, options: Options, torch: Any) -> dict[str, Any]:
    """Milliseconds of a step on every side, and how many times as fast ours is."""
    batch, dtype = (GPU_BATCH, jnp.bfloat16) if options.gpu else (None, jnp.float32)
    steps = GPU_STEPS if options.gpu else NETS[net][4]
    sides: dict[str, Callable[[], float]] = {
        "cnnjax": partial(seconds_of, our_side(net, batch=batch, dtype=dtype), steps),
        "flax": partial(seconds_of, plain_side(flax_model(net, dtype), net, batch=batch), steps),
    }
    if net == "resnet20":
        sides["cnnjax in a plain loop"] = partial(seconds_of, plain_side(models.create(net), net), steps)
    if torch is not None:
        sides["torch"] = partial(torch, net, steps)
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(options.rounds + 1):
        # There and back, so that no side always comes after the same other.
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            seconds = sides[name]() / steps
            if turn:
                taken[name].append(seconds)
    bars = dict(zip(("flax", "torch"), GPU_BARS if options.gpu else BARS[net], strict=True))
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    measured: dict[str, Any] = {"milliseconds": {name: round(1e3 * value, 3) for name, value in medians.items()}}
    for other in sorted(set(sides) & set(bars)):
        by_round = [theirs / ours for ours, theirs in zip(taken["cnnjax"], taken[other], strict=True)]
        ratio = medians[other] / medians["cnnjax"]
        measured[f"times_as_fast_as_{other}"] = {
            "ratio": round(ratio, 3),
            "bar": bars[other],
            "least": round(min(by_round), 3),
            "largest": round(max(by_round), 3),
        }
    if "cnnjax in a plain loop" in medians:
        plain = medians["cnnjax in a plain loop"]
        measured["added_in_the_step"] = {"share": round(medians["cnnjax"] / plain - 1, 4), "bar": 0.03}
    return measured


def measure_loop(step_milliseconds: float, calls: int = 2000, log_every: int = 100) -> dict[str, Any]:
    """Milliseconds that the loop's own statements take between two steps, around steps that compute nearly nothing.

    The statements are those of `cnnjax.train.loop.Loop`, on a terminal with its bar, with a row logged every
    `log_every` steps; reading, testing and saving are left out.
    """
    mesh = make_mesh(1)
    task = Classification(("no", "yes"))
    plan = Plan(Training(batch_size=128, steps=calls, log_every=log_every), 50_000)

    @jax.jit
    def trivial(x: jax.Array) -> tuple[jax.Array, StepMetrics]:
        # New arrays in every call, as from a step: one that is always the same would be read only once.
        one, nothing = jnp.float32(1) + x * 0, (x * 0).astype(jnp.int32)
        return x + 1, StepMetrics(one, one, nothing, ({"loss": Mean(one, one), "accuracy": Mean(one, one)},))

    def bare() -> None:
        x = jnp.zeros(())
        for _ in range(calls):
            x, _ = trivial(x)
        x.block_until_ready()

    def whole(folder: Path) -> float:
        x, span, step, batches = jnp.zeros(()), Span(), 0, iter(int, None)
        console = Console(file=io.StringIO(), force_terminal=True, width=80)
        with (
            Checkpoints(folder / "checkpoints") as checkpoints,
            MetricsLog(folder) as log,
            reporting(plan.total, 0, console) as report,
            interruptible(mesh, Output(console.file)) as interruption,
        ):
            began = time.perf_counter()
            for size in plan.calls(0):
                span.wait_for(batches)
                x, metrics = trivial(x)
                step += size
                span.add(size, metrics)
                report.advance(size)
                checkpoints.check()
                span.skipped(calls_ago=0 if plan.logs(step) else CALLS_AHEAD)
                if plan.logs(step):
                    row = {"step": step, "epoch": plan.epoch(step)}
                    row |= span.row(task, batch_size=128, macs=None, peak=None)
                    log.write(row)
                    report.row(row)
                    span = Span()
                interruption.asked()
                plan.saves(step)
            x.block_until_ready()
            return time.perf_counter() - began

    bare()
    added = []
    for _ in range(7):
        began = time.perf_counter()
        bare()
        alone = time.perf_counter() - began
        with tempfile.TemporaryDirectory() as folder:
            added.append((whole(Path(folder)) - alone) / calls)
    milliseconds = 1e3 * statistics.median(added)
    return {
        "milliseconds": round(milliseconds, 4),
        "bar_milliseconds": 0.3,
        "share_of_a_resnet20_step": round(milliseconds / step_milliseconds, 5),
        "bar_share": 0.03,
        "log_every": log_every,
    }


def table(measured: dict[str, Any]) -> Table:
    """What was measured, beside the bars."""
    shown = Table("step of", "ms", "against", "ms", "found", "bar", "", title="A training step")

    def add(name: str, other: str, found: str, bar: str, reached: bool) -> None:
        times = measured[name]["milliseconds"] if other else {}
        texts = [f"{times[side]:.4g}" if other else "" for side in ("cnnjax", other)]
        shown.add_row(name, texts[0], other.removeprefix("cnnjax in a "), texts[1], found, bar, verdicts[reached])

    verdicts = {True: "reached", False: "missed"}
    for name in (name for name in NETS if name in measured):
        for other in ("flax", "torch"):
            if ratio := measured[name].get(f"times_as_fast_as_{other}"):
                found, bar = ratio["ratio"], ratio["bar"]
                add(name, other, f"{found:.2f}x", f"at least {bar:g}x", found >= bar)
        if added := measured[name].get("added_in_the_step"):
            found, bar = added["share"], added["bar"]
            add(name, "cnnjax in a plain loop", f"{found:+.1%}", f"under {bar:.0%}", found < bar)
    if loop := measured.get("loop"):
        found, bar = loop["milliseconds"], loop["bar_milliseconds"]
        add("the loop", "", f"{found:.3f} ms", f"under {bar:g} ms", found < bar)
        found, bar = loop["share_of_a_resnet20_step"], loop["bar_share"]
        add("the loop", "", f"{found:.2%}", f"under {bar:.0%}", found < bar)
    return shown


def main(options: Options) -> None:
    """Measures every net and the loop, prints, and writes if everything was measured in full."""
    if unknown := set(options.nets) - set(NETS):
        raise SystemExit(f"--nets {min(unknown)} is unknown; expected some of {', '.join(NETS)}")
    if options.gpu:
        # Else JAX takes three quarters of the memory, and PyTorch finds too little.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if options.gpu and jax.default_backend() == "cpu":
        raise SystemExit("--gpu needs an accelerator that JAX sees; there are only CPUs")
    nets = ("resnet50",) if options.gpu else options.nets
    measured: dict[str, Any] = {"rounds": options.rounds}
    with ExitStack() as stack:
        torch = stack.enter_context(torch_side(options))
        for net in nets:
            measured[net] = measure_net(net, options, None if torch is None else torch[1])
            print(net, json.dumps(measured[net]["milliseconds"]), flush=True)
        measured["torch"] = None if torch is None else torch[0]
    if "resnet20" in measured:
        measured["loop"] = measure_loop(measured["resnet20"]["milliseconds"]["cnnjax"])
    Console().print(table(measured))
    if options.rounds >= Options.rounds and (options.gpu or set(nets) == set(NETS)):
        write_results(RESULTS.with_stem("train_step_gpu") if options.gpu else RESULTS, measured)
    else:
        print("not written: a result that is kept needs every net and at least 7 rounds")


if __name__ == "__main__":
    main(tyro.cli(Options, description=(__doc__ or "").split("\n\n")[0]))
