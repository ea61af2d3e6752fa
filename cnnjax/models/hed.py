"""Holistically-nested edge detection: every stage of a VGG says where edges are, and a last layer weighs them.

Reference: Xie and Tu (2015), "Holistically-Nested Edge Detection", section 3, figure 5 and table 2.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnjax.functional.resizing import resize_bilinear
from cnnjax.layers import Conv
from cnnjax.models.parts.architecture import Architecture, Maps, Stage, StageMaps
from cnnjax.models.parts.auxiliary import AuxiliaryLogits
from cnnjax.models.parts.trunk import TRUNK, trunk_maps, trunk_stages
from cnnjax.models.registry import register
from cnnjax.models.vgg import DEPTHS, VGG


class HED(Architecture):
    """HED: the five stages of VGG-16, a 1x1 convolution on each, its map resized to the picture, and their fusion.

    Training gives `AuxiliaryLogits` of the fused map and the five side outputs, all of the picture's size and of the
    same weight, for `functional.losses.class_balanced_cross_entropy`; otherwise there are the fused logits alone.
    Edge probabilities are their sigmoid. Rows that a pool does not fit are kept, as by "SAME" padding. 14,716,171
    parameters; receptive fields and strides of the side outputs, as in table 2 of the paper:

    | side1 | side2 | side3 | side4 | side5 |
    |---|---|---|---|---|
    | 5, 1 | 14, 2 | 40, 4 | 92, 8 | 196, 16 |

    Side outputs start as other layers do, not at zero as in the paper, whose trunk was trained before: such a one comes
    by `models.weights.load_torch_weights(model, file, fresh_head=key)`. Trained nets take RGB from 0 to 255 less
    (123.68, 116.779, 103.939).

    Attributes:
        num_classes: kinds of edges; None ends with the map of the last stage.
    """

    num_classes: int | None = 1

    head: ClassVar[tuple[str, ...]] = ("side1", "side2", "side3", "side4", "side5", "fuse")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those of the trunk, from fine to coarse."""
        return trunk_stages(self._trunk(parent=None))

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> Float[Array, "batch rows columns outputs"] | AuxiliaryLogits | Maps:
        """Logits by pixel, or the maps of `stages`; `train` adds the logits of the side outputs."""
        StageMaps(self, stages)  # says which names are wrong
        asked = [stage.name for stage in self.stages] if stages is None else stages
        found = trunk_maps(self._trunk(name=TRUNK), images, train=train, stages=asked)
        if stages is not None:
            return found
        if self.num_classes is None:
            return found[list(found)[-1]]
        conv = partial(Conv, self.num_classes, (1, 1), **self.types)
        sides = [
            resize_bilinear(conv(name=f"side{number}")(x), images.shape[1:3])
            for number, x in enumerate(found.values(), 1)
        ]
        fused = conv(name="fuse", kernel_init=_mean_of_sides)(jnp.concatenate(sides, axis=-1))
        return AuxiliaryLogits(fused, tuple(sides), 1.0) if train else fused

    def torch_name(self, module: str) -> str:
        """The trunk's modules as torchvision calls VGG's, the others as here."""
        part, _, rest = module.partition("/")
        return self._trunk(parent=None).torch_name(rest) if part == TRUNK else module

    def _trunk(self, **place: Any) -> VGG:
        return VGG(DEPTHS["vgg16"], num_classes=None, pool_misfit="pad", **self.types, **place)


def _mean_of_sides(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """For each kind of edge a fifth of every side output's (section 4.1)."""
    *_, inputs, outputs = shape
    sides = inputs // outputs
    return (jnp.tile(jnp.eye(outputs, dtype=dtype), (sides, 1)) / sides).reshape(shape)


register("hed", HED, (400, 400, 3), logits_of="pixels")
