"""Faster R-CNN: region proposals from the same maps that they are classified on; with one map, and with a pyramid.

Reference: Ren, He, Girshick and Sun (2015), "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal
Networks", section 3; with a pyramid, Lin et al. (2017), "Feature Pyramid Networks for Object Detection", section 4.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float, Float32

from cnnjax.functional.boxes import caffe_anchors, pyramid_anchors, pyramid_levels, pyramid_roi_align
from cnnjax.functional.precision import at_least_float32
from cnnjax.models.parts.architecture import Architecture, Stage, StageMaps
from cnnjax.models.parts.detector import Objects
from cnnjax.models.parts.one_map import OneMap
from cnnjax.models.parts.proposals import Drawn, RegionProposalHead, Regions, draw_anchors, propose
from cnnjax.models.parts.pyramid import FeaturePyramid, sizes_of, torch_name_of_pyramid
from cnnjax.models.parts.trunk import TRUNK, trunk_maps, trunk_stages
from cnnjax.models.parts.two_stage import SMALL, TORCH_NAMES, BoxPredictor, TwoLayers, TwoStage, flattened
from cnnjax.models.registry import register
from cnnjax.models.resnet import ResNet

# Height over width.
RATIOS = (0.5, 1.0, 2.0)


class FasterRCNNPyramid(TwoStage):
    """Faster R-CNN on a feature pyramid: the trunk's maps of strides 4 to 32, anchors of one size on each level.

    Regions are brought to 7x7 by RoIAlign, on the level that fits their size, for two dense layers. Everything is
    torchvision's, so that its weights load and give its boxes: anchors are rounded, those that cross the border count,
    and RoIAlign is not aligned to half a pixel. At 800x1344 and 20 classes:

    | net | parameters | at 90 classes | with trainable normalisation |
    |---|---|---|---|
    | `faster_rcnn_resnet50_fpn` | 41,396,536 | 41,755,286 | 41,449,656 |

    Attributes:
        strides: of the maps of the trunk.
        anchor_sizes: side of the square anchor of each level, in pixels; the last is for the level behind the pyramid.
        anchor_ratios: heights over widths of the anchors of each size.
        features: channels of the pyramid.
        hidden: width of both dense layers.
    """

    backbone: str = "resnet50"
    frozen_norm: bool = True
    strides: Sequence[int] = (4, 8, 16, 32)
    anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512)
    anchor_ratios: Sequence[float] = RATIOS
    features: int = 256
    hidden: int = 1024
    norm_epsilon: float = 1e-5

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those of the trunk; the pyramid's levels are the layers fpn/smooth1, ..., from fine to coarse."""
        return trunk_stages(self.trunk(parent=None))

    @nn.nowrap
    def own_options(self, builder: type[Architecture]) -> dict[str, Any]:
        """What is added to the trunk's variances."""
        return {"norm_epsilon": self.norm_epsilon} if builder is ResNet else {}

    @nn.nowrap
    def maps_of(self, images: jax.Array, *, train: bool, found: StageMaps) -> list[jax.Array]:
        """The pyramid's levels."""
        self._check_levels()
        needed = [f"{TRUNK}/{stage.name}" for stage in self.trunk_stages_of(self.strides)]
        wanted = found.names or needed
        maps = trunk_maps(self.trunk(name=TRUNK), images, train=train, stages=wanted)
        for name, x in maps.items():
            if found.take(name, x):
                return []
        return FeaturePyramid(self.features, self.types, name="fpn")([maps[name] for name in needed])

    @nn.nowrap
    def first_stage(
        self, maps: Sequence[jax.Array], size: tuple[int, int], inputs: Any, objects: Objects | None
    ) -> tuple[Regions, Drawn | None]:
        """The region proposal network."""
        logits, offsets = RegionProposalHead(self.features, len(self.anchor_ratios), False, self.types, name="rpn")(
            maps
        )
        logits, offsets = _wide(logits), _wide(offsets)
        anchors = _pyramid(sizes_of(maps), tuple(self.anchor_sizes), tuple(self.anchor_ratios), size)
        regions = propose(logits, offsets, anchors, size, self.proposal_rule(train=objects is not None))
        if objects is None:
            return regions, None
        key = self.make_rng("sampling")
        return regions, draw_anchors(key, logits, offsets, anchors, objects, count=self.drawn_anchors)

    @nn.nowrap
    def second_stage(
        self, maps: Sequence[jax.Array], boxes: jax.Array, *, train: bool
    ) -> tuple[Float[Array, "batch regions _"], Float[Array, "batch regions _ 4"]]:
        """RoIAlign and two dense layers."""
        x = flattened(self.regions_of(maps, boxes, side=7))
        x = TwoLayers(self.hidden, 0.0, self.types, name="box_head")(x, train=train)
        return BoxPredictor(self.num_classes, self.types, name="predictor")(x)

    @nn.nowrap
    def regions_of(
        self, maps: Sequence[jax.Array], boxes: jax.Array, *, side: int
    ) -> Float[Array, "batch regions side side channels"]:
        """What the level that fits each region has there; the level behind the pyramid has none.

        Args:
            maps: the pyramid's levels.
            boxes: (batch, regions, 4), in pixels.
            side: bins down and along.
        """
        strides = tuple(self.strides)
        lowest = strides[0].bit_length() - 1
        options: dict[str, Any] = {"size": (side, side), "scales": [1 / stride for stride in strides]}

        def of_picture(levels: list[jax.Array], boxes: jax.Array) -> jax.Array:
            which = pyramid_levels(boxes, lowest=lowest, highest=lowest + len(strides) - 1) - lowest
            return pyramid_roi_align(levels, boxes, which, aligned=False, **options)

        return jax.vmap(of_picture)(list(maps[: len(strides)]), boxes)

    def torch_name(self, module: str) -> str:
        """What torchvision calls the module at a path of this model."""
        part, _, rest = module.partition("/")
        if part == TRUNK:
            return f"backbone.body.{self.trunk(parent=None).torch_name(rest)}"
        if part == "fpn":
            return torch_name_of_pyramid(rest, "backbone.fpn")
        return TORCH_NAMES[module]

    def _check_levels(self) -> None:
        strides = tuple(self.strides)
        if len(self.anchor_sizes) != len(strides) + 1:
            raise ValueError(
                f"anchor_sizes={tuple(self.anchor_sizes)} came for {len(strides)} strides; expected one for each level:"
                f" those of strides {', '.join(map(str, strides))}, and one for {2 * strides[-1]}"
            )
        if any(later != 2 * before for before, later in pairwise(strides)):
            raise ValueError(f"strides={strides}; expected each to be twice the one before, as (4, 8, 16, 32)")


class FasterRCNN(OneMap):
    """The paper's Faster R-CNN: nine anchors at each place of one map of stride 16, RoIPool, two wide dense layers.

    The trunk is a VGG-16 as far as its fifth stage, without the last pool. Regions are brought to 7x7 for VGG's own fc6
    and fc7. Objectness has two logits, anchors that cross the border do not count in the loss, and background regions
    overlap an object by 0.1 at least. 137,078,239 parameters at 20 classes.

    Attributes:
        features: channels of the proposals' 3x3 convolution.
        anchor_scales: sides of the anchors, in strides.
        anchor_ratios: heights over widths of the anchors of each scale.
    """

    features: int = 512
    anchor_scales: Sequence[int] = (8, 16, 32)
    anchor_ratios: Sequence[float] = RATIOS
    drawn_regions: int = 128
    train_before: int = 12000
    train_after: int = 2000
    test_before: int = 6000
    test_after: int = 300
    smallest_proposal: float = 16.0

    @nn.nowrap
    def first_stage(
        self, maps: Sequence[jax.Array], size: tuple[int, int], inputs: Any, objects: Objects | None
    ) -> tuple[Regions, Drawn | None]:
        """The region proposal network."""
        per_place = len(self.anchor_ratios) * len(self.anchor_scales)
        logits, offsets = RegionProposalHead(self.features, per_place, True, self.types, name="rpn")(maps)
        logits, offsets = _wide(logits), _wide(offsets)
        anchors = [_caffe(sizes_of(maps)[0], self.stride, tuple(self.anchor_ratios), tuple(self.anchor_scales))]
        regions = propose(logits, offsets, anchors, size, self.proposal_rule(train=objects is not None))
        if objects is None:
            return regions, None
        options: dict[str, Any] = {"count": self.drawn_anchors, "inside": size}
        return regions, draw_anchors(self.make_rng("sampling"), logits, offsets, anchors, objects, **options)


@lru_cache(maxsize=16)
def _pyramid(
    maps: tuple[tuple[int, int], ...], sizes: tuple[int, ...], ratios: tuple[float, ...], picture: tuple[int, int]
) -> tuple[Float32[np.ndarray, "_ 4"], ...]:
    return tuple(pyramid_anchors(maps, sizes=[(size,) for size in sizes], ratios=ratios, image_size=picture))


@lru_cache(maxsize=16)
def _caffe(
    cells: tuple[int, int], stride: int, ratios: tuple[float, ...], scales: tuple[int, ...]
) -> Float32[np.ndarray, "_ 4"]:
    return caffe_anchors(cells, stride=stride, ratios=ratios, scales=scales)


def _wide(parts: Sequence[jax.Array]) -> list[jax.Array]:
    """In float32 at least: scores are sorted, and boxes are hundreds of pixels long."""
    return [part.astype(at_least_float32(part.dtype)) for part in parts]


SMALL_PYRAMID: dict[str, Any] = {
    **SMALL,
    "frozen_norm": False,
    "strides": (4, 8, 16),
    "anchor_sizes": (16, 32, 64, 112),
    "features": 64,
    "test_after": 100,
}

register("faster_rcnn_vgg16", FasterRCNN, (608, 1008, 3), logits_of="boxes", backbone="vgg16")
register("faster_rcnn_resnet50_fpn", FasterRCNNPyramid, (800, 1344, 3), logits_of="boxes", backbone="resnet50")
register("faster_rcnn_small", FasterRCNNPyramid, (128, 128, 3), logits_of="boxes", **SMALL_PYRAMID)
register(
    "faster_rcnn_vgg_small",
    FasterRCNN,
    (128, 128, 3),
    logits_of="boxes",
    **SMALL,
    features=64,
    stride=8,
    anchor_scales=(4, 8, 14),
    smallest_proposal=4.0,
    test_after=100,
)
