"""Every convolution and pool of the package against plain `lax` and against Flax's layer, forward and gradient.

Claim: gradients of 1x1, grouped, depthwise and strided-pool operations, and of any convolution inside `scan` and
`cond`, are several times faster on a CPU, and sixty layer shapes of classic networks at least as fast. All sides are
interleaved in one process; medians of the rounds. A side that compiles to the very same program as ours is not timed.

    python experiments/benchmarks/ops.py                       # writes results/ops.json and results/ops.md
    python experiments/benchmarks/ops.py --only 1x1            # prints, and writes nothing
    python experiments/benchmarks/ops.py --torch-python PATH   # the block against PyTorch, run by another Python

Expected: on two cores with jax 0.12, in about 8 minutes, gradients of 1x1 layers 2.9 to 6 times faster than `lax`, of
depthwise 5 to 6, of grouped 50 and more, of first layers 1.7 to 2.5, inside `scan` and `cond` 25 and more, of
max-pools 8 and more; the sixty layers 1.7 in the median, forward and gradient, and none below 1 by more than the noise
of short operations (0.87 in the run that is kept); a bottleneck block 2.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from cnnjax import layers
from cnnjax.functional import avg_pool, correlate, max_pool
from cnnjax.report.results import write_results
from cnnjax.report.timing import interleaved, medians

RESULTS = Path(__file__).parent.parent / "results"

# Net, batch, size, input and output channels, window, stride, groups, padding.
SWEEP = """
LeNet-5     64  32    1    6  5 1   1 VALID
LeNet-5     64  14    6   16  5 1   1 VALID
LeNet-5     64   5   16  120  5 1   1 VALID
AlexNet      4 227    3   96 11 4   1 VALID
AlexNet      4  27   96  256  5 1   2 SAME
AlexNet      4  13  256  384  3 1   1 SAME
AlexNet      4  13  384  384  3 1   2 SAME
AlexNet      4  13  384  256  3 1   2 SAME
VGG-16       2 224    3   64  3 1   1 SAME
VGG-16       2 224   64   64  3 1   1 SAME
VGG-16       2 112   64  128  3 1   1 SAME
VGG-16       2 112  128  128  3 1   1 SAME
VGG-16       2  56  128  256  3 1   1 SAME
VGG-16       2  56  256  256  3 1   1 SAME
VGG-16       2  28  256  512  3 1   1 SAME
VGG-16       2  28  512  512  3 1   1 SAME
VGG-16       2  14  512  512  3 1   1 SAME
GoogLeNet    8 224    3   64  7 2   1 SAME
GoogLeNet    8  56   64   64  1 1   1 SAME
GoogLeNet    8  56   64  192  3 1   1 SAME
GoogLeNet    8  28  192   64  1 1   1 SAME
GoogLeNet    8  28  192   96  1 1   1 SAME
GoogLeNet    8  28   96  128  3 1   1 SAME
GoogLeNet    8  28  192   16  1 1   1 SAME
GoogLeNet    8  28   16   32  5 1   1 SAME
GoogLeNet    8  28  192   32  1 1   1 SAME
GoogLeNet    8  14  480  192  1 1   1 SAME
GoogLeNet    8  14  112  224  3 1   1 SAME
GoogLeNet    8  14  512   24  1 1   1 SAME
GoogLeNet    8  14   24   64  5 1   1 SAME
GoogLeNet    8   7  832  384  1 1   1 SAME
GoogLeNet    8   7  192  384  3 1   1 SAME
GoogLeNet    8   7   48  128  5 1   1 SAME
ResNet-50    8  56  256   64  1 1   1 SAME
ResNet-50    8  56   64  256  1 1   1 SAME
ResNet-50    8  56   64   64  3 1   1 SAME
ResNet-50    8  56  128  128  3 2   1 SAME
ResNet-50    8  56  256  512  1 2   1 SAME
ResNet-50    8  28  512  128  1 1   1 SAME
ResNet-50    8  28  128  512  1 1   1 SAME
ResNet-50    8  28  128  128  3 1   1 SAME
ResNet-50    8  14 1024  256  1 1   1 SAME
ResNet-50    8  14  256  256  3 1   1 SAME
ResNet-50    8  14  256 1024  1 1   1 SAME
ResNet-50    8   7 2048  512  1 1   1 SAME
ResNet-50    8   7  512  512  3 1   1 SAME
ResNet-50    8   7  512 2048  1 1   1 SAME
ResNet-20   64  32    3   16  3 1   1 SAME
ResNet-20   64  32   16   16  3 1   1 SAME
ResNet-20   64  32   16   32  3 2   1 SAME
ResNet-20   64  16   32   32  3 1   1 SAME
ResNet-20   64  16   32   64  3 2   1 SAME
ResNet-20   64   8   64   64  3 1   1 SAME
MobileNet    8 224    3   32  3 2   1 SAME
MobileNet    8 112   32   32  3 1  32 SAME
MobileNet    8 112   32   64  1 1   1 SAME
MobileNet    8 112   64   64  3 2  64 SAME
MobileNet    8  56  128  128  1 1   1 SAME
MobileNet    8  28  256  256  3 1 256 SAME
MobileNet    8  14  512  512  3 1 512 SAME
"""


@dataclass(frozen=True)
class Case:
    """One operation on arrays of given shapes: ours first, then the rivals, each a function of the same arrays."""

    group: str
    name: str
    shapes: tuple[tuple[int, ...], ...]
    sides: dict[str, Callable[..., Any]]
    bar: float | None = None


@dataclass
class Row:
    """What was measured: milliseconds a side, and how many times ours is faster than each rival."""

    group: str
    name: str
    bar: float | None
    milliseconds: dict[str, float] = field(default_factory=dict)
    times_faster: dict[str, float] = field(default_factory=dict)


def convolution(
    batch: int,
    size: int,
    channels: int,
    outputs: int,
    window: int,
    stride: int = 1,
    groups: int = 1,
    padding: str = "SAME",
) -> tuple[tuple[tuple[int, ...], ...], dict[str, Callable[..., Any]]]:
    """Shapes of images and kernel, and the convolution by us, by `lax` and by Flax."""
    shapes = (batch, size, size, channels), (window, window, channels // groups, outputs)
    layer = nn.Conv(
        outputs, (window, window), strides=stride, padding=padding, feature_group_count=groups, use_bias=False
    )
    return shapes, {
        "ours": lambda x, w: correlate(x, w, strides=stride, padding=padding, groups=groups),
        "lax": lambda x, w: lax.conv_general_dilated(
            x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
        ),
        "flax": lambda x, w: layer.apply({"params": {"kernel": w}}, x),
    }


def gradient(function: Callable[..., Any], operands: Sequence[int] = (0, 1)) -> Callable[..., Any]:
    """The cotangents of the operands, from the output's cotangent and the arrays."""

    def run(cotangent: jax.Array, *arrays: jax.Array) -> Any:
        def of_operands(*chosen: jax.Array) -> jax.Array:
            inputs = list(arrays)
            for place, value in zip(operands, chosen, strict=True):
                inputs[place] = value
            return function(*inputs)

        _, pull = jax.vjp(of_operands, *(arrays[place] for place in operands))
        return pull(cotangent)

    return run


def in_scan(run: Callable[..., Any]) -> Callable[..., Any]:
    """Two steps of gradient descent by `lax.scan`."""

    def scanned(cotangent: jax.Array, *arrays: jax.Array) -> Any:
        def descend(values: Any, _: None) -> tuple[Any, None]:
            return jax.tree.map(lambda a, b: a - 1e-6 * b, values, run(cotangent, *values)), None

        return lax.scan(descend, arrays, None, length=2)[0]

    return scanned


def in_cond(run: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient in a branch that is taken."""

    def branched(cotangent: jax.Array, *arrays: jax.Array) -> Any:
        return lax.cond(cotangent.ravel()[0] < jnp.inf, lambda: run(cotangent, *arrays), lambda: arrays)

    return branched


def with_gradients(case: Case, operands: Sequence[int] = (0, 1), wrap: Callable[..., Any] = lambda run: run) -> Case:
    """The same sides' gradients; the first array is then the output's cotangent."""
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in case.shapes]
    output = jax.eval_shape(case.sides["ours"], *inputs)
    sides = {name: wrap(gradient(side, operands)) for name, side in case.sides.items()}
    return Case(case.group, case.name, (output.shape, *case.shapes), sides, case.bar)


def conv_cases() -> Iterator[Case]:
    """The convolutions with a bar of their own."""
    pointwise: tuple[tuple[int, int, int, int, int], ...] = ((16, 56, 64, 256, 1), (8, 28, 64, 256, 1))
    for sizes in pointwise:
        label = "{}x{}x{} {} to {}".format(sizes[0], sizes[1], *sizes[1:4])
        shapes, sides = convolution(*sizes)
        yield with_gradients(Case("1x1 gradient", label, shapes, sides, bar=3.0))
    for batch, size, channels in ((8, 28, 64), (8, 56, 128)):
        shapes, sides = convolution(batch, size, channels, channels, 3, groups=channels)
        label = f"{batch}x{size}x{size} {channels}"
        yield Case("depthwise 3x3 forward", label, shapes, sides, bar=10.0)
        yield with_gradients(Case("depthwise 3x3 gradient", label, shapes, sides, bar=3.0))
    for groups in (8, 32):
        shapes, sides = convolution(4, 28, 128, 128, 3, groups=groups)
        yield Case("grouped 3x3 forward", f"4x28x28 128, {groups} groups", shapes, sides)
        yield with_gradients(Case("grouped 3x3 gradient", f"4x28x28 128, {groups} groups", shapes, sides, bar=10.0))
    for label, layer in (
        ("8x224x224 3 to 64, 7x7 stride 2", convolution(8, 224, 3, 64, 7, 2)),
        ("64x28x28 1 to 32, 3x3", convolution(64, 28, 1, 32, 3)),
    ):
        case = Case("first layer gradient", label, *layer, bar=1.5)
        yield with_gradients(case)
        yield with_gradients(Case("first layer gradient", f"{label}, kernel only", case.shapes, case.sides), (1,))
    for label, layer in (
        ("4x28x28 64 to 64", convolution(4, 28, 64, 64, 3)),
        ("16x16x16 32 to 32", convolution(16, 16, 32, 32, 3)),
    ):
        case = Case("3x3 gradient in scan", label, *layer, bar=10.0)
        yield with_gradients(case, wrap=in_scan)
        yield with_gradients(Case("3x3 gradient in cond", label, case.shapes, case.sides, 10.0), wrap=in_cond)


def pool_cases() -> Iterator[Case]:
    """Pools, forward and gradient."""
    for shape in ((16, 56, 56, 64), (8, 112, 112, 64), (64, 28, 28, 32)):
        for window, bar in ((2, 3.0), (3, 1.5)):
            label = f"{'x'.join(map(str, shape[:3]))} {shape[3]}, {window}x{window} stride 2"
            for name, ours, flax in (("max-pool", max_pool, nn.max_pool), ("average-pool", avg_pool, nn.avg_pool)):
                sides: dict[str, Callable[..., Any]] = {
                    "ours": partial(ours, window=window, strides=2, padding="SAME"),
                    "flax": partial(flax, window_shape=(window, window), strides=(2, 2), padding="SAME"),
                }
                if ours is avg_pool:
                    sides["ours"] = partial(sides["ours"], count_padding=True)
                yield Case(f"{name} forward", label, (shape,), sides)
                case = Case(f"{name} gradient", label, (shape,), sides, bar if ours is max_pool else None)
                yield with_gradients(case, operands=(0,))


def sweep_cases() -> Iterator[Case]:
    """Layers of classic networks, forward and gradient."""
    for line in SWEEP.strip().splitlines():
        net, *numbers, padding = line.split()
        batch, size, channels, outputs, window, stride, groups = map(int, numbers)
        shapes, sides = convolution(batch, size, channels, outputs, window, stride, groups, padding)
        label = f"{net} {batch}x{size}x{size} {channels} to {outputs}, {window}x{window}/{stride}"
        label += f", {groups} groups" if groups > 1 else ""
        sides = {name: sides[name] for name in ("ours", "lax")}
        yield Case("sweep forward", label, shapes, sides)
        yield with_gradients(Case("sweep gradient", label, shapes, sides))


class Bottleneck(nn.Module):
    """ResNet-50's block at 56x56 with identity shortcut, of the convolution and norm it is given."""

    conv: Callable[..., Any]
    norm: Callable[..., Any]

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """The block in training mode."""
        outputs = images
        for place, (features, window) in enumerate(((64, 1), (64, 3), (256, 1))):
            outputs = self.conv(features, (window, window), use_bias=False, name=f"conv{place}")(outputs)
            outputs = self.norm(f"norm{place}")(outputs)
            outputs = nn.relu(outputs) if place < 2 else outputs
        return nn.relu(images + outputs)


def block_step(block: Bottleneck, batch: int) -> Callable[[], Any]:
    """A compiled training step of the block: gradients of images and parameters, statistics, descent."""
    images = jax.random.normal(jax.random.key(0), (batch, 56, 56, 256))
    cotangent = jax.random.normal(jax.random.key(1), images.shape)
    variables = block.init(jax.random.key(2), images)

    @jax.jit
    def step(variables: Any, images: jax.Array, cotangent: jax.Array) -> Any:
        def loss(params: Any, images: jax.Array) -> Any:
            outputs, state = block.apply({**variables, "params": params}, images, mutable=["batch_stats"])
            return jnp.sum(outputs * cotangent), state

        gradients, state = jax.grad(loss, (0, 1), has_aux=True)(variables["params"], images)
        params = jax.tree.map(lambda value, slope: value - 1e-3 * slope, variables["params"], gradients[0])
        return params, state, gradients[1]

    return partial(step, variables, images, cotangent)


OURS = Bottleneck(layers.Conv, lambda name: partial(layers.BatchNorm(name=name), train=True))
FLAX = Bottleneck(nn.Conv, lambda name: nn.BatchNorm(use_running_average=False, momentum=0.9, name=name))

# Answers each line on its standard input with the seconds of one step, as JSON.
TORCH_SIDE = """
import sys, time, torch
batch, layout = int(sys.argv[1]), getattr(torch, sys.argv[2])
class Bottleneck(torch.nn.Module):
    def __init__(self):
        super().__init__()
        sizes = ((256, 64, 1), (64, 64, 3), (64, 256, 1))
        self.convs = torch.nn.ModuleList([torch.nn.Conv2d(i, o, k, padding=k // 2, bias=False) for i, o, k in sizes])
        self.norms = torch.nn.ModuleList([torch.nn.BatchNorm2d(o) for _, o, _ in sizes])
    def forward(self, images):
        outputs = images
        for place in range(3):
            outputs = self.norms[place](self.convs[place](outputs))
            outputs = torch.relu(outputs) if place < 2 else outputs
        return torch.relu(images + outputs)
block = Bottleneck().to(memory_format=layout)
images = torch.randn(batch, 256, 56, 56).to(memory_format=layout).requires_grad_()
cotangent = torch.randn(batch, 256, 56, 56).to(memory_format=layout)
print(torch.__version__, flush=True)
for _ in sys.stdin:
    began = time.perf_counter()
    block.zero_grad()
    images.grad = None
    (block(images) * cotangent).sum().backward()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter -= 1e-3 * parameter.grad
    print(time.perf_counter() - began, flush=True)
"""


def time_block(rounds: int, batch: int = 16) -> Row:
    """The bottleneck's training step on our layers and on Flax's."""
    row = Row("bottleneck block, training step", f"{batch}x56x56, 256-64-256", 1.6)
    seconds = medians(interleaved({"ours": block_step(OURS, batch), "flax": block_step(FLAX, batch)}, rounds=rounds))
    return fill(row, seconds)


def time_block_against_torch(python: str, rounds: int, batch: int = 16) -> Row | None:
    """The same against PyTorch in a process of its own, which waits while we run; its faster memory layout counts."""
    row = Row("bottleneck block against PyTorch", f"{batch}x56x56, 256-64-256", 0.9)
    sides = {}
    for layout in ("contiguous_format", "channels_last"):
        command = [python, "-c", TORCH_SIDE, str(batch), layout]
        side = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        questions, answers = cast(TextIO, side.stdin), cast(TextIO, side.stdout)
        said = answers.readline()
        if not said[:1].isdigit():
            reason = [*(said + answers.read()).strip().splitlines(), "no answer"]
            print("PyTorch skipped:", reason[max(0, len(reason) - 2)], flush=True)
            return None
        sides[layout] = questions, answers
    step = block_step(OURS, batch)
    seconds: dict[str, list[float]] = {"ours": [], **{f"torch {layout}": [] for layout in sides}}
    for turn in range(rounds + 1):
        for layout, (questions, answers) in sides.items():
            print("step", file=questions, flush=True)
            answer = float(answers.readline())
            if turn:
                seconds[f"torch {layout}"].append(answer)
        ours = interleaved({"ours": step}, rounds=1, least_seconds=0.0)["ours"]
        if turn:
            seconds["ours"] += ours
    for questions, _ in sides.values():
        questions.close()
    return fill(row, {name: statistics.median(times) for name, times in seconds.items()})


def fill(row: Row, seconds: dict[str, float]) -> Row:
    """Writes seconds by side into the row."""
    row.milliseconds = {name: round(1e3 * value, 3) for name, value in seconds.items()}
    row.times_faster = {name: round(value / seconds["ours"], 2) for name, value in seconds.items() if name != "ours"}
    return row


def time_case(case: Case, rounds: int) -> Row:
    """Compiles every side, and times those whose programs differ from ours; short ones over thrice the rounds."""
    arrays = [jax.random.normal(jax.random.key(place), shape) for place, shape in enumerate(case.shapes)]
    compiled = {name: jax.jit(side).lower(*arrays).compile() for name, side in case.sides.items()}
    same = [name for name in case.sides if name != "ours" and program(compiled[name]) == program(compiled["ours"])]
    calls = {name: partial(run, *arrays) for name, run in compiled.items() if name not in same}
    seconds = medians(interleaved(calls, rounds=rounds))
    if max(seconds.values()) < 0.03:
        # Short operations suffer most from what else a machine does.
        seconds = medians(interleaved(calls, rounds=3 * rounds))
    row = fill(Row(case.group, case.name, case.bar), seconds)
    row.times_faster |= dict.fromkeys(same, 1.0)
    return row


def program(compiled: Any) -> str:
    """The optimised program without names and places in the source."""
    text = re.sub(r", metadata=\{[^}]*\}|, backend_config=\{.*\}", "", compiled.as_text())
    names: dict[str, str] = {}
    text = re.sub(r"%[\w.\-]+", lambda name: names.setdefault(name[0], f"%{len(names)}"), text)
    return text[text.index("%0") :]


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| operation | shape | ours, ms | rivals, ms | times faster | bar |", "|---|---|---|---|---|---|"]
    for row in rows:
        rivals = ", ".join(f"{name} {value:.2f}" for name, value in row.milliseconds.items() if name != "ours")
        faster = ", ".join(f"{name} {value:.2f}" for name, value in row.times_faster.items())
        reached = ""
        if row.bar is not None:
            reached = f"{row.bar:g}, {'reached' if min(row.times_faster.values()) >= row.bar else 'not reached'}"
        ours = f"{row.milliseconds['ours']:.2f}"
        lines.append(f"| {row.group} | {row.name} | {ours} | {rivals or 'the same program'} | {faster} | {reached} |")
    return "\n".join(lines) + "\n"


# What was tried where a bar is missed, and what the limit is.
LIMITS = """
Where a bar is missed:

- 1x1 gradient, 8x28x28 64 to 256. The kernel's half is one matrix product, 4.5 to 5.4 times faster than `lax`; the
  images' half is one matrix product on both sides already, so that it bounds the whole near 3.
- Sweep, gradients below 0.95. They are layers of 1 to 8 ms whose two convolutions are those that XLA makes of `lax`'s.
  Three runs on two machines gave the same layers 0.82, 0.95 and 1.00 (GoogLeNet 8x7x7 48 to 128, 5x5), 1.84, 0.87 and
  1.38 (8x28x28 192 to 16, 1x1), 1.11, 0.94 and 0.82 (ResNet-20 64x8x8 64 to 64): noise, about a ratio of one.
"""


def notes(summary: dict[str, Any]) -> str:
    """The sweep in two lines beside its bars, and the limits."""
    lines = ["", "Sweep of sixty layers against `lax`, bars: none below 0.95, median at least 1.2."]
    lines += [
        f"{kind}: least {numbers['least']:.2f}, median {numbers['median']:.2f}." for kind, numbers in summary.items()
    ]
    return "\n".join(lines) + "\n" + LIMITS


def summarize_sweep(rows: Sequence[Row]) -> dict[str, Any]:
    """Least and median ratio of the sweep, forward, gradient and both together."""
    summary: dict[str, Any] = {}
    by_layer: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.group.startswith("sweep"):
            ours = row.milliseconds["ours"]
            by_layer.setdefault(row.name, []).append((ours, ours * row.times_faster["lax"]))
    for kind in ("forward", "gradient"):
        ratios = [row.times_faster["lax"] for row in rows if row.group == f"sweep {kind}"]
        if ratios:
            summary[kind] = {"layers": len(ratios), "least": min(ratios), "median": statistics.median(ratios)}
    steps = [
        sum(lax for _, lax in pair) / sum(ours for ours, _ in pair) for pair in by_layer.values() if len(pair) == 2
    ]
    if steps:
        summary["forward and gradient"] = {
            "layers": len(steps),
            "least": round(min(steps), 2),
            "median": round(statistics.median(steps), 2),
        }
    return summary


def main() -> None:
    """Times every case and writes JSON and table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="rounds per case, at least 7 for a result that is kept")
    parser.add_argument("--only", default="", help="only groups that contain this, or 'sweep' or 'block'; prints only")
    parser.add_argument("--torch-python", default=sys.executable, help="a Python that has PyTorch, for the block")
    options = parser.parse_args()
    if options.rounds < 7 and not options.only:
        parser.error(f"--rounds {options.rounds}; results that are kept need at least 7")
    rows: list[Row] = []
    for case in (*conv_cases(), *pool_cases(), *sweep_cases()):
        if options.only in case.group:
            rows.append(time_case(case, options.rounds))
            print(table(rows).splitlines()[-1], flush=True)
    if options.only in "bottleneck block":
        rows.append(time_block(options.rounds))
        against = time_block_against_torch(options.torch_python, options.rounds)
        rows += [against] if against else []
        print(*table(rows).splitlines()[-1 - bool(against) :], sep="\n", flush=True)
    if not rows:
        parser.error(f"--only {options.only!r} is in no group's name")
    summary = summarize_sweep(rows)
    print(json.dumps(summary, indent=2))
    if not options.only:
        write_results(
            RESULTS / "ops.json",
            {"rounds": options.rounds, "sweep": summary, "rows": [asdict(row) for row in rows]},
        )
        (RESULTS / "ops.md").write_text(table(rows) + notes(summary), encoding="utf-8")


if __name__ == "__main__":
    main()
