"""A training step of five nets, and inference of one, against plain Flax and PyTorch; and what the loop adds to it.

Claim: on two CPU cores a training step is at least as fast as PyTorch's as it is installed: LeNet-5 (batch 128),
ResNet-20 (128 pictures of 32), ResNet-50 and VGG-11 (8 of 224), and 1.5 times as fast for MobileNet v1 (16 of 224); so
is the inference of ResNet-50 for 1 and 8 pictures. LeNet-5, ResNet-20 and ResNet-50 train 1.7, 2 and 2 times as fast as
the same nets written with `flax.linen` and trained by a plain loop. What the loop of a run adds takes under 3 % of a
ResNet-20 step: inside it, where metrics are summed and a guard chooses between the old state and the new, against the
same net in a plain loop; and under 0.3 ms between two steps (metrics, signals, progress).

Each side is a process of its own, all sides are interleaved, and what counts are medians of the rounds. A side comes
with the C library as it is installed, or with memory kept between steps, which the command line of cnnjax sees to
(`cnnjax.train.allocator`): "cnnjax" keeps it, "torch" and "flax" do not; sides of equal settings are told beside them.

    python experiments/benchmarks/train_step.py --torch-python PATH     # writes results/train_step.json
    python experiments/benchmarks/train_step.py --rounds 3 --nets lenet5     # prints, and writes nothing
    python experiments/benchmarks/train_step.py --before PATH     # beside the package of another checkout

PATH is a Python that has PyTorch and torchvision, by default this one; without them their side is left out. On an
accelerator `--gpu` measures ResNet-50 in bfloat16 with 256 pictures instead, against Flax and torch.compile.

Expected: on two cores of an AMD EPYC without AVX-512, against PyTorch 2.14 as it is installed 1.30, 1.14, 1.07, 1.08
and 1.00 times as fast, in the order above, and 0.98 and 1.22 at inference: MobileNet and one picture miss their bars.
With memory kept on both sides 0.98, 1.17, 1.03, 0.91 and 1.19; on neither 1.34, 0.98, 0.96, 1.06 and 0.79. Against
Flax 1.55, 3.97 and 2.69, where LeNet-5 misses its bar. Beside the package before oneDNN was called, ResNet-20 and
ResNet-50 took 59 and 75 % of the processor time. Ten steps of LeNet-5 in a call gain nothing. These were measured
with memory kept from the start of the processes, which raised the peak of VGG-11 from 2.9 to 5.6 GiB; it is kept from
the first step on since. Single nets differ by a tenth from run to run. The loop adds nothing inside the step, and
0.28 ms between two. 40 minutes.
"""

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO, cast

import jax
import jax.numpy as jnp
import tyro
from rich.console import Console
from rich.table import Table

from cnnjax.report.results import write_results
from cnnjax.settings import Training
from cnnjax.tasks import Classification, Mean
from cnnjax.train import allocator
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.interruption import interruptible
from cnnjax.train.log import MetricsLog
from cnnjax.train.output import Output
from cnnjax.train.parallel import make_mesh
from cnnjax.train.plan import CALLS_AHEAD, Plan
from cnnjax.train.progress import reporting
from cnnjax.train.span import Span
from cnnjax.train.step import StepMetrics

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "experiments" / "results" / "train_step.json"


@dataclass(frozen=True)
class Case:
    """What is timed: a net, its batch, and how.

    Attributes:
        net: its name.
        shape: pictures of a batch, their side, channels, classes.
        steps: in a round.
        training: training steps; else inference.
        bars: how many times as fast as Flax and as PyTorch it should be; None is told without.
        together: steps in a call of ours.
        dtype: of our side and Flax's.
        gpu: whether PyTorch computes on a GPU.
    """

    net: str
    shape: tuple[int, int, int, int]
    steps: int
    training: bool = True
    bars: tuple[float | None, float | None] = (None, None)
    together: int = 1
    dtype: str = "float32"
    gpu: bool = False


NETS = {
    "lenet5": Case("lenet5", (128, 32, 1, 10), 20, bars=(1.7, 1.0)),
    "resnet20": Case("resnet20", (128, 32, 3, 10), 2, bars=(2.0, 1.0)),
    "resnet50": Case("resnet50", (8, 224, 3, 1000), 1, bars=(2.0, 1.0)),
    "vgg11": Case("vgg11", (8, 224, 3, 1000), 1, bars=(None, 1.0)),
    "mobilenet_v1": Case("mobilenet_v1", (16, 224, 3, 1000), 1, bars=(None, 1.5)),
    "resnet50_inference_1": Case("resnet50", (1, 224, 3, 1000), 4, training=False, bars=(None, 1.0)),
    "resnet50_inference_8": Case("resnet50", (8, 224, 3, 1000), 1, training=False, bars=(None, 1.0)),
}
GPU = {"resnet50": Case("resnet50", (256, 224, 3, 1000), 10, bars=(1.15, 1.0), dtype="bfloat16", gpu=True)}

# What is compared with "cnnjax", by the name under which it is told.
_KEPT, _INSTALLED = ", memory kept", ", memory as installed"


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        rounds: rounds; at least 7 for a result that is kept.
        nets: which nets, all for a result that is kept.
        torch_python: a Python that has PyTorch and torchvision.
        before: a checkout of this project whose package is measured beside this one.
        gpu: ResNet-50 in bfloat16 on an accelerator, in place of all nets on a CPU.
    """

    rounds: int = 7
    nets: tuple[str, ...] = tuple(NETS)
    torch_python: str = sys.executable
    before: Path | None = None
    gpu: bool = False


class Taken(NamedTuple):
    """What a side's steps took: seconds of a step, processor seconds of one, and the process's peak of memory."""

    seconds: float
    processor: float
    peak_mib: float


class Side:
    """A process that takes steps when it is asked."""

    def __init__(self, process: subprocess.Popen[str], version: str, complaints: TextIO) -> None:
        self._process, self.version, self._complaints = process, version, complaints

    def take(self, steps: int) -> Taken:
        """Has it take so many steps."""
        questions, answers = cast(TextIO, self._process.stdin), cast(TextIO, self._process.stdout)
        print(steps, file=questions, flush=True)
        said = answers.readline()
        if not said:
            raise RuntimeError(f"a side stopped: {complaint(self._complaints)}")
        seconds, processor, peak = json.loads(said)
        return Taken(seconds / steps, processor / steps, peak)


def complaint(complaints: TextIO) -> str:
    """The last line that a process wrote to its standard error."""
    complaints.seek(0)
    return [*complaints.read().strip().splitlines(), "no answer"][-2:][0]


@contextmanager
def running(
    python: str,
    name: str,
    case: Any,
    *,
    kept: bool = False,
    package: Path = ROOT,
    scripts: tuple[str, str] = ("jax_side.py", "torch_side.py"),
) -> Iterator[Side | None]:
    """A side, started; None where it does not start, as PyTorch's does where there is none.

    Args:
        python: that runs it.
        name: of the side.
        case: a dataclass, which it is told as JSON.
        kept: whether it keeps memory between steps.
        package: the checkout whose package it imports.
        scripts: of the sides on JAX, which are told their name, and of PyTorch's.
    """
    told = {**asdict(case), "keep_memory": kept, "allocator": allocator.__file__, "threads": os.cpu_count()}
    script = [scripts[1]] if name == "torch" else [scripts[0], name]
    command = [python, str(Path(__file__).parent / script[0]), *script[1:], json.dumps(told)]
    # The package first, then what compares it.
    path = os.pathsep.join(map(str, dict.fromkeys((package, ROOT))))
    with (
        # Compiling warns, which must not stand among the answers.
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        ) as process,
    ):
        try:
            version = cast(TextIO, process.stdout).readline().strip()
            if version:
                yield Side(process, json.loads(version), complaints)
            elif name == "torch":
                print("PyTorch left out:", complaint(complaints), flush=True)
                yield None
            else:
                raise RuntimeError(f"{name} does not start: {complaint(complaints)}")
        finally:
            cast(TextIO, process.stdin).close()
            process.wait(timeout=60)


def sides_of(case: Case, options: Options, stack: ExitStack) -> dict[str, Side]:
    """All sides of a case, started, by the names under which they are told."""

    def start(python: str, name: str, **settings: Any) -> Side | None:
        chosen = replace(case, together=settings.pop("together", 1))
        return stack.enter_context(running(python, name, chosen, **settings))

    here = sys.executable
    sides = {
        "cnnjax": start(here, "cnnjax", kept=not case.gpu),
        "flax": start(here, "flax"),
        "torch": start(options.torch_python, "torch"),
    }
    if not case.gpu:
        sides |= {
            f"cnnjax{_INSTALLED}": start(here, "cnnjax"),
            f"torch{_KEPT}": sides["torch"] and start(options.torch_python, "torch", kept=True),
        }
    if case.net == "lenet5":
        sides["cnnjax, ten steps a call"] = start(here, "cnnjax", kept=not case.gpu, together=10)
    if case.net == "resnet20":
        sides["cnnjax in a plain loop"] = start(here, "plain loop", kept=not case.gpu)
    if options.before is not None:
        sides["before"] = start(here, "cnnjax", package=options.before)
    return {name: side for name, side in sides.items() if side is not None}


def measure_case(case: Case, options: Options) -> dict[str, Any]:
    """Milliseconds of a step on every side, and how many times as fast ours is."""
    with ExitStack() as stack:
        sides = sides_of(case, options, stack)
        taken: dict[str, list[Taken]] = {name: [] for name in sides}
        for turn in range(options.rounds + 1):
            # There and back, so that no side always comes after the same other.
            for name in list(sides)[:: 1 if turn % 2 else -1]:
                found = sides[name].take(case.steps)
                if turn:
                    taken[name].append(found)
    return compared(case.bars, taken)


def compared(bars: tuple[float | None, float | None], taken: dict[str, list[Taken]]) -> dict[str, Any]:
    """What the rounds of all sides come to."""

    def median(name: str, field: str) -> float:
        return statistics.median(getattr(one, field) for one in taken[name])

    def ratio(ours: str, theirs: str) -> dict[str, float]:
        by_round = [b.seconds / a.seconds for a, b in zip(taken[ours], taken[theirs], strict=True)]
        return {
            "ratio": round(median(theirs, "seconds") / median(ours, "seconds"), 3),
            "least": round(min(by_round), 3),
            "largest": round(max(by_round), 3),
        }

    measured: dict[str, Any] = {
        "milliseconds": {name: round(1e3 * median(name, "seconds"), 3) for name in taken},
        "processor_milliseconds": {name: round(1e3 * median(name, "processor"), 3) for name in taken},
        "peak_mib": {name: round(taken[name][-1].peak_mib) for name in taken},
    }
    for other, bar in zip(("flax", "torch"), bars, strict=True):
        if other in taken:
            measured[f"times_as_fast_as_{other}"] = {**ratio("cnnjax", other), "bar": bar}
        if other in taken and f"cnnjax{_INSTALLED}" in taken:
            equal = {"as_installed": ratio(f"cnnjax{_INSTALLED}", other)}
            if f"{other}{_KEPT}" in taken:
                equal["kept"] = ratio("cnnjax", f"{other}{_KEPT}")
            measured[f"times_as_fast_as_{other}_with_equal_memory"] = equal
    if "cnnjax, ten steps a call" in taken and "torch" in taken:
        measured["times_as_fast_as_torch_with_ten_steps_a_call"] = ratio("cnnjax, ten steps a call", "torch")
    if "before" in taken:
        measured["times_as_fast_as_before"] = ratio("cnnjax", "before")
        spent = median("cnnjax", "processor") / median("before", "processor")
        measured["share_of_the_processor_time_before"] = round(spent, 3)
    if "cnnjax in a plain loop" in taken:
        plain = median("cnnjax in a plain loop", "seconds")
        measured["added_in_the_step"] = {"share": round(median("cnnjax", "seconds") / plain - 1, 4), "bar": 0.03}
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
    shown = Table("step of", "ms", "against", "ms", "found", "bar", "", title="A step")

    def add(name: str, ours: str, other: str, found: str, bar: str, reached: bool | None) -> None:
        times = measured[name]["milliseconds"] if other else {}
        texts = [f"{times[side]:.4g}" if other else "" for side in (ours, other)]
        shown.add_row(name, texts[0], other.removeprefix("cnnjax in a "), texts[1], found, bar, verdicts[reached])

    verdicts = {True: "reached", False: "missed", None: ""}
    for name in (name for name in NETS if name in measured):
        for other in ("flax", "torch"):
            if ratio := measured[name].get(f"times_as_fast_as_{other}"):
                found, bar = ratio["ratio"], ratio["bar"]
                told = "" if bar is None else f"at least {bar:g}x"
                add(name, "cnnjax", other, f"{found:.2f}x", told, None if bar is None else found >= bar)
            if equal := measured[name].get(f"times_as_fast_as_{other}_with_equal_memory"):
                add(name, f"cnnjax{_INSTALLED}", other, f"{equal['as_installed']['ratio']:.2f}x", "", None)
                if "kept" in equal:
                    add(name, "cnnjax", f"{other}{_KEPT}", f"{equal['kept']['ratio']:.2f}x", "", None)
        if ratio := measured[name].get("times_as_fast_as_torch_with_ten_steps_a_call"):
            add(name, "cnnjax, ten steps a call", "torch", f"{ratio['ratio']:.2f}x", "", None)
        if ratio := measured[name].get("times_as_fast_as_before"):
            add(name, "cnnjax", "before", f"{ratio['ratio']:.2f}x", "", None)
        if added := measured[name].get("added_in_the_step"):
            found, bar = added["share"], added["bar"]
            add(name, "cnnjax", "cnnjax in a plain loop", f"{found:+.1%}", f"under {bar:.0%}", found < bar)
    if loop := measured.get("loop"):
        found, bar = loop["milliseconds"], loop["bar_milliseconds"]
        add("the loop", "", "", f"{found:.3f} ms", f"under {bar:g} ms", found < bar)
        found, bar = loop["share_of_a_resnet20_step"], loop["bar_share"]
        add("the loop", "", "", f"{found:.2%}", f"under {bar:.0%}", found < bar)
    return shown


def main(options: Options) -> None:
    """Measures every net and the loop, prints, and writes if everything was measured in full."""
    cases = GPU if options.gpu else NETS
    if unknown := set(options.nets) - set(NETS):
        raise SystemExit(f"--nets {min(unknown)} is unknown; expected some of {', '.join(NETS)}")
    if options.gpu:
        # Else JAX takes three quarters of the memory, and PyTorch finds too little.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if options.gpu and jax.default_backend() == "cpu":
        raise SystemExit("--gpu needs an accelerator that JAX sees; there are only CPUs")
    measured: dict[str, Any] = {"rounds": options.rounds}
    for name in [name for name in cases if options.gpu or name in options.nets]:
        measured[name] = measure_case(cases[name], options)
        print(name, json.dumps(measured[name]["milliseconds"]), flush=True)
    with running(options.torch_python, "torch", NETS["lenet5"]) as torch:
        measured["torch"] = None if torch is None else torch.version
    if "resnet20" in measured:
        measured["loop"] = measure_loop(measured["resnet20"]["milliseconds"]["cnnjax"])
    Console().print(table(measured))
    if options.rounds >= Options.rounds and (options.gpu or set(options.nets) == set(NETS)):
        write_results(RESULTS.with_stem("train_step_gpu") if options.gpu else RESULTS, measured)
    else:
        print("not written: a result that is kept needs every net and at least 7 rounds")


if __name__ == "__main__":
    main(tyro.cli(Options, description=(__doc__ or "").split("\n\n")[0]))
