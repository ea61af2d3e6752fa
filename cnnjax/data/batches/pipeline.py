"""Batches of a source, in an order that is a function of the seed and the place, so any place can be the first."""

import logging
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from multiprocessing import resource_tracker
from types import ModuleType
from typing import Any

import numpy as np

from cnnjax.data.batches.loader import Fault, Loaded, Loader, Unreadable, stack_examples
from cnnjax.data.batches.order import Order, Part
from cnnjax.data.pictures.read import Read, decode_example
from cnnjax.data.sources.source import Source, check_labels

# A thread loads this many examples at a time: grain's cost per task is 0.2 ms, many times that of a small picture.
_CHUNK = 16

_LOGGER = logging.getLogger(__name__)


def train_batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    start: int = 0,
    read: Read = decode_example,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 4,
    workers: int = 0,
    unreadable: Unreadable = "raise",
    most_unreadable: int = 100,
    on_fault: Callable[[Fault], None] | None = None,
) -> Generator[dict[str, np.ndarray], None, None]:
    """Endless batches: epoch after epoch, each a fresh permutation of the whole source.

    The stream of examples is a function of the seed alone; global batch k holds its places
    [start + k * batch_size, start + (k + 1) * batch_size), whatever the numbers of processes, threads and workers. A
    batch may straddle two epochs, and within an epoch no example is lost or repeated. A batch holds the source's
    elements, stacked, with "id" (int32, the example's index in the source) and "valid" (False for an example that was
    skipped).

    Args:
        source: The examples. Every element must have one shape once it is read.
        batch_size: The size of the global batch.
        seed: Decides every permutation, together with the number of the epoch.
        start: The place in the stream, counted in examples, that comes first; going there costs nothing.
        read: What makes arrays of an example and its place in the stream, such as `ReadPictures(image_size)`, which
            brings pictures of different sizes to one; by default pictures are decoded as they come.
        process_index: Which of the equal, contiguous parts of every global batch to give.
        process_count: How many parts there are.
        threads: How many threads load examples, two batches ahead of the one in use; 0 loads in the caller.
        workers: How many processes load examples, each with these threads; 0 loads in this one. The source and `read`
            are pickled to each, and a script needs its `if __name__ == "__main__":`.
        unreadable: What to do about an example that cannot be read, see `Loader`.
        most_unreadable: How many examples may be unreadable before it is an error after all.
        on_fault: Called with every fault, in the order of the stream; by default they are logged.

    Raises:
        ValueError: At once if an argument is out of range; with the batch if an example cannot be read, a label
            names no class, or shapes differ.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more")
    loader = Loader(source, read, unreadable)
    part = Part(batch_size, start, process_index, process_count)
    plan = _Plan(loader, Order(len(source), seed), part, None)
    return _batches(plan, threads, workers, most_unreadable, on_fault)


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    read: Read = decode_example,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 4,
    workers: int = 0,
    unreadable: Unreadable = "raise",
    most_unreadable: int = 100,
    on_fault: Callable[[Fault], None] | None = None,
) -> Generator[dict[str, np.ndarray], None, None]:
    """Every example once, in the order of the source, in batches that are all of one size.

    The last batch is filled up with repetitions of the last example whose "valid" is False. Elements, arguments
    and errors are those of `train_batches`.
    """
    loader = Loader(source, read, unreadable)
    part = Part(batch_size, 0, process_index, process_count)
    plan = _Plan(loader, Order(len(source)), part, math.ceil(len(source) / batch_size))
    return _batches(plan, threads, workers, most_unreadable, on_fault)


@dataclass(frozen=True)
class _Plan:
    """What grain reads: chunk by chunk, the examples of this process's part of every batch."""

    loader: Loader
    order: Order
    part: Part
    steps: int | None

    @property
    def pieces(self) -> int:
        return math.ceil(self.part.rows / _CHUNK)

    def __len__(self) -> int:
        return sys.maxsize if self.steps is None else self.steps * self.pieces

    def __getitem__(self, chunk: int) -> list[Loaded]:
        batch, piece = divmod(chunk, self.pieces)
        loaded = []
        for row in range(piece * _CHUNK, min((piece + 1) * _CHUNK, self.part.rows)):
            place = self.part.place(batch, row)
            index, valid = self.order.at(place)
            loaded.append(self.loader.load(index, place, valid=valid))
        return loaded


def _batches(
    plan: _Plan,
    threads: int,
    workers: int,
    most_unreadable: int,
    on_fault: Callable[[Fault], None] | None,
) -> Generator[dict[str, np.ndarray], None, None]:
    for name, value in (("threads", threads), ("workers", workers), ("most_unreadable", most_unreadable)):
        if value < 0:
            raise ValueError(f"{name} is {value}; expected 0 or more")
    _import_grain()  # now: what it imports lazily fails in a thread, such as that of a progress bar
    return _generate(
        plan, threads, workers, most_unreadable, on_fault or (lambda fault: _LOGGER.warning(fault.message))
    )


def _generate(
    plan: _Plan, threads: int, workers: int, most_unreadable: int, on_fault: Callable[[Fault], None]
) -> Generator[dict[str, np.ndarray], None, None]:
    chunks = iter(_grain_dataset(plan, threads, workers))
    info, model, loaded, unreadable = plan.loader.source.info, None, [], set()
    try:
        with _deaf_children() if workers else nullcontext():  # grain starts the workers with the first chunk
            first = next(chunks)
        for chunk in chain([first], chunks):
            loaded += chunk
            if len(loaded) < plan.part.rows:
                continue
            for fault in (fault for one in loaded for fault in one.faults):
                on_fault(fault)
                unreadable.add(fault.index)
                if len(unreadable) > most_unreadable:
                    raise ValueError(f"more than {most_unreadable} examples cannot be read; the last: {fault.message}")
            model = model or next((one for one in loaded if one.example is not None), None)
            model = model or plan.loader.model(most_unreadable)
            batch = stack_examples(loaded, model, plan.loader.source)
            if "label" in batch and np.ndim(batch["label"]) == 1 and batch["label"].dtype.kind in "iu":
                check_labels(batch["label"], batch["id"], info)
            yield batch
            loaded = []
    finally:
        chunks.close()


def _grain_dataset(plan: _Plan, threads: int, workers: int) -> Any:
    grain = _import_grain()
    # Two batches ahead, so that loading and training overlap.
    ahead = max(threads, 2 * plan.pieces) if threads else 0
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    dataset = grain.MapDataset.source(plan).to_iter_dataset(options)
    if not workers:
        return dataset
    from absl import flags

    # Outside of absl's own programs nobody has parsed the flags that grain's workers read.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    buffered = max(1, math.ceil(2 * plan.pieces / workers))
    # Examples are pickled to this process, never through shared memory: that is faster here, and a segment of shared
    # memory outlives a run that is killed.
    unshared = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
    dataset = grain.experimental.WithOptionsIterDataset(dataset, unshared)
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=buffered)
    return dataset.mp_prefetch(options, worker_init_fn=_begin_worker)


@contextmanager
def _deaf_children() -> Generator[None, None, None]:
    """Processes that are started meanwhile never see the signals that ask a run to stop: it tells them itself.

    Ctrl-C and many a scheduler signal all processes of a run at once, and one whose workers died could not go on.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # by itself it would start meanwhile, and unblock two of the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(number: int, count: int) -> None:
    """Makes a worker end when the process that started it has ended, however that came about."""
    parent = multiprocessing.parent_process()
    if parent is None:  # a thread, in a Python without a global lock
        return

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, name="end of the parent", daemon=True).start()


def _import_grain() -> ModuleType:
    """Imports grain without its notice that an older jaxlib cannot profile worker processes; nobody does here."""
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
