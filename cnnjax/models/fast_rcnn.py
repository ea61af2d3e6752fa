"""Fast R-CNN: one pass over the picture, then a look at each proposal on its map.

Reference: Girshick (2015), "Fast R-CNN", section 2 and figure 1.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from cnnjax.models.parts.detector import Objects, PicturesWithProposals
from cnnjax.models.parts.one_map import OneMap
from cnnjax.models.parts.proposals import Drawn, Regions
from cnnjax.models.parts.two_stage import SMALL
from cnnjax.models.registry import register

# Of the windows that stand in for proposals: sides as shares of the picture's, and width over height.
_SIDES, _SHAPES = (0.15, 0.3, 0.5, 0.75, 1.0), (0.5, 1.0, 2.0)


class FastRCNN(OneMap):
    """Fast R-CNN: proposals from elsewhere, RoIPool on one map of stride 16, VGG's fc6 and fc7, class and box.

    It takes `PicturesWithProposals`, such as those of `data.proposals.selective_search`. Where pictures come alone, a
    grid of windows stands in for proposals, which is far worse. 134,690,729 parameters at 20 classes.
    """

    drawn_regions: int = 64

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


register("fast_rcnn", FastRCNN, (608, 1008, 3), logits_of="boxes", backbone="vgg16")
register(
    "fast_rcnn_small",
    FastRCNN,
    (128, 128, 3),
    logits_of="boxes",
    **{name: value for name, value in SMALL.items() if name != "drawn_anchors"},
)
