"""Scenes by index, as a source that trains and is tested on like any other."""

import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np

from cnnjax.data.scenes.drawing import scene
from cnnjax.data.scenes.facts import class_names
from cnnjax.data.sources.fingerprint import fingerprint
from cnnjax.data.sources.source import Info, describe_source

# Raised when the same settings would give other scenes, so that what is kept of them is not taken for that of these.
_VERSION = 1
_drawn = jax.jit(scene, static_argnames=("size", "objects", "fewest", "digits"))


@dataclass(frozen=True, repr=False)
class SceneSource:
    """`count` scenes: example i is drawn when it is asked for, from the seed, the split's name and i alone.

    Its elements are those of `scene`, as NumPy arrays. They are drawn on the processor, so as to be the same beside
    any accelerator. Splits of other names, or other seeds, have no scene in common.

    Attributes:
        count: How many there are.
        split: The name of the split.
        seed: Decides all scenes.
        size: Height and width.
        objects: How many slots for objects there are.
        fewest: How many objects are drawn at least.
        digits: Whether there are handwritten digits too.
        spelling: By which `open_source` gives all splits; `scenes:COUNT`, of this one, where None.

    Raises:
        ValueError: `count` is below 1, or `seed` negative; when drawn, as `scene`.
    """

    count: int
    split: str = "train"
    seed: int = 0
    size: tuple[int, int] = (96, 96)
    objects: int = 6
    fewest: int = 1
    digits: bool = False
    spelling: str | None = None

    def __post_init__(self) -> None:
        if self.count < 1 or self.seed < 0:
            raise ValueError(f"count={self.count} and seed={self.seed}; expected 1 or more, and 0 or more")

    @property
    def info(self) -> Info:
        """What the scenes are; their fingerprint is that of the settings."""
        slots, size = (self.objects,), self.size
        shapes = {
            "image": (*size, 3),
            "boxes": (*slots, 4),
            "present": slots,
            "masks": size,
            "keypoints": (*slots, 5, 2),
            "visibility": (*slots, 5),
            **dict.fromkeys(("classes", "area", "colours", "sizes", "positions"), slots),
        }
        settings = {name: value for name, value in asdict(self).items() if name != "spelling"}
        mark = fingerprint("scenes", str(_VERSION), *(f"{name}={value}" for name, value in settings.items()))
        name = self.spelling or f"scenes:{self.count}"
        return Info(name, self.split, shapes, class_names(digits=self.digits), mark, labels="instances")

    def __repr__(self) -> str:
        return describe_source(self)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if not 0 <= index < self.count:
            raise IndexError(f"index {index} of {self.count} scenes")
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            key = jax.random.fold_in(jax.random.key(self.seed), zlib.crc32(self.split.encode()))
            drawn = _drawn(
                jax.random.fold_in(key, index),
                size=self.size,
                objects=self.objects,
                fewest=self.fewest,
                digits=self.digits,
            )
            return {name: np.asarray(array) for name, array in drawn.items()}

    def column(self, name: str) -> np.ndarray | None:
        """None: only the scenes tell."""
        return None


def scene_parts(spelling: str, argument: str, data_dir: Path | None = None) -> dict[str, Callable[[], SceneSource]]:
    """The splits of `COUNT` or `COUNT:SIDE`: as many scenes to train on, and a fifth as many in "val" and in "test".

    Raises:
        ValueError: The argument is not one whole number above 0, or two.
    """
    numbers = argument.split(":")
    if len(numbers) > 2 or not all(number.isdecimal() and int(number) > 0 for number in numbers):
        raise ValueError(f"{spelling!r}; expected scenes:COUNT or scenes:COUNT:SIDE, such as scenes:1000:96")
    count, side = int(numbers[0]), int(numbers[-1]) if len(numbers) == 2 else 96
    counts = {"train": count, "val": -(-count // 5), "test": -(-count // 5)}
    options = {"size": (side, side), "spelling": spelling}
    return {split: partial(SceneSource, number, split, **options) for split, number in counts.items()}
