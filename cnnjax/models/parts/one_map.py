"""Detectors in two stages that look at one map of the trunk, as Fast R-CNN and the paper's Faster R-CNN do."""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from cnnjax.functional.boxes import roi_pool
from cnnjax.models.parts.architecture import Stage, StageMaps
from cnnjax.models.parts.trunk import TRUNK, trunk_maps, trunk_stages
from cnnjax.models.parts.two_stage import TORCH_NAMES, BoxPredictor, TwoLayers, TwoStage, flattened


class OneMap(TwoStage):
    """The trunk's last map of one stride, RoIPool to 7x7, VGG's fc6 and fc7, class and box.

    Attributes:
        stride: of the map.
        hidden: width of fc6 and fc7.
        dropout: share of their features that is dropped in training.
    """

    backbone: str = "vgg16"
    stride: int = 16
    hidden: int = 4096
    dropout: float = 0.5
    nms_threshold: float = 0.3
    region_low: float = 0.1

    region_beta: ClassVar[float] = 1.0

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those of the trunk, from fine to coarse."""
        return trunk_stages(self.trunk(parent=None))

    @nn.nowrap
    def maps_of(self, images: jax.Array, *, train: bool, found: StageMaps) -> list[jax.Array]:
        """The one map."""
        (stage,) = self.trunk_stages_of([self.stride])
        name = f"{TRUNK}/{stage.name}"
        maps = trunk_maps(self.trunk(name=TRUNK), images, train=train, stages=found.names or [name])
        for each, x in maps.items():
            found.take(each, x)
        return [maps[name]] if name in maps else []

    @nn.nowrap
    def second_stage(
        self, maps: Sequence[jax.Array], boxes: jax.Array, *, train: bool
    ) -> tuple[Float[Array, "batch regions _"], Float[Array, "batch regions _ 4"]]:
        """RoIPool, fc6 and fc7."""
        scale = 1 / self.stride
        pooled = jax.vmap(lambda x, boxes: roi_pool(x, boxes, size=(7, 7), scale=scale))(maps[0], boxes)
        x = TwoLayers(self.hidden, self.dropout, self.types, name="box_head")(flattened(pooled), train=train)
        return BoxPredictor(self.num_classes, self.types, name="predictor")(x)

    def torch_name(self, module: str) -> str:
        """As torchvision calls the parts of its detectors in two stages, with a trunk that has no pyramid."""
        part, _, rest = module.partition("/")
        return f"backbone.{self.trunk(parent=None).torch_name(rest)}" if part == TRUNK else TORCH_NAMES[module]

    @nn.nowrap
    def trunk_name(self, module: str) -> str | None:
        """In a file of a VGG alone, its fc6 and fc7 are those of the regions."""
        part, _, rest = module.partition("/")
        if part not in (TRUNK, "box_head"):
            return None
        trunk = self.trunk(parent=None)
        return trunk.torch_name(rest) if part == TRUNK or rest in trunk.head else None
