"""Which example stands where in a stream: a function of the seed and the place, so any place can be the first."""

import functools
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from cnnjax.data.sources.source import permutation


@dataclass(frozen=True)
class Order:
    """The examples of a source, by their place in a stream.

    With a seed the stream is endless: epoch after epoch, each a fresh permutation of all examples. Without one it is
    the source once, in its own order, and goes on with repetitions of the last example that do not count.

    Attributes:
        size: how many examples the source holds.
        seed: decides every permutation, together with the number of the epoch.
    """

    size: int
    seed: int | None = None

    def at(self, place: int) -> tuple[int, bool]:
        """The index of the example at a place, and whether it counts."""
        if self.seed is None:
            return min(place, self.size - 1), place < self.size
        epoch, within = divmod(place, self.size)
        return int(_shuffled(self.size, self.seed, epoch)[within]), True


@dataclass(frozen=True)
class Part:
    """The places of one process in the batches of a stream: equal, contiguous parts of every global batch.

    Row r of batch k of process p stands at `start + k * batch_size + p * rows + r`.

    Raises:
        ValueError: a number is out of range, or the processes cannot share the batch evenly.
    """

    batch_size: int
    start: int = 0
    process_index: int = 0
    process_count: int = 1

    def __post_init__(self) -> None:
        if self.process_count < 1 or not 0 <= self.process_index < self.process_count:
            raise ValueError(
                f"process_index is {self.process_index} and process_count {self.process_count}; expected"
                " 0 <= index < count"
            )
        if self.batch_size < 1 or self.batch_size % self.process_count:
            raise ValueError(
                f"batch_size is {self.batch_size}; expected at least 1 and a multiple of process_count,"
                f" {self.process_count}"
            )
        if self.start < 0:
            raise ValueError(f"start is {self.start}; expected 0 or more")

    @property
    def rows(self) -> int:
        """Examples of this process in every batch."""
        return self.batch_size // self.process_count

    def place(self, batch: int, row: int) -> int:
        """Where a row of one of this process's batches stands in the stream."""
        return self.start + batch * self.batch_size + self.process_index * self.rows + row


def id_batches(order: Order, part: Part) -> Generator[dict[str, np.ndarray], None, None]:
    """Batches that name their examples and hold nothing else: "id" (int32) and "valid"; endless where the order is."""
    batch = 0
    while order.seed is not None or part.start + batch * part.batch_size < order.size:
        found = [order.at(part.place(batch, row)) for row in range(part.rows)]
        ids, valid = zip(*found, strict=True)
        yield {"id": np.array(ids, np.int32), "valid": np.array(valid)}
        batch += 1


@functools.lru_cache(maxsize=4)
def _shuffled(size: int, seed: int, epoch: int) -> np.ndarray:
    return permutation(size, seed=seed, stream=epoch)
