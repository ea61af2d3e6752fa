"""Label maps of objects with a weight for each pixel, large in the gaps between objects that nearly touch."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Integer

from cnnjax.data.pictures.instances import separation_weights
from cnnjax.data.sources.fingerprint import fingerprint
from cnnjax.data.sources.source import Info, Source, describe_source


def parted(labels: Integer[np.ndarray, "height width"]) -> Integer[np.ndarray, "height width"]:
    """Labels of objects with background where two of them touch, beside or above one another.

    >>> parted(np.array([[0, 1, 1, 2, 2, 2]])).tolist()
    [[0, 1, 0, 0, 2, 2]]
    """
    touching = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        first, second = (np.moveaxis(labels, axis, 0)[part] for part in (slice(1, None), slice(None, -1)))
        meet = (first != second) & (first > 0) & (second > 0)
        moved = np.moveaxis(touching, axis, 0)
        moved[1:] |= meet
        moved[:-1] |= meet
    return np.where(touching, 0, labels)


@dataclass(frozen=True, eq=False, repr=False)
class Separated:
    """The examples of another source, the weights of their pixels as a second plane of "masks".

    So the weights move with the labels wherever a picture is placed, cut or bent. They are computed once for each
    example and kept. Objects that touch are parted first, see `parted`, so that there is a gap to be learnt.

    Attributes:
        source: examples whose "masks" number the objects, (height, width), 0 for the background.
        weight: of a gap without width, beside 1 elsewhere; 10 in the paper.
        width: pixels over which it falls off; 5 in the paper.
        info: what the source holds.

    Raises:
        ValueError: the masks of the source do not number objects.

    Reference: Ronneberger et al. (2015), "U-Net", equation 2.
    """

    source: Source
    weight: float = 10.0
    width: float = 5.0
    info: Info = field(init=False)
    _kept: dict[int, Float32[np.ndarray, "height width planes"]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        info = self.source.info
        if info.labels != "instances":
            raise ValueError(
                f"the masks of {info.name} do not tell objects apart, which weights of the gaps between them need; give"
                " masks with a number, or a file, for each object, or leave out --separation"
            )
        mark = fingerprint(info.fingerprint, str(self.weight), str(self.width)) if info.fingerprint else ""
        shapes = {**info.shapes, "masks": (*info.shapes["masks"], 2)}
        object.__setattr__(self, "info", replace(info, shapes=shapes, fingerprint=mark))

    def __repr__(self) -> str:
        return describe_source(self)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self.source[index]
        if index not in self._kept:
            labels = parted(np.asarray(example["masks"]))
            weights = separation_weights(labels, w0=self.weight, sigma=self.width, class_balance=(1.0, 1.0))
            self._kept[index] = np.stack([labels.astype(np.float32), weights], axis=-1)
        return {**example, "masks": self._kept[index]}

    def column(self, name: str) -> np.ndarray | None:
        """All values of an element of the source in order, or None where only the examples tell them."""
        return self.source.column(name)

    def where(self, index: int) -> str:
        """Where the source has this example, or nothing if it does not say."""
        return self.source.where(index) if hasattr(self.source, "where") else ""
