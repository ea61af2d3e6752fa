"""What a source is: a length and an index, where `source[i]` is one example, a dict of arrays.

`cnnjax.data.opening` finds sources by their spelling; here is what every kind of them shares.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

# The spellings that `open_source` knows, as its errors tell them.
SPELLINGS = "digits, tfds:NAME[:VERSION] or idx:FOLDER"


@dataclass(frozen=True)
class Info:
    """What a source holds.

    Attributes:
        name: The spelling it was opened by.
        split: The split expression, such as "train[:90%]".
        shapes: The shape of each element of an example; None for an axis that varies.
        classes: The names of the classes by label; empty when the data has none.
    """

    name: str
    split: str
    shapes: Mapping[str, tuple[int | None, ...]]
    classes: tuple[str, ...] = ()


@runtime_checkable
class Source(Protocol):
    """Examples by index: images are uint8 height x width x channels, labels int32 scalars."""

    @property
    def info(self) -> Info:
        """What the source holds."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Examples held in memory, one per entry of the arrays' first axis.

    `ArraySource({"image": images, "label": labels})` is enough; an `info` names the source and its classes, and
    its shapes are read from the arrays. Labels, a one-axis integer array called "label", are kept as int32.

    Raises:
        ValueError: If there are no arrays, their lengths differ, or a label names no class.
    """

    arrays: dict[str, np.ndarray]
    info: Info = Info("arrays", "all", {})

    def __post_init__(self) -> None:
        lengths = {name: len(array) if np.ndim(array) else None for name, array in self.arrays.items()}
        if len(set(lengths.values())) != 1 or None in lengths.values():
            raise ValueError(
                f"arrays of {self.info.name} have the lengths {lengths}; expected at least one array, "
                "and the same length for all"
            )
        arrays = {name: np.asarray(array) for name, array in self.arrays.items()}
        if "label" in arrays and _are_labels(arrays["label"]):
            check_labels(arrays["label"], np.arange(len(self)), self.info)
            arrays["label"] = arrays["label"].astype(np.int32)
        shapes = {name: array.shape[1:] for name, array in arrays.items()}
        object.__setattr__(self, "arrays", arrays)
        object.__setattr__(self, "info", replace(self.info, shapes=shapes))

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {name: np.asarray(array[index]) for name, array in self.arrays.items()}

    def labels(self) -> np.ndarray | None:
        """All labels in order, or None where the examples have none."""
        labels = self.arrays.get("label")
        return labels if labels is not None and _are_labels(labels) else None


@dataclass(frozen=True, eq=False)
class Subset:
    """The examples of another source at `indices`, in that order."""

    source: Source
    indices: np.ndarray
    info: Info

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self.source[int(self.indices[index])]


def permutation(size: int, *, seed: int, stream: int = 0) -> np.ndarray:
    """A shuffled `range(size)`, a function of (seed, stream) on every platform and under every NumPy.

    It sorts raw PCG64 words, which NumPy keeps stable; `Generator.permutation` may change between versions.
    """
    words = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream,))).random_raw(size)
    return np.argsort(words, kind="stable")


def check_labels(labels: np.ndarray, indices: np.ndarray, info: Info) -> None:
    """Does nothing if every label names one of `info.classes`, or there are none.

    Raises:
        ValueError: Naming the source, the index and the label, if one does not.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= len(info.classes))) if info.classes else np.array([], int)
    if wrong.size:
        raise ValueError(
            f"example {indices[wrong[0]]} of {info.name} ({info.split}) has the label {labels[wrong[0]]}; expected "
            f"0 to {len(info.classes) - 1}, because there are {len(info.classes)} classes"
        )


def _are_labels(array: np.ndarray) -> bool:
    return array.ndim == 1 and array.dtype.kind in "iu"
