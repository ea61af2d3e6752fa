"""Selective search in NumPy and SciPy: how long a picture takes, and how many objects its boxes find.

Claim: a picture of 500x375 takes under 4 s of the processor; at most 2,000 boxes find at an IoU of 0.5 at least 0.98 of
the objects of raccoon and 0.90 of those of nuclei, and on nuclei more than a grid of as many boxes does.

    python experiments/benchmarks/selective_search.py --raccoon RACCOON --nuclei NUCLEI    # writes results
    python experiments/benchmarks/selective_search.py --raccoon RACCOON --pictures 3       # prints, and writes nothing

RACCOON and NUCLEI are folders that `voc:` and `masks:` open. Every so many pictures of raccoon ("all") and of nuclei
("test") are searched, not all of them, to end within a quarter of an hour on busy cores. Nuclei are small: their
pictures are doubled beforehand, and boxes count from a side of 6 pixels of the doubled picture. That was chosen on 12
training pictures, among what is in TRIED; larger pictures take longer, and not all of them were tried. Recalls are
means over three seeds of the priorities; no detector is trained.

Expected: 2.24 s of the processor in the median of 5 pictures and 3.56 s at most (segmentation 1.57, features 0.26,
grouping 0.31). On the clock of a machine of two cores with a load of 7 it was 4.49 s in the median and 15.8 s at most,
above the bar; an idle one was not at hand. Raccoon, 40 of 200 pictures: 44 of 44 objects, and so does the grid, which
thus shows no advantage there. Nuclei, 20 of 50 test pictures: 592 of 641 objects, 0.923; a grid of as many boxes 0.067,
of 2,000 0.138. Seven minutes.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image

from cnnjax.cli import one_line_errors
from cnnjax.data import decode_example, open_source
from cnnjax.data.proposals.colours import convert
from cnnjax.data.proposals.grouping import colour_bins, describe, group, texture_bins
from cnnjax.data.proposals.segmentation import grid_edges, join, smooth
from cnnjax.data.proposals.selective_search import (
    VARIETIES,
    Settings,
    fit_width,
    rank,
    segmentations,
    selective_search,
    to_picture,
)
from cnnjax.report.results import mean_and_deviation, write_results

RESULTS = Path(__file__).parent.parent / "results" / "selective_search.json"
BAR_SECONDS, OVERLAP, SEEDS = 4.0, 0.5, 3
TIMED, TIMED_SIZE = 5, (500, 375)
# Recall at 0.5 of 12 training pictures of nuclei, 224 objects: how much the picture is enlarged, `smallest` after that.
TRIED = {
    "1, 20": 0.3839,
    "1, 6": 0.8348,
    "2, 20": 0.8125,
    "2, 12": 0.9107,
    "2, 6": 0.9375,
    "3, 18": 0.9107,
}


@dataclass(frozen=True)
class Case:
    """What is searched, and how.

    Attributes:
        kind: How the folder is opened.
        split: Of the data.
        bar: The least recall.
        pictures: How many are searched, spread over the split.
        enlarged: How many times the picture's sides are multiplied beforehand.
        smallest: The least side of a box after that.
    """

    kind: str
    split: str
    bar: float
    pictures: int
    enlarged: int
    smallest: int


CASES = {
    "raccoon": Case("voc", "all", bar=0.98, pictures=40, enlarged=1, smallest=20),
    "nuclei": Case("masks", "test", bar=0.90, pictures=20, enlarged=2, smallest=6),
}


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        raccoon: Its folder; left out where there is none.
        nuclei: Its folder; left out where there is none.
        pictures: At most so many of each; all that a case names for a result that is kept.
    """

    raccoon: Path | None = None
    nuclei: Path | None = None
    pictures: int = 1000


def spread(count: int, wanted: int) -> list[int]:
    """So many places among `count`, evenly."""
    return np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()


def read(case: Case, folder: Path, wanted: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
    """Pictures with the boxes of their objects, and how many pictures the split has."""
    source = open_source(f"{case.kind}:{folder}", case.split)
    found = []
    for place in spread(len(source), min(wanted, case.pictures)):
        example = decode_example(source[place])
        found.append((np.asarray(example["image"]), example["boxes"][np.asarray(example["present"], bool)]))
    return found, len(source)


def best_overlaps(objects: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The IoU of each object with the box that fits it best; 0 without boxes."""
    low, high = np.maximum(objects[:, None, :2], boxes[:, :2]), np.minimum(objects[:, None, 2:], boxes[:, 2:])
    common = np.prod(np.maximum(high - low, 0), -1)
    one, two = (np.prod(some[:, 2:] - some[:, :2], -1) for some in (objects, boxes))
    return (common / (one[:, None] + two - common)).max(1, initial=0)


def grid(height: int, width: int, count: int, least: float) -> np.ndarray:
    """At least as many boxes as are wanted, evenly: an equal share for each of nine sizes and three ratios."""
    boxes = []
    for size in np.geomspace(least, 0.95 * min(height, width), 9):
        for ratio in (0.5, 1.0, 2.0):
            along, down = min(size * ratio**0.5, width), min(size / ratio**0.5, height)
            # As many columns for each row as makes the steps alike in both directions.
            across, below = width - along + 1, height - down + 1
            rows = max(1, round((count / 27 * below / across) ** 0.5))
            columns = max(1, int(np.ceil(count / 27 / rows)))
            left, top = np.meshgrid(np.linspace(0, width - along, columns), np.linspace(0, height - down, rows))
            boxes.append(np.stack([left, top, left + along, top + down], -1).reshape(-1, 4))
    return np.concatenate(boxes)


def search(picture: np.ndarray, case: Case) -> list[np.ndarray]:
    """The boxes of `selective_search` for each seed: only the order of priorities, and so the cut, depends on it."""
    height, width = picture.shape[:2]
    larger = picture
    if case.enlarged > 1:
        size = (case.enlarged * width, case.enlarged * height)
        larger = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    settings = [Settings(smallest=case.smallest, width=max(500, case.enlarged * 256), seed=s) for s in range(SEEDS)]
    shrunk = fit_width(larger, settings[0].width)
    similarities = VARIETIES["fast"].similarities
    hierarchies = [group(one, some) for one in segmentations(shrunk, "fast") for some in similarities]
    return [to_picture(rank(hierarchies, one), shrunk.shape[:2], (height, width)) for one in settings]


def recalls(name: str, case: Case, folder: Path, wanted: int) -> dict[str, Any]:
    """Recall of selective search, and of grids of as many boxes and of 2,000."""
    examples, whole = read(case, folder, wanted)
    best: dict[str, list[float]] = {f"seed {seed}": [] for seed in range(SEEDS)}
    best |= {"grid of as many": [], "grid of 2000": []}
    counts = []
    for done, (picture, objects) in enumerate(examples, 1):
        found = search(picture, case)
        counts.append(len(found[0]))
        least = case.smallest / case.enlarged
        height, width = picture.shape[:2]
        grids = [grid(height, width, number, least) for number in (len(found[0]), 2000)]
        for key, boxes in zip(best, [*found, *grids], strict=True):
            best[key] += best_overlaps(objects, np.asarray(boxes, np.float64)).tolist()
        if done % 5 == 0:
            print(f"  {name}: {done} of {len(examples)}", flush=True)
    shares = {key: float(np.mean(np.asarray(values) >= OVERLAP)) for key, values in best.items()}
    reached = mean_and_deviation([shares[f"seed {seed}"] for seed in range(SEEDS)])
    return {
        "pictures": len(examples),
        "pictures_of_the_split": whole,
        "split": case.split,
        "objects": len(best["seed 0"]),
        "found_by_seed": [int(np.sum(np.asarray(best[f"seed {seed}"]) >= OVERLAP)) for seed in range(SEEDS)],
        "boxes_per_picture": statistics.fmean(counts),
        "enlarged": case.enlarged,
        "smallest": case.smallest,
        "bar": case.bar,
        "recall": reached,
        "recall_of_grid_of_as_many": shares["grid of as many"],
        "recall_of_grid_of_2000": shares["grid of 2000"],
        "mean_best_overlap": statistics.fmean(best["seed 0"]),
        "reached": reached["mean"] >= case.bar,
    }


def times(pictures: list[np.ndarray]) -> dict[str, Any]:
    """Seconds of pictures of 500x375, on the clock and of the processor, with the parts of the search."""
    clocks = {"seconds": time.perf_counter, "processor_seconds": time.process_time}
    rows: dict[str, dict[str, list[float]]] = {name: {} for name in clocks}
    selective_search(pictures[0][:50, :50])  # What is imported at the first call is no part of it.
    for picture in pictures:
        spent: dict[str, dict[str, float]] = {name: {} for name in clocks}

        def timed(part: str, call: Callable[..., Any], *given: Any, spent: Any = spent, **options: Any) -> Any:
            began = {name: clock() for name, clock in clocks.items()}
            found = call(*given, **options)
            for name, clock in clocks.items():
                spent[name][part] = spent[name].get(part, 0.0) + clock() - began[name]
            return found

        sized = np.asarray(Image.fromarray(picture).resize(TIMED_SIZE, Image.Resampling.BILINEAR))
        variety = VARIETIES["fast"]
        for space in variety.spaces:
            image = timed("features", convert, sized, space)
            bins = timed("features", colour_bins, image), timed("features", texture_bins, image)
            edges = timed("segmentation", grid_edges, timed("segmentation", smooth, image, 0.8))
            for scale in variety.scales:
                labels = timed("segmentation", join, edges, scale=scale, smallest=scale)
                segments = timed("features", describe, labels, *bins)
                for some in variety.similarities:
                    timed("grouping", group, segments, some)
        timed("whole", selective_search, sized)
        for name in clocks:
            for part, value in spent[name].items():
                rows[name].setdefault(part, []).append(value)
    return {
        "pictures": len(pictures),
        "load_average": list(os.getloadavg()),
        **{name: {part: statistics.median(values) for part, values in row.items()} for name, row in rows.items()},
        "slowest": {name: max(row["whole"]) for name, row in rows.items()},
        "bar": BAR_SECONDS,
        "reached": {name: max(row["whole"]) < BAR_SECONDS for name, row in rows.items()},
    }


def main(options: Options) -> None:
    """Measures, prints, and writes the result if it is whole."""
    if options.pictures < 1:
        raise ValueError(f"pictures={options.pictures}; expected a number above 0")
    if options.raccoon is None and options.nuclei is None:
        raise ValueError("neither raccoon nor nuclei came; expected the folder of one at least: --raccoon PATH")
    measured: dict[str, Any] = {}
    if options.raccoon is not None:
        examples, _ = read(CASES["raccoon"], options.raccoon, TIMED)
        measured["time"] = row = times([picture for picture, _ in examples])
        for clock in ("seconds", "processor_seconds"):
            parts = ", ".join(f"{part} {value:.2f}" for part, value in row[clock].items())
            print(
                f"{clock} of {row['pictures']} pictures of 500x375, medians: {parts}; bar {BAR_SECONDS:g}", flush=True
            )
    for name, case in CASES.items():
        folder = getattr(options, name)
        if folder is None:
            continue
        measured[name] = row = recalls(name, case, folder, options.pictures)
        print(
            f"{name}: {row['pictures']} of {row['pictures_of_the_split']} pictures, {row['objects']} objects,"
            f" {row['boxes_per_picture']:.0f} boxes: recall {row['recall']['mean']:.4f} +- "
            f"{row['recall']['deviation']:.4f} (bar {case.bar:g}); grid of as many"
            f" {row['recall_of_grid_of_as_many']:.4f}, of 2,000 {row['recall_of_grid_of_2000']:.4f}",
            flush=True,
        )
    if options.raccoon is not None and options.nuclei is not None and options.pictures >= 40:
        write_results(RESULTS, {"overlap": OVERLAP, "seeds": SEEDS, "tried_on_training_nuclei": TRIED, **measured})


if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=__doc__))
