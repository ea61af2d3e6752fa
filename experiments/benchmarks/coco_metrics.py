"""COCO's twelve numbers in NumPy, against pycocotools, and against faster-coco-eval where it is installed.

Claim: on 1,000 pictures with 50,000 detected boxes the numbers are those of pycocotools within 1e-12, and the package
takes a fifth of its processor time or less (bar 5), with 1, 10 and 80 classes; with masks likewise. All sides are
interleaved in one process, from objects in memory to the twelve numbers; medians of the rounds.

    python experiments/benchmarks/coco_metrics.py                 # writes results/coco_metrics.json
    python experiments/benchmarks/coco_metrics.py --rounds 1 --pictures 50      # prints, and writes nothing

Objects are drawn: up to 14 a picture, a twentieth of them crowds; detections lie near them or anywhere, with scores of
two digits, so that many tie. Masks are ellipses. pycocotools is in the extra "dev"; faster-coco-eval, which is C++, is
in none and may be absent.

Expected: all numbers equal; with boxes 40, 42 and 54 times as fast (0.34, 0.23 and 0.29 s against 13.1, 10.3 and 16.6 s
on a core of an AMD EPYC), with 10,000 masks 8 times. faster-coco-eval takes 0.9 to 1.3 s, and 0.45 s. A quarter of an
hour on two busy cores.
"""

import contextlib
import importlib
import importlib.util
import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from cnnjax.cli import one_line_errors
from cnnjax.functional import masks
from cnnjax.report.results import write_results
from cnnjax.report.timing import interleaved, medians
from cnnjax.tasks.metrics import coco_precision

RESULTS = Path(__file__).parent.parent / "results" / "coco_metrics.json"
BAR, AGREEMENT = 5.0, 1e-12
PICTURES, ROUNDS = 1000, 5
SIZE = (480, 640)
DETECTIONS = 50

Pictures = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """What is evaluated.

    Attributes:
        classes: how many.
        masks: masks and not boxes.
        share: of the pictures.
    """

    classes: int
    masks: bool = False
    share: float = 1.0


CASES = {
    "boxes, 1 class": Case(1),
    "boxes, 10 classes": Case(10),
    "boxes, 80 classes": Case(80),
    "masks, 10 classes": Case(10, masks=True, share=0.2),
}


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        pictures: of the cases of boxes; 1,000 for a result that is kept.
        rounds: at least 5 for a result that is kept.
    """

    pictures: int = PICTURES
    rounds: int = ROUNDS


def draw(case: Case, pictures: int, seed: int = 0) -> tuple[Pictures, Pictures]:
    """Truths and detections, as `coco_precision` takes them."""
    generator = np.random.default_rng(seed)

    def anywhere(count: int) -> np.ndarray:
        low = generator.uniform(0, (0.7 * SIZE[1], 0.7 * SIZE[0]), (count, 2))
        return np.concatenate([low, low + np.exp(generator.uniform(2, 5, (count, 2)))], axis=1)

    truths, detections = [], []
    for _ in range(pictures):
        count = int(generator.integers(0, 15))
        boxes, classes = anywhere(count), generator.integers(0, case.classes, count)
        true: dict[str, Any] = {
            "boxes": boxes.astype(np.float32),
            "classes": classes,
            "crowd": generator.random(count) < 0.05,
        }
        near = min(DETECTIONS, 6 * count)
        which = generator.integers(0, max(count, 1), near)
        moved = boxes[which] + generator.normal(0, 4, (near, 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        right = generator.random(near) < 0.9
        others = generator.integers(0, case.classes, DETECTIONS)
        found: dict[str, Any] = {
            "boxes": np.concatenate([moved, anywhere(DETECTIONS - near)]).astype(np.float32),
            "classes": np.concatenate([np.where(right, classes[which], others[:near]), others[near:]]),
            "scores": np.round(generator.random(DETECTIONS), 2),
        }
        if case.masks:
            for side in (true, found):
                side["masks"] = [ellipse(box) for box in side["boxes"]]
            true["area"] = np.array([masks.rle_area(code) for code in true["masks"]], np.float64)
        truths.append(true)
        detections.append(found)
    return truths, detections


def ellipse(box: np.ndarray) -> dict[str, Any]:
    """The run-length code of the ellipse within a box."""
    left, top, right, bottom = box
    y, x = np.ogrid[: SIZE[0], : SIZE[1]]
    inside = ((x + 0.5 - (left + right) / 2) / ((right - left) / 2)) ** 2
    inside = inside + ((y + 0.5 - (top + bottom) / 2) / ((bottom - top) / 2)) ** 2
    return masks.encode_rle(inside < 1)


def prepare(library: str, truths: Pictures, detections: Pictures, case: Case) -> Callable[[], np.ndarray]:
    """What a library with COCO's interface is called with, loaded; the call gives its numbers."""
    coco_class, evaluation_class = {
        "pycocotools": ("pycocotools.coco.COCO", "pycocotools.cocoeval.COCOeval"),
        "faster-coco-eval": ("faster_coco_eval.COCO", "faster_coco_eval.COCOeval_faster"),
    }[library]
    make_coco, make_evaluation = (_named(name) for name in (coco_class, evaluation_class))
    annotations, results = [], []
    for picture, (true, found) in enumerate(zip(truths, detections, strict=True)):
        for slot, number in enumerate(true["classes"]):
            box = _as_coco(true["boxes"][slot])
            one = {"id": len(annotations) + 1, "image_id": picture, "category_id": int(number), "bbox": box}
            one |= {"iscrowd": int(true["crowd"][slot]), "area": box[2] * box[3]}
            if case.masks:
                one |= {"segmentation": true["masks"][slot], "area": float(true["area"][slot])}
            annotations.append(one)
        for slot, number in enumerate(found["classes"]):
            one = {"image_id": picture, "category_id": int(number), "score": float(found["scores"][slot])}
            if case.masks:
                one |= {"segmentation": found["masks"][slot]}
            else:
                one |= {"bbox": _as_coco(found["boxes"][slot])}
            results.append(one)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = make_coco()
        coco.dataset = {
            "images": [{"id": place, "height": SIZE[0], "width": SIZE[1]} for place in range(len(truths))],
            "annotations": annotations,
            "categories": [{"id": number, "name": str(number)} for number in range(case.classes)],
        }
        coco.createIndex()
        loaded = coco.loadRes(results)

    def call() -> np.ndarray:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = make_evaluation(coco, loaded, "segm" if case.masks else "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        numbers = np.asarray(evaluation.stats, np.float64)[:12]
        return np.where(numbers == -1, np.nan, numbers)

    return call


def measure(case: Case, options: Options) -> dict[str, Any]:
    """Times and agreement of all sides on one case."""
    pictures = max(1, round(case.share * options.pictures))
    truths, detections = draw(case, pictures)
    names = [str(number) for number in range(case.classes)]

    def ours() -> np.ndarray:
        return np.array(list(coco_precision(truths, detections, names, masks=case.masks).numbers().values()))

    calls: dict[str, Callable[[], np.ndarray]] = {"cnnjax": ours}
    for library in ("pycocotools", "faster-coco-eval"):
        # Only the second may be absent.
        if library == "pycocotools" or importlib.util.find_spec("faster_coco_eval"):
            calls[library] = prepare(library, truths, detections, case)
    numbers = {name: call() for name, call in calls.items()}
    differences = {name: float(np.nanmax(np.abs(found - numbers["cnnjax"]))) for name, found in numbers.items()}
    del differences["cnnjax"]
    for name, found in numbers.items():
        if not np.array_equal(np.isnan(found), np.isnan(numbers["cnnjax"])):
            raise ValueError(f"{name} has numbers where cnnjax has none: {found} against {numbers['cnnjax']}")
    seconds = interleaved(calls, rounds=options.rounds, clock=time.process_time)
    middle = medians(seconds)
    ratios = [theirs / own for theirs, own in zip(seconds["pycocotools"], seconds["cnnjax"], strict=True)]
    return {
        "pictures": pictures,
        "detections": sum(len(one["classes"]) for one in detections),
        "truths": sum(len(one["classes"]) for one in truths),
        "ap": float(numbers["cnnjax"][0]),
        "largest_difference": differences,
        "processor_seconds": middle,
        "times_faster_than_pycocotools": statistics.median(ratios),
        "rounds": seconds,
    }


def main(options: Options) -> None:
    """Measures, prints, and writes the result if it is whole."""
    if options.rounds < 1 or options.pictures < 1:
        raise ValueError(f"rounds={options.rounds}, pictures={options.pictures}; expected numbers above 0")
    measured = {}
    for name, case in CASES.items():
        measured[name] = row = measure(case, options)
        times = ", ".join(f"{side} {seconds:.3f} s" for side, seconds in row["processor_seconds"].items())
        print(
            f"{name}: {row['pictures']} pictures, {row['detections']:,} detections: {times};"
            f" {row['times_faster_than_pycocotools']:.1f} times as fast as pycocotools (bar {BAR:g}), numbers within"
            f" {row['largest_difference']['pycocotools']:.1g} (bar {AGREEMENT:g})",
            flush=True,
        )
    if options.rounds >= ROUNDS and options.pictures >= PICTURES:
        write_results(RESULTS, {"bar": BAR, "bar_difference": AGREEMENT, "cases": measured})


def _named(name: str) -> Any:
    module, attribute = name.rsplit(".", 1)
    return getattr(importlib.import_module(module), attribute)


def _as_coco(box: np.ndarray) -> list[float]:
    left, top, right, bottom = (float(edge) for edge in box)
    return [left, top, right - left, bottom - top]


if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=__doc__))
