"""How fast pictures reach the training step, against PyTorch's DataLoader and against bare decoding with Pillow.

Claim: 2,000 JPEGs of 500x375, decoded, cropped at random to 224, flipped and normalised, come 1.3 times as fast as
from a PyTorch DataLoader that does the same with Pillow. Bare decoding, without the rest, is the limit; the bar is 0.8
of it. All sides are interleaved in one run on the same two cores; medians of the rounds. CIFAR-10 resident on the
device costs less than 5 % of a ResNet-20 step; a folder of 100,000 files is indexed in under 20 s; a process that
shuffles 1,000,000 examples stays under 600 MB.

    python experiments/benchmarks/input.py --torch-python PATH     # writes results/input.json
    python experiments/benchmarks/input.py --pictures 200 --rounds 3 --only pictures     # prints, and writes nothing

PATH is a Python that has PyTorch and torchvision, by default this one; without them their side is left out.

Expected: on two cores of an AMD EPYC, 1,352 pictures a second, 1.38 times as many as the DataLoader, and 0.43 of bare
decoding, whose bar is missed: Pillow's resizing of a crop costs 0.8 of what decoding the whole picture does. Resident
CIFAR-10 takes 0.15 % of a ResNet-20 step, the folder 0.8 s, the memory is 310 MB. The whole takes two minutes.
"""

import io
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import numpy as np
import tyro
from PIL import Image

RESULTS = Path(__file__).parent.parent / "results" / "input.json"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Batches that are taken before the clock starts, so that what was prepared ahead is not counted as done at once.
AHEAD = 4


@dataclass(frozen=True)
class Options:
    """How much is measured, and where.

    Attributes:
        pictures: JPEGs read by every side in every round; 2,000 for a result that is kept.
        rounds: rounds; at least 7 for a result that is kept.
        batch_size: pictures in a batch.
        cores: how many of the machine's cores are used, by whatever is measured.
        workers: processes in which our side reads; by default one process with a thread per core.
        files: files in the folder that is indexed; 100,000 for a result that is kept.
        only: the one part to measure; it is printed and not written.
        torch_python: a Python that has PyTorch and torchvision.
        work_dir: where pictures and folders are made; a temporary folder by default.
    """

    pictures: int = 2000
    rounds: int = 7
    batch_size: int = 100
    cores: int = 2
    workers: int = 0
    files: int = 100_000
    only: Literal["pictures", "resident", "folder", "memory"] | None = None
    torch_python: str = sys.executable
    work_dir: Path | None = None


def make_pictures(folder: Path, count: int, *, size: tuple[int, int] = (500, 375), quality: int = 90) -> list[Path]:
    """Random parts of the two photographs that scikit-learn ships, in a folder for each; the same every time."""
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        kind = number % len(photographs)
        photograph = photographs[kind]
        # Four by three, as wide as 500 to 569 of the photograph's 640 pixels.
        width = random.uniform(size[0], photograph.height * size[0] / size[1])
        height = width * size[1] / size[0]
        left, top = random.uniform(0, photograph.width - width), random.uniform(0, photograph.height - height)
        path = folder / ("china", "flower")[kind] / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = photograph.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
        part.save(path, "JPEG", quality=quality)
        paths.append(path)
    return paths


def our_side(folder: Path, options: Options) -> Callable[[], float]:
    """Seconds for all pictures through `train_batches` and a compiled step that flips and normalises."""
    import jax

    from cnnjax.data import RandomCrop, ReadPictures, augment, open_source, train_batches

    source = open_source(f"folder:{folder}", "all")

    # The pictures before are given back and written over: new memory would cost four times as much as the arithmetic.
    @partial(jax.jit, donate_argnames="before", keep_unused=True)
    def prepare(key: jax.Array, images: jax.Array, ids: jax.Array, before: jax.Array) -> jax.Array:
        flipped = augment.on_batch(augment.flip)(key, {"image": images, "id": ids})
        return augment.standardize(flipped, mean=MEAN, deviation=DEVIATION)["image"]

    def run() -> float:
        batches = train_batches(
            source,
            batch_size=options.batch_size,
            seed=0,
            read=ReadPictures(224, random_crop=RandomCrop()),
            threads=1 if options.workers else options.cores,
            workers=options.workers,
        )
        prepared = jax.numpy.zeros((options.batch_size, 224, 224, 3))
        with closing(batches):
            for batch in itertools.islice(batches, AHEAD):
                prepared = prepare(jax.random.key(0), batch["image"], batch["id"], prepared)
            jax.block_until_ready(prepared)
            began = time.perf_counter()
            for batch in itertools.islice(batches, options.pictures // options.batch_size):
                prepared = prepare(jax.random.key(0), batch["image"], batch["id"], prepared)
            jax.block_until_ready(prepared)
            return time.perf_counter() - began

    return run


def decode(paths: Sequence[Path]) -> None:
    """Decodes files into Pillow's memory."""
    for path in paths:
        with Image.open(path) as picture:
            picture.load()


def decode_to_arrays(paths: Sequence[Path]) -> None:
    """Decodes files into arrays of bytes."""
    for path in paths:
        with Image.open(path) as picture:
            np.asarray(picture)


def bare_side(
    pool: Executor, work: Callable[[Sequence[Path]], None], paths: Sequence[Path], share: int
) -> Callable[[], float]:
    """Seconds for decoding all files in a pool, in shares of so many."""
    parts = [paths[start : start + share] for start in range(0, len(paths), share)]

    def run() -> float:
        began = time.perf_counter()
        for _ in pool.map(work, parts):
            pass
        return time.perf_counter() - began

    return run


# Answers each line on its standard input with the seconds of one round.
TORCH_SIDE = """
import json, os, sys, time
folder, pictures, batch_size, cores, ahead, mean, deviation = json.loads(sys.argv[1])
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
import torch
from torchvision import datasets, transforms
steps = pictures // batch_size
data = datasets.ImageFolder(folder, transforms.Compose([
    transforms.RandomResizedCrop(224),
    transforms.RandomHorizontalFlip(),
    transforms.ToTensor(),
    transforms.Normalize(mean, deviation),
]))
if __name__ == "__main__":
    # Batches beyond the timed ones, so that the workers are not out of work before the clock stops.
    sampler = torch.utils.data.RandomSampler(data, replacement=True, num_samples=(steps + 2 * ahead) * batch_size)
    loader = torch.utils.data.DataLoader(
        data, batch_size=batch_size, sampler=sampler, num_workers=cores, persistent_workers=True)
    print(f"{torch.__version__}", flush=True)
    for _ in sys.stdin:
        for place, _ in enumerate(loader, start=1):
            if place == ahead:
                began = time.perf_counter()
            if place == ahead + steps:
                seconds = time.perf_counter() - began
        print(seconds, flush=True)
"""


@contextmanager
def torch_side(folder: Path, options: Options) -> Iterator[tuple[str, Callable[[], float]] | None]:
    """PyTorch's version and the seconds that its loader takes, in a process of its own; None where there is none."""
    known = (str(folder), options.pictures, options.batch_size, options.cores, AHEAD, MEAN, DEVIATION)
    command = [options.torch_python, "-c", TORCH_SIDE, json.dumps(known)]
    side = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    questions, answers = cast(TextIO, side.stdin), cast(TextIO, side.stdout)

    def run() -> float:
        print("round", file=questions, flush=True)
        said = answers.readline()
        try:
            return float(said)
        except ValueError:
            raise RuntimeError(f"PyTorch's side stopped: {said}{answers.read()}") from None

    try:
        version = answers.readline()
        if version[:1].isdigit():
            yield version.strip(), run
        else:
            reason = [*(version + answers.read()).strip().splitlines(), "no answer"]
            print("PyTorch left out:", reason[max(0, len(reason) - 2)], flush=True)
            yield None
    finally:
        questions.close()
        side.wait(timeout=60)


def measure_pictures(folder: Path, options: Options) -> dict[str, Any]:
    """Pictures per second of every side, and how many times as fast as the others ours is."""
    paths = make_pictures(folder, options.pictures)
    share = max(1, options.pictures // (10 * options.cores))
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(options.cores))
        spawned = multiprocessing.get_context("spawn")
        processes = stack.enter_context(ProcessPoolExecutor(options.cores, mp_context=spawned))
        sides: dict[str, Callable[[], float]] = {"cnnjax": our_side(folder, options)}
        for what, work in (("decoding", decode), ("decoding to arrays", decode_to_arrays)):
            sides[f"{what}, threads"] = bare_side(threads, work, paths, share)
            sides[f"{what}, processes"] = bare_side(processes, work, paths, share)
        torch = stack.enter_context(torch_side(folder, options))
        if torch is not None:
            sides["DataLoader"] = torch[1]
        seconds = in_turn(sides, options.rounds)
    rates = {name: options.pictures / statistics.median(times) for name, times in seconds.items()}
    ratios = {}
    for what, bar in (("DataLoader", 1.3), ("decoding", 0.8), ("decoding to arrays", None)):
        against = max((name for name in rates if name.partition(", ")[0] == what), key=rates.__getitem__, default=None)
        if against is not None:
            by_round = [theirs / ours for ours, theirs in zip(seconds["cnnjax"], seconds[against], strict=True)]
            ratios[what] = {
                "bar": bar,
                "against": against,
                "ratio": round(rates["cnnjax"] / rates[against], 3),
                "least": round(min(by_round), 3),
                "largest": round(max(by_round), 3),
            }
    return {
        "pictures_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "times_as_fast_as": ratios,
        "torch": None if torch is None else torch[0],
    }


def in_turn(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every side, one number per round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, run in sides.items():
            took = run()
            if turn:
                seconds[name].append(took)
        print(f"round {turn} of {rounds}", flush=True)
    return seconds


def measure_resident(options: Options, *, batch_size: int = 128) -> dict[str, Any]:
    """The share of a ResNet-20 step that a batch of resident pictures takes: its ids drawn and moved, then gathered.

    The pictures are noise of CIFAR-10's number, shape and type, whose content no time depends on.
    """
    import jax
    import jax.numpy as jnp

    from cnnjax import models
    from cnnjax.data.batches.order import Order, Part, id_batches
    from cnnjax.data.batches.resident import gather
    from cnnjax.report.timing import interleaved, medians

    random = np.random.default_rng(0)
    count = 50_000
    examples = jax.device_put(
        {
            "image": random.integers(0, 256, (count, 32, 32, 3), np.uint8),
            "label": random.integers(0, 10, count).astype(np.int32),
            "valid": np.ones(count, bool),
        }
    )
    model = models.create("resnet20", num_classes=10)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    ids = id_batches(Order(count, 0), Part(batch_size))

    @jax.jit
    def step(variables: Any, batch: Any) -> Any:
        def loss(params: Any) -> Any:
            images = batch["image"].astype(jnp.float32) / 255
            logits, state = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["label"][:, None], axis=1)
            return -chosen.mean(), state

        gradients, state = jax.grad(loss, has_aux=True)(variables["params"])
        return {"params": jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], gradients), **state}

    gathered = jax.jit(gather)
    batch = gathered(examples, jax.device_put(next(ids)))
    calls = {
        "input": lambda: gathered(examples, jax.device_put(next(ids))),
        "step": lambda: step(variables, batch),
    }
    seconds = medians(interleaved(calls, rounds=options.rounds))
    return {
        "input_milliseconds": round(1e3 * seconds["input"], 3),
        "step_milliseconds": round(1e3 * seconds["step"], 3),
        "share": round(seconds["input"] / (seconds["input"] + seconds["step"]), 5),
        "bar": 0.05,
    }


def measure_folder(folder: Path, options: Options, *, classes: int = 100) -> dict[str, Any]:
    """Seconds to open a folder of many small files, with its index made and with it kept."""
    from cnnjax.data import open_source

    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    for number in range(options.files):
        path = folder / f"class{number % classes:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())
    # An index of a folder that changed within the last two seconds is not kept.
    time.sleep(3)
    made, kept = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as cache:
            os.environ["CNNJAX_CACHE"] = cache
            for seconds in (made, kept):
                began = time.perf_counter()
                source = open_source(f"folder:{folder}", "all")
                seconds.append(time.perf_counter() - began)
                if len(source) != options.files:
                    raise RuntimeError(f"{len(source)} of {options.files} files were found in {folder}")
            del os.environ["CNNJAX_CACHE"]
    return {
        "files": options.files,
        "index_made_seconds": round(statistics.median(made), 3),
        "index_kept_seconds": round(statistics.median(kept), 3),
        "bar": 20,
    }


# Shuffles a million examples over the borders of four epochs, and says the most memory that was in use after each.
MEMORY_SIDE = """
import itertools, json, resource, sys
import numpy as np
from cnnjax.data import ArraySource, train_batches
count = 1_000_000
source = ArraySource({"label": np.zeros(count, np.int32)})
unit = 1 if sys.platform == "darwin" else 1024
peaks = []
for epoch in range(1, 5):
    batches = train_batches(source, batch_size=1000, seed=0, start=epoch * count - 20_000, threads=2)
    ids = np.concatenate([batch["id"] for batch in itertools.islice(batches, 40)])
    batches.close()
    assert len(np.unique(ids[:20_000])) == len(np.unique(ids[20_000:])) == 20_000
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)
print(json.dumps(peaks))
"""


def measure_memory() -> dict[str, Any]:
    """The most megabytes that a process has in use while it shuffles 1,000,000 examples, epoch after epoch."""
    done = subprocess.run([sys.executable, "-c", MEMORY_SIDE], check=True, capture_output=True, text=True)
    peaks = json.loads(done.stdout.splitlines()[-1])
    return {"examples": 1_000_000, "megabytes_after_each_epoch": [round(peak, 1) for peak in peaks], "bar": 600}


def main(options: Options) -> None:
    """Measures every part, prints it, and writes it if everything was measured in full."""
    from cnnjax.report.results import write_results

    if options.pictures < 2 * options.batch_size or options.pictures % options.batch_size:
        raise SystemExit(f"--pictures {options.pictures}; expected a multiple of --batch-size, at least two of it")
    whole = (
        options.pictures >= Options.pictures
        and options.rounds >= Options.rounds
        and options.files >= Options.files
        and options.only is None
    )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=options.work_dir, prefix="pictures-") as work:
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            # First, while this process is small: what it had in use counts as used by the process it starts.
            "memory": measure_memory,
            "pictures": partial(measure_pictures, Path(work) / "pictures", options),
            "resident": partial(measure_resident, options),
            "folder": partial(measure_folder, Path(work) / "files", options),
        }
        for name, measure in parts.items():
            if options.only in (None, name):
                measured[name] = measure()
                print(json.dumps({name: measured[name]}, indent=2), flush=True)
    if whole:
        chosen = {name: getattr(options, name) for name in ("pictures", "rounds", "batch_size", "cores", "workers")}
        write_results(RESULTS, {**chosen, **measured})
    else:
        print("not written: a result that is kept needs every part in full, as by default")


if __name__ == "__main__":
    main(tyro.cli(Options, description=(__doc__ or "").split("\n\n")[0]))
