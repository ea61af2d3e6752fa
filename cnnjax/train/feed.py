"""Where a run's batches come from: read one after the other, or named by number and gathered on the device."""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax
import numpy as np
from rich.console import Console

from cnnjax.data.batches.loader import Fault
from cnnjax.data.batches.order import Order, Part, id_batches
from cnnjax.data.batches.pipeline import eval_batches, train_batches
from cnnjax.data.batches.resident import read_all
from cnnjax.data.pictures.read import Read
from cnnjax.data.sources.source import Source
from cnnjax.settings import Training
from cnnjax.train.parallel import Parallel, replicate

# So many examples are read, at most, to know what a batch is like.
_SAMPLED = 256

Batches: TypeAlias = Generator[dict[str, np.ndarray], None, None]


@dataclass(frozen=True, eq=False)
class Feed:
    """The batches of one source: of every one, the part of this process.

    Attributes:
        source: what they are of.
        batch_size: examples in each, over all devices.
        options: how examples are read, as `eval_batches` takes it.
        examples: all of the source on the host, where it is small enough to live on the device; empty otherwise.
        on_device: the same on the device, which every step gets beside its batch.
    """

    source: Source
    batch_size: int
    options: Mapping[str, Any]
    examples: Mapping[str, Any] = field(default_factory=dict)
    on_device: Mapping[str, Any] = field(default_factory=dict)

    def shuffled(self, *, seed: int, start: int) -> Batches:
        """Endless batches for training, from the example at place `start` of the stream on; see `train_batches`."""
        if self.examples:
            return id_batches(Order(len(self.source), seed), Part(self.batch_size, start, **_process()))
        place = {"seed": seed, "start": start}
        return train_batches(self.source, batch_size=self.batch_size, **place, **_process(), **self.options)

    def once(self) -> Batches:
        """Every example once, in the order of the source; see `eval_batches`."""
        if self.examples:
            return id_batches(Order(len(self.source)), Part(self.batch_size, **_process()))
        return eval_batches(self.source, batch_size=self.batch_size, **_process(), **self.options)

    def sample(self) -> Any:
        """This process's part of a batch as shapes, to compile for before so large a one is gathered.

        Where nothing is resident, the first examples of the source are read, which must be alike.
        """
        if self.examples:
            read = next(id_batches(Order(len(self.source)), Part(1)))
        else:
            alone: dict[str, Any] = {**self.options, "workers": 0, "on_fault": lambda fault: None}
            first = min(self.batch_size, len(self.source), _SAMPLED)
            with closing(eval_batches(self.source, batch_size=first, **alone)) as batches:
                read = next(batches)
        rows = Part(self.batch_size, **_process()).rows
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), jax.dtypes.canonicalize_dtype(leaf.dtype)), read
        )


def open_feed(
    source: Source,
    training: Training,
    parallel: Parallel,
    *,
    read: Read,
    on_fault: Callable[[Fault], None],
    shuffled: bool = False,
    anew: bool = False,
    console: Console | None = None,
) -> Feed:
    """The batches of a source as the settings ask for them; small sources are read now, to live on the device.

    Args:
        source: the examples.
        training: the settings of the run.
        parallel: the devices.
        read: makes arrays of an example.
        on_fault: is told what could not be read.
        shuffled: whether they are trained on.
        anew: whether every reading of an example is another, as with random crops; then nothing is kept.
        console: shows progress.
    """
    loading = training.loading
    options = {
        "read": read,
        "threads": loading.threads,
        "workers": loading.workers,
        "unreadable": loading.unreadable,
        "most_unreadable": loading.most_unreadable,
        "on_fault": on_fault,
    }
    limit = 0 if anew else loading.resident_mib * 2**20
    examples = (read_all(source, limit=limit, console=console, **options) if limit else None) or {}
    on_device = parallel.replicate(examples) if shuffled else replicate(parallel.mesh, examples)
    return Feed(source, training.batch_size, options, examples, on_device)


def _process() -> dict[str, Any]:
    return {"process_index": jax.process_index(), "process_count": jax.process_count()}
