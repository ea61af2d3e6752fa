"""What the devices of a data-parallel step send each other, read from the compiled program.

Claim: on eight devices the training step of ResNet-50 with `shard_map` and each device's own batch statistics sends all
gradients at once: at most two all-reduces, for the compiler may cut one, of at most 1.01 times the parameters. The same
step under `jit`, whose batch statistics are global, needs one more for each of its norms, forward and backward; a
further one of each norm stands in a branch, which is taken where a channel's mean is over sixteen times its deviation.

    python experiments/benchmarks/reductions.py     # writes results/reductions.json; no device but the CPU is needed

Expected: shard_map 2 all-reduces of 25,606,315 numbers in all, jit 103 of 25,610,158; half a minute.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

RESULTS = Path(__file__).parent.parent / "results" / "reductions.json"


@dataclass(frozen=True)
class Options:
    """Which step is compiled.

    Attributes:
        model: a registered model.
        devices: how many devices a CPU plays.
        image_size: side of the pictures.
    """

    model: str = "resnet50"
    devices: int = 8
    image_size: int = 64


def reductions(program: Any, *, of_branches: bool = False) -> list[int]:
    """How many numbers each all-reduce of a compiled program adds up: of those that always run, or of branches."""
    found = []
    for line in program.as_text().splitlines():
        if ("/cond/branch_" in line) != of_branches:
            continue
        if match := re.search(r"= (.*?) all-reduce(-start)?\(", line):
            sizes = 0
            for shape in re.findall(r"\w+\[([\d,]*)\]", match[1]):
                count = 1
                for side in filter(None, shape.split(",")):
                    count *= int(side)
                sizes += count
            found.append(sizes)
    return found


def compile_step(options: Options, way: Literal["jit", "shard_map"]) -> tuple[Any, int]:
    """The compiled training step, and the number of the model's parameters; nothing is computed."""
    import jax
    import numpy as np
    import optax

    from cnnjax import models
    from cnnjax.data.augment import unchanged
    from cnnjax.tasks import Classification
    from cnnjax.train import Recipe
    from cnnjax.train.parallel import Parallel, make_mesh

    count, side = options.devices, options.image_size
    classes = tuple(map(str, range(1000)))
    model = models.create(options.model, num_classes=len(classes))
    recipe = Recipe(model, Classification(classes), optax.sgd(0.1), unchanged, lambda batch: batch)
    batch = {
        "image": np.zeros((count, side, side, 3), np.float32),
        "label": np.zeros(count, np.int32),
        "id": np.arange(count, dtype=np.int32),
        "valid": np.ones(count, bool),
    }
    state = jax.eval_shape(lambda: recipe.first_state(batch, seed=0))
    program = Parallel(make_mesh(count), way).compile_training(recipe, state, batch, None)
    return program, sum(leaf.size for leaf in jax.tree.leaves(state.params))


def main(options: Options) -> None:
    """Compiles both ways, prints and writes what they send."""
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(options.devices))
    from cnnjax.report.results import write_results

    measured: dict[str, Any] = {"model": options.model, "devices": options.devices}
    for way in ("shard_map", "jit"):
        program, parameters = compile_step(options, way)
        sizes = reductions(program)
        measured[way] = {
            "all_reduces": len(sizes),
            "numbers": sum(sizes),
            "share_of_parameters": round(sum(sizes) / parameters, 5),
            "all_reduces_in_branches": len(reductions(program, of_branches=True)),
        }
        print(f"{way}: {len(sizes)} all-reduces of {sum(sizes):,} numbers; the model has {parameters:,} parameters")
    if options == Options():
        write_results(RESULTS, measured)


if __name__ == "__main__":
    main(tyro.cli(Options, description=(__doc__ or "").split("\n\n")[0]))
