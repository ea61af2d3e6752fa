"""Mask R-CNN: Faster R-CNN on a pyramid, and a small net that draws the mask of each object within its box.

Reference: He, Gkioxari, Dollar and Girshick (2017), "Mask R-CNN", section 3 and figure 4 (right).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from cnnjax.functional.boxes.regions import sampled_mask
from cnnjax.functional.precision import at_least_float32
from cnnjax.layers import Conv, ConvTranspose
from cnnjax.models.faster_rcnn import SMALL_PYRAMID, FasterRCNNPyramid
from cnnjax.models.parts.detector import Objects
from cnnjax.models.parts.proposals import DrawnRegions
from cnnjax.models.parts.two_stage import DrawnMasks, TwoStageOutput
from cnnjax.models.registry import register

# Section 3: regions are brought to 14x14, and masks have 28x28 pixels.
SIDE, MASK_SIDE = 14, 28


class MaskRCNN(FasterRCNNPyramid):
    """Mask R-CNN on a feature pyramid, with torchvision's head of masks and targets.

    While it trains, a mask is drawn of each region with an object, of the object's class; otherwise of each detection,
    in its box, of its class. At 20 classes:

    | net | parameters | at 90 classes | with trainable normalisation |
    |---|---|---|---|
    | `mask_rcnn_resnet50_fpn` | 44,024,653 | 44,401,393 | 44,077,773 |

    Attributes:
        mask_features: channels of the head of masks.
        mask_depth: its 3x3 convolutions.
    """

    mask_features: int = 256
    mask_depth: int = 4

    head: ClassVar[tuple[str, ...]] = ("predictor/class", "predictor/box", "mask_predictor/mask")

    @nn.nowrap
    def with_masks(self, maps: Sequence[jax.Array], output: TwoStageOutput) -> TwoStageOutput:
        """Probabilities of the pixels of each detection."""
        logits = self._masks(maps, output.found.boxes, output.found.classes)
        masks = jnp.where(output.found.present[..., None, None], jax.nn.sigmoid(logits), 0.0)
        return dataclasses.replace(output, found=output.found._replace(masks=masks))

    @nn.nowrap
    def drawn_masks(self, maps: Sequence[jax.Array], drawn: DrawnRegions, objects: Objects) -> DrawnMasks:
        """Of the regions with an object, which stand first.

        Raises:
            ValueError: the objects came without masks.
        """
        if objects.masks is None:
            raise ValueError("the objects came without masks; MaskRCNN learns them: take data with masks of instances")
        most = max(1, int(self.drawn_regions * self.positive_share))
        first = jax.tree.map(lambda array: array[:, :most], drawn)
        present = first.present & (first.labels > 0)
        logits = self._first_masks(maps, first.boxes, jnp.maximum(first.labels - 1, 0), present)
        targets = jax.vmap(_targets)(objects.masks, first.boxes, first.objects)
        return DrawnMasks(logits, targets, present)

    def torch_name(self, module: str) -> str:
        """What torchvision calls the module at a path of this model."""
        part, _, rest = module.partition("/")
        if part == "mask_head":
            return f"roi_heads.mask_head.{int(rest[4:]) - 1}.0"
        if part == "mask_predictor":
            return f"roi_heads.mask_predictor.{ {'up': 'conv5_mask', 'mask': 'mask_fcn_logits'}[rest] }"
        return super().torch_name(module)

    @nn.nowrap
    def _first_masks(
        self,
        maps: Sequence[jax.Array],
        boxes: Float[Array, "batch regions 4"],
        classes: Int[Array, "batch regions"],
        present: Bool[Array, "batch regions"],
    ) -> Float[Array, "batch regions rows columns"]:
        """Logits of an eighth, a half or all of the regions, as many as the picture with the most needs; then zeros.

        Slots are as many as there may be objects, and mostly there are few, while the head is most of the net's cost.
        """
        number = boxes.shape[1]
        sizes = sorted({-(-number // share) for share in (8, 2, 1)})

        def of_first(size: int) -> Any:
            def masks(net: "MaskRCNN", maps: Any, boxes: jax.Array, classes: jax.Array) -> jax.Array:
                found = net._masks(maps, boxes[:, :size], classes[:, :size])
                return jnp.pad(found, ((0, 0), (0, number - size), (0, 0), (0, 0)))

            return masks

        # The last one that is present, since those stand first.
        needed = jnp.max(jnp.where(present, jnp.arange(1, number + 1)[None], 0))
        which = jnp.sum(needed > jnp.asarray(sizes[:-1], needed.dtype))
        return nn.switch(which, [of_first(size) for size in sizes], self, tuple(maps), boxes, classes)

    @nn.nowrap
    def _masks(
        self, maps: Sequence[jax.Array], boxes: jax.Array, classes: Int[Array, "batch regions"]
    ) -> Float[Array, "batch regions rows columns"]:
        """Logits of the pixels of each box, of one class."""
        x = self.regions_of(maps, boxes, side=SIDE)
        batch, number = x.shape[:2]
        x = x.reshape(batch * number, *x.shape[2:])
        x = MaskHead(self.mask_features, self.mask_depth, self.types, name="mask_head")(x)
        x = MaskPredictor(self.num_classes, self.mask_features, self.types, name="mask_predictor")(x)
        own = jnp.take_along_axis(x, classes.reshape(-1, 1, 1, 1) + 1, axis=-1)[..., 0]
        return own.reshape(batch, number, *own.shape[1:]).astype(at_least_float32(own.dtype))


class MaskHead(nn.Module):
    """Rectified 3x3 convolutions.

    Attributes:
        features: channels of each.
        depth: number of them.
        types: of computation and parameters, as options of a layer.
    """

    features: int
    depth: int
    types: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: Float[Array, "regions rows columns _"]) -> Float[Array, "regions rows columns features"]:
        """All in turn."""
        for number in range(1, self.depth + 1):
            conv = Conv(
                self.features,
                (3, 3),
                padding=1,
                kernel_init=nn.initializers.he_normal(),
                **self.types,
                name=f"conv{number}",
            )
            x = nn.relu(conv(x))
        return x


class MaskPredictor(nn.Module):
    """A rectified 2x2 up-convolution and a 1x1: logits of the background, which nobody looks at, and of each class.

    Attributes:
        num_classes: of things.
        features: channels of the up-convolution.
        types: of computation and parameters, as options of a layer.
    """

    num_classes: int
    features: int
    types: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: Float[Array, "regions rows columns _"]) -> Float[Array, "regions twice_rows twice_columns _"]:
        """Twice as many rows and columns."""
        options: dict[str, Any] = {"kernel_init": nn.initializers.he_normal(), **self.types}
        x = nn.relu(ConvTranspose(self.features, (2, 2), strides=2, padding="VALID", name="up", **options)(x))
        return Conv(self.num_classes + 1, (1, 1), name="mask", **options)(x)


def _targets(
    masks: Num[Array, "height width *slots"], boxes: Float[Array, "regions 4"], slots: Int[Array, "regions"]
) -> Float[Array, "regions rows columns"]:
    """How much of each pixel of a region its object covers: not 0 or 1 alone, as in torchvision."""
    sampled = partial(sampled_mask, size=(MASK_SIDE, MASK_SIDE))

    def of_region(region: tuple[jax.Array, jax.Array]) -> jax.Array:
        box, slot = region
        plane = masks == (slot + 1).astype(masks.dtype) if masks.ndim == 2 else jnp.take(masks, slot, axis=2) > 0
        return sampled(plane.astype(boxes.dtype), box)

    return jax.lax.map(of_region, (boxes, slots))


register("mask_rcnn_resnet50_fpn", MaskRCNN, (800, 1344, 3), logits_of="instances", backbone="resnet50")
register(
    "mask_rcnn_small",
    MaskRCNN,
    (128, 128, 3),
    logits_of="instances",
    **SMALL_PYRAMID,
    mask_features=32,
    mask_depth=2,
)
