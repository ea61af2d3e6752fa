"""Every method of each product of a convolution on a CPU: what the rules of `functional.cpu.choice` are drawn from.

Claim: for output, images' and kernel's gradient of the layers of classic nets, the method that is chosen takes at most
a quarter more time than the best of all in nine of ten cases, and is the best in most.

    python experiments/benchmarks/cpu_products.py             # writes results/cpu_products/INSTRUCTIONS.json
    python experiments/benchmarks/cpu_products.py --only "ResNet-20  128"     # prints, and writes nothing

All methods of a product are interleaved; medians of the rounds. A method that took four times as long as the best in
three rounds is left out of the others.

Expected: on two cores with AVX2, for the 18 products of ResNet-20's layers with 128 pictures the method chosen is the
best in 16, and takes 12 and 16 % more than the best in two; it is 1.1 to 9.8 times as fast as `lax`. 42 s for
these, a quarter of an hour for all layers.
"""

import json
import runpy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax

from cnnjax.cli import one_line_errors
from cnnjax.functional.correlation import Correlation, Factor, reference_product
from cnnjax.functional.cpu.choice import Method, Product, choose, methods
from cnnjax.functional.cpu.machine import this_machine
from cnnjax.functional.cpu.product import compute, cpu_product
from cnnjax.report.results import write_results

RESULTS = Path(__file__).parent.parent / "results" / "cpu_products"

# The layers of another benchmark; and besides, the batches of training, and single pictures.
SWEEP: str = runpy.run_path(str(Path(__file__).with_name("ops.py")))["SWEEP"]
MORE = """
LeNet-5    128  32    1    6  5 1   1 VALID
LeNet-5    128  14    6   16  5 1   1 VALID
LeNet-5    128   5   16  120  5 1   1 VALID
ResNet-20  128  32    3   16  3 1   1 SAME
ResNet-20  128  32   16   16  3 1   1 SAME
ResNet-20  128  32   16   32  3 2   1 SAME
ResNet-20  128  16   32   32  3 1   1 SAME
ResNet-20  128  16   32   64  3 2   1 SAME
ResNet-20  128   8   64   64  3 1   1 SAME
ResNet-50    8  28  256  256  3 2   1 SAME
ResNet-50    8  28  512 1024  1 2   1 SAME
ResNet-50    8  14  512  512  3 2   1 SAME
ResNet-50    8  14 1024 2048  1 2   1 SAME
ResNet-50    1  56   64   64  3 1   1 SAME
ResNet-50    1  14  256  256  3 1   1 SAME
ResNet-50    1  14 1024  256  1 1   1 SAME
ResNet-50    1   7 2048  512  1 1   1 SAME
VGG-11       8   7  512 4096  7 1   1 VALID
VGG-11       8  56  256  256  3 1   1 SAME
VGG-11       8  28  512  512  3 1   1 SAME
VGG-11       8  14  512  512  3 1   1 SAME
ResNeXt      4  28  128  128  3 1   8 SAME
ResNeXt      4  28  128  128  3 1  32 SAME
MobileNet   16 112   32   32  3 1  32 SAME
MobileNet   16  14  512  512  3 1 512 SAME
ConvNet     64  28    1   32  3 1   1 SAME
ConvNet     64  14   32   64  3 1   1 SAME
"""

# Methods with more taps than this compile for too long.
_MOST_TAPS = 49


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        rounds: rounds; at least 7 for a result that is kept.
        only: a text that is in the name of the layers measured; all layers for a result that is kept.
    """

    rounds: int = 7
    only: str = ""


def form_of(size: int, window: int, stride: int, groups: int, padding: str) -> Correlation:
    """A square correlation, as the nets have it."""
    (margins,) = lax.padtype_to_pads((size,), (window,), (stride,), padding)
    before_and_after = (int(margins[0]), int(margins[1]))
    return Correlation((size,) * 2, (window,) * 2, (stride,) * 2, (before_and_after,) * 2, (1, 1), (1, 1), groups)


def sides_of(product: Product) -> dict[str, Callable[..., Any]]:
    """`lax`, every method, and for groups the choice for each."""
    sides: dict[str, Callable[..., Any]] = {"lax": partial(reference_product, result=product.result, form=product.form)}
    for method in methods(product):
        if method == "apart":
            sides["chosen"] = partial(cpu_product, result=product.result, form=product.form)
        elif method in ("convolution", "pieces", "onednn", "matrix", "onednn matrix") or product.taps <= _MOST_TAPS:
            sides[method] = partial(compute, method, result=product.result, form=product.form)
    return sides


def measure(product: Product, arrays: tuple[jax.Array, jax.Array], rounds: int) -> dict[str, float]:
    """Milliseconds of every side."""
    compiled = {name: jax.jit(side).lower(*arrays).compile() for name, side in sides_of(product).items()}
    calls, taken = {}, {name: [] for name in compiled}
    for name, run in compiled.items():
        run(*arrays).block_until_ready()
        began = time.perf_counter()
        run(*arrays).block_until_ready()
        calls[name] = max(1, min(50, round(0.02 / (time.perf_counter() - began))))
    for turn in range(rounds):
        best = min((min(times) for times in taken.values() if times), default=0.0)
        for name in list(compiled)[:: 1 if turn % 2 else -1]:
            if len(taken[name]) >= 3 and min(taken[name]) > 4 * best:
                continue
            began = time.perf_counter()
            jax.block_until_ready([compiled[name](*arrays) for _ in range(calls[name])])
            taken[name].append((time.perf_counter() - began) / calls[name])
    return {name: round(1e3 * statistics.median(times), 3) for name, times in taken.items()}


def measure_layer(line: str, rounds: int) -> list[dict[str, Any]]:
    """All three products of a layer."""
    *numbers, padding = line.split()[1:]
    examples, size, channels, outputs, window, stride, groups = map(int, numbers)
    form = form_of(size, window, stride, groups, padding)
    random = np.random.default_rng(0)
    images, kernel, output = (
        jnp.asarray(random.standard_normal(shape), jnp.float32)
        for shape in (
            (examples, size, size, channels),
            (window, window, channels // groups, outputs),
            (examples, *form.positions, outputs),
        )
    )
    pairs: dict[Factor, tuple[jax.Array, jax.Array]] = {
        "output": (images, kernel),
        "images": (kernel, output),
        "kernel": (images, output),
    }
    found = []
    for result in get_args(Factor):
        product = Product(result, form, examples, channels, outputs)
        chosen = choose(product, this_machine())
        milliseconds = measure(product, pairs[result], rounds)
        ours = milliseconds.get(chosen, milliseconds.get("chosen", float("nan")))
        best = min(time for name, time in milliseconds.items() if name != "lax")
        found.append(
            {
                "layer": " ".join(line.split()),
                "product": result,
                "chosen": chosen,
                "share_of_the_best": round(ours / best, 3),
                "times_faster_than_lax": round(milliseconds["lax"] / ours, 3),
                "milliseconds": milliseconds,
            }
        )
    return found


def main(options: Options) -> None:
    """Measures all layers, prints a line each, and writes what was measured in full."""
    lines = [line for line in (SWEEP + MORE).strip().splitlines() if line and options.only in line]
    if not lines:
        raise ValueError(f"--only {options.only} is in the name of no layer")
    rows = []
    for line in lines:
        for row in measure_layer(line, options.rounds):
            rows.append(row)
            print(json.dumps(row), flush=True)
    shares = sorted(row["share_of_the_best"] for row in rows)
    summary = {
        "machine": str(this_machine()),
        "products": len(rows),
        "share_of_the_best": {"median": statistics.median(shares), "ninth_of_ten": shares[int(0.9 * len(shares))]},
        "methods": {method: sum(row["chosen"] == method for row in rows) for method in get_args(Method)},
    }
    print(json.dumps(summary))
    if options.rounds >= Options.rounds and not options.only:
        write_results(RESULTS / f"{this_machine().instructions}.json", {**summary, "rows": rows})


if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=(__doc__ or "").split("\n\n")[0]))
