"""Batches of a source, in an order that is a function of the seed and the step, so any step can be the first."""

import functools
import logging
import math
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, get_args

import numpy as np

from cnnjax.data.decode import Fit, fit_image
from cnnjax.data.sources import Source, check_labels, permutation

# A thread loads this many examples at a time: grain's cost per task is 0.2 ms, many times that of a small picture.
_CHUNK = 16


def train_batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    image_size: tuple[int, int] | None = None,
    fit: Fit = "resize",
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 4,
) -> Generator[dict[str, np.ndarray], None, None]:
    """Endless batches: epoch after epoch, each a fresh permutation of the whole source.

    Global batch k holds the places [k * batch_size, (k + 1) * batch_size) of this stream, so a batch may straddle
    two epochs, and within an epoch no example is lost or repeated. A batch holds the source's elements, stacked,
    with "id" (int32, the example's index in the source) and "valid" (all True here).

    Args:
        source: The examples. Every element must have one shape; images may differ if `image_size` is given.
        batch_size: The size of the global batch.
        seed: Decides every permutation, together with the number of the epoch.
        start_step: The first batch to give; going there costs nothing.
        image_size: The height and width to bring "image" to.
        fit: How to bring it there, see `fit_image`.
        process_index: Which of the equal, contiguous parts of every global batch to give.
        process_count: How many parts there are.
        threads: How many threads load examples, two batches ahead of the one in use; 0 loads in the caller.

    Raises:
        ValueError: At once if an argument is out of range; with the batch if an example cannot be read, a label
            names no class, or shapes differ.
    """
    _check_arguments(source, batch_size, image_size, fit, process_index, process_count, threads)
    for name, value in (("seed", seed), ("start_step", start_step)):
        if value < 0:
            raise ValueError(f"{name} is {value}; expected 0 or more")
    size = len(source)
    shuffled = functools.lru_cache(maxsize=2)(lambda epoch: permutation(size, seed=seed, stream=epoch))

    def example_at(place: int) -> tuple[int, bool]:
        return int(shuffled(place // size)[place % size]), True

    part = batch_size // process_count
    offset = start_step * batch_size + process_index * part
    plan = _Plan(source, example_at, offset, batch_size, part, None, image_size, fit)
    return _batches(plan, threads)


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    image_size: tuple[int, int] | None = None,
    fit: Fit = "resize",
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 4,
) -> Generator[dict[str, np.ndarray], None, None]:
    """Every example once, in the order of the source, in batches that are all of one size.

    The last batch is filled up with repetitions of the last example whose "valid" is False. Elements, arguments
    and errors are those of `train_batches`.
    """
    _check_arguments(source, batch_size, image_size, fit, process_index, process_count, threads)
    last = len(source) - 1

    def example_at(place: int) -> tuple[int, bool]:
        return min(place, last), place <= last

    part = batch_size // process_count
    steps = math.ceil(len(source) / batch_size)
    plan = _Plan(source, example_at, process_index * part, batch_size, part, steps, image_size, fit)
    return _batches(plan, threads)


@dataclass(frozen=True)
class _Loaded:
    index: int
    valid: bool
    example: dict[str, Any]


@dataclass(frozen=True)
class _Plan:
    """What grain reads: chunk by chunk, the examples of this process's part of every batch.

    Row r of this process's batch k is place `offset + k * stride + r` of the stream of examples.
    """

    source: Source
    example_at: Callable[[int], tuple[int, bool]]
    offset: int
    stride: int
    part: int
    steps: int | None
    image_size: tuple[int, int] | None
    fit: Fit

    @property
    def pieces(self) -> int:
        return math.ceil(self.part / _CHUNK)

    def __len__(self) -> int:
        return sys.maxsize if self.steps is None else self.steps * self.pieces

    def __getitem__(self, chunk: int) -> list[_Loaded]:
        step, piece = divmod(chunk, self.pieces)
        start = self.offset + step * self.stride
        rows = range(piece * _CHUNK, min((piece + 1) * _CHUNK, self.part))
        return [self._load(*self.example_at(start + row)) for row in rows]

    def _load(self, index: int, valid: bool) -> _Loaded:
        example = self.source[index]
        if self.image_size is not None:
            if "image" not in example:
                raise ValueError(f'{self.source.info.name} has no "image" to bring to image_size; leave it out')
            try:
                example = example | {"image": fit_image(example["image"], self.image_size, self.fit)}
            except ValueError as error:
                raise ValueError(f"example {index} of {self.source.info.name}: {error}") from error
        return _Loaded(index, valid, example)


def _batches(plan: _Plan, threads: int) -> Generator[dict[str, np.ndarray], None, None]:
    grain = _import_grain()
    # Two batches ahead, so that loading and training overlap.
    ahead = max(threads, 2 * plan.pieces) if threads else 0
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    chunks = iter(grain.MapDataset.source(plan).to_iter_dataset(options))
    model, loaded = None, []
    try:
        for chunk in chunks:
            loaded += chunk
            if len(loaded) == plan.part:
                model = model or loaded[0]
                yield _collate(loaded, model, plan.source)
                loaded = []
    finally:
        chunks.close()


def _collate(loaded: list[_Loaded], model: _Loaded, source: Source) -> dict[str, Any]:
    """Stacks examples that must be structured and shaped like `model`, the first of the stream."""
    taken = {"id", "valid"} & model.example.keys()
    if taken:
        raise ValueError(f"{source.info.name} has an element {taken.pop()!r}, a name every batch uses; rename it")

    def differ(name: str, row: int, got: Any, expected: Any) -> ValueError:
        cure = "pass image_size (--image-size N)" if name == "image" and got[2:] == expected[2:] else "make them equal"
        return ValueError(
            f"{source.info.name}: {name or 'the elements'} of example {loaded[row].index}: {got}, of example "
            f"{model.index}: {expected}; a batch needs one shape for all: {cure}"
        )

    batch = _stack("", [one.example for one in loaded], model.example, differ)
    ids = np.array([one.index for one in loaded], np.int32)
    if "label" in batch and np.ndim(batch["label"]) == 1 and batch["label"].dtype.kind in "iu":
        check_labels(batch["label"], ids, source.info)
    return batch | {"id": ids, "valid": np.array([one.valid for one in loaded])}


def _stack(name: str, values: list[Any], model: Any, differ: Callable[..., ValueError]) -> Any:
    """Stacks arrays, and dicts of arrays entry by entry."""
    if isinstance(model, Mapping):
        for row, value in enumerate(values):
            if value.keys() != model.keys():
                raise differ(name, row, sorted(value), sorted(model))
        return {k: _stack(f"{name}/{k}" if name else k, [v[k] for v in values], model[k], differ) for k in model}
    for row, value in enumerate(values):
        if np.shape(value) != np.shape(model):
            raise differ(name, row, np.shape(value), np.shape(model))
    return np.stack(values)


def _check_arguments(
    source: Source,
    batch_size: int,
    image_size: tuple[int, int] | None,
    fit: Fit,
    process_index: int,
    process_count: int,
    threads: int,
) -> None:
    if len(source) < 1:
        raise ValueError(f"{source.info.name} ({source.info.split}) holds no examples; expected at least one")
    if process_count < 1 or not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index is {process_index} and process_count {process_count}; expected 0 <= index < count"
        )
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"batch_size is {batch_size}; expected at least 1 and a multiple of process_count, {process_count}"
        )
    if threads < 0:
        raise ValueError(f"threads is {threads}; expected 0 or more")
    if fit not in get_args(Fit):
        raise ValueError(f"fit is {fit!r}; expected one of {', '.join(get_args(Fit))}")
    if image_size is not None and min(image_size) < 1:
        raise ValueError(f"image_size is {image_size}; expected a height and a width of at least 1")


def _import_grain() -> ModuleType:
    """Imports grain without its notice that an older jaxlib cannot profile worker processes; there are none."""
    from absl import logging as absl_logging

    logger = absl_logging.get_absl_logger()

    def serious(record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING

    logger.addFilter(serious)
    try:
        import grain
    finally:
        logger.removeFilter(serious)
    return grain
