"""Detectors that look at boxes from elsewhere, as R-CNN and Fast R-CNN do."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from cnnjax.models.parts.detector import Objects, PicturesWithProposals
from cnnjax.models.parts.one_map import OneMap
from cnnjax.models.parts.proposals import Drawn, Regions

# Of the windows that stand in for proposals: sides as shares of the picture's, and width over height.
_SIDES, _SHAPES = (0.15, 0.3, 0.5, 0.75, 1.0), (0.5, 1.0, 2.0)


class GivenProposals(OneMap):
    """A detector that takes `PicturesWithProposals`, such as those of `data.proposals.selective_search`.

    Where pictures come alone, a grid of windows stands in for proposals, which is far worse.
    """

    drawn_regions: int = 64

    proposes: ClassVar[bool] = False

    @nn.nowrap
    def first_stage(
        self, maps: Sequence[jax.Array], size: tuple[int, int], inputs: Any, objects: Objects | None
    ) -> tuple[Regions, Drawn | None]:
        """The proposals that came."""
        if isinstance(inputs, PicturesWithProposals):
            sides = inputs.proposals[..., 2:] - inputs.proposals[..., :2]
            return Regions(inputs.proposals, jnp.all(sides > 0, axis=-1)), None
        boxes = jnp.asarray(windows(size))[None]
        boxes = jnp.broadcast_to(boxes, (maps[0].shape[0], *boxes.shape[1:]))
        return Regions(boxes, jnp.ones(boxes.shape[:2], bool)), None


@lru_cache(maxsize=16)
def windows(size: tuple[int, int]) -> Float32[np.ndarray, "windows 4"]:
    """Windows of several sizes and shapes all over a picture, half overlapping, as its proposals."""
    height, width = size
    found = []
    for side in _SIDES:
        for shape in _SHAPES:
            high, wide = min(side * height / np.sqrt(shape), height), min(side * width * np.sqrt(shape), width)
            rows, columns = (
                int(np.ceil((whole - part) / (part / 2))) + 1 for whole, part in ((height, high), (width, wide))
            )
            for y in np.linspace(0, height - high, rows):
                for x in np.linspace(0, width - wide, columns):
                    found.append((x, y, x + wide, y + high))
    return np.asarray(found, np.float32)
