"""R-CNN: every proposal is cut out, warped to one size, and described by a net for classification.

Reference: Girshick, Donahue, Darrell and Malik (2014), "Rich Feature Hierarchies for Accurate Object Detection and
Semantic Segmentation", section 2, figure 1, and appendices A and C.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.functional.boxes import roi_align
from cnnjax.functional.precision import at_least_float32
from cnnjax.layers import Dense, MaxPool
from cnnjax.models.parts.architecture import StageMaps
from cnnjax.models.parts.given_proposals import GivenProposals
from cnnjax.models.parts.trunk import TRUNK, trunk_maps
from cnnjax.models.parts.two_stage import SMALL, TwoLayers
from cnnjax.models.registry import register

# The collection of what is fitted after training, and not by gradients.
FITTED = "fitted"


class Described(NamedTuple):
    """What the net says of warped regions.

    Attributes:
        pooled: the last map, in a row: what boxes are regressed from.
        hidden: fc7: what classes are told by.
    """

    pooled: Float[Array, "batch regions pixels"]
    hidden: Float[Array, "batch regions features"]


class RCNN(GivenProposals):
    """R-CNN: warped proposals, AlexNet up to fc7, a linear SVM for each class, and ridge regression of its box.

    It is trained in stages. By gradients only the net learns, with a softmax over background and classes. Then SVMs
    and regressions are fitted to its features (`experiment.rcnn`); they are no parameters, but the collection "fitted".
    Until then, scores are those of the softmax, and boxes are the proposals.

    The paper's program regressed the boxes that were left after suppression; here, as in Fast R-CNN, all are regressed
    before it. 56,954,261 parameters at 20 classes with AlexNet, 86,037 of them in the softmax.

    Attributes:
        stride: of the last map; where the trunk's is finer, it is max-pooled to that.
        crop: side that regions are warped to.
        context: pixels of it on each side that show what is around the region.
        at_once: crops that are computed at once.
        ridge: weight of the penalty of the box regression.
        svm_cost: weight of the errors of an SVM, C.
    """

    backbone: str = "alexnet"
    stride: int = 32
    region_low: float = 0.0
    crop: int = 227
    context: int = 16
    at_once: int = 1000
    ridge: float = 1000.0
    svm_cost: float = 1e-3

    offset_weights: ClassVar[tuple[float, ...]] = (1.0, 1.0, 1.0, 1.0)
    learns_boxes: ClassVar[bool] = False
    head: ClassVar[tuple[str, ...]] = ("softmax", "svms")
    flattened: ClassVar[dict[str, tuple[int, int]]] = {"box_head/fc6": (6, 6)}

    @nn.nowrap
    def maps_of(self, images: jax.Array, *, train: bool, found: StageMaps) -> list[jax.Array]:
        """The pictures themselves; the maps of stages are those of the whole pictures."""
        if found.names is None:
            return [images]
        for each, x in trunk_maps(self.trunk(name=TRUNK), images, train=train, stages=found.names).items():
            found.take(each, x)
        return []

    @nn.nowrap
    def second_stage(
        self, maps: Sequence[jax.Array], boxes: jax.Array, *, train: bool
    ) -> tuple[Float[Array, "batch regions _"], Float[Array, "batch regions _ 4"]]:
        """The softmax's logits, or margins of the SVMs once they are fitted; offsets that no gradient reaches."""
        (images,) = maps
        described = self.describe(images, boxes, train=train)
        self.sow("intermediates", "described", described)
        kinds, wide = self.num_classes + 1, at_least_float32(described.hidden.dtype)
        softmax = Dense(kinds, kernel_init=nn.initializers.normal(0.01), name="softmax", **self.types)
        logits = softmax(described.hidden).astype(wide)
        margins, offsets, ready = Fitted(self.num_classes, name="svms")(described)
        # An SVM that says 0 is undecided between its class and all else, as equal logits are.
        of_svms = jnp.concatenate([jnp.zeros_like(margins[..., :1]), margins], axis=-1).astype(wide)
        shifts = jnp.concatenate([jnp.zeros_like(offsets[..., :1, :]), offsets], axis=-2).astype(wide)
        return logits if train else jnp.where(ready > 0, of_svms, logits), shifts

    @nn.nowrap
    def scores(self, logits: Float[Array, "batch regions _"]) -> Float[Array, "batch regions classes"]:
        """The softmax's; once SVMs are fitted, the logistic function of each one's margin."""
        ready = self.variables[FITTED]["svms"]["ready"]
        return jnp.where(ready > 0, jax.nn.sigmoid(logits[..., 1:]), jax.nn.softmax(logits)[..., 1:])

    @nn.nowrap
    def describe(
        self,
        images: Float[Array, "batch height width channels"],
        boxes: Float[Array, "batch regions 4"],
        *,
        train: bool,
    ) -> Described:
        """What the net says of regions, some at once: the warped regions of a picture are far larger than itself."""
        batch, regions, _ = boxes.shape
        some = max(1, self.at_once // batch)
        if train or regions <= some:
            return self._look(images, boxes, train)
        parts = -(-regions // some)
        filled = jnp.pad(boxes, ((0, 0), (0, parts * some - regions), (0, 0)))
        chunks = jnp.moveaxis(filled.reshape(batch, parts, some, 4), 1, 0)
        scan = nn.scan(
            lambda net, done, chunk: (done, net._look(images, chunk, False)),
            variable_broadcast=["params", "batch_stats"],
            split_rngs={"params": False},
        )
        _, found = scan(self, (), chunks)
        joined = (jnp.moveaxis(x, 0, 1).reshape(batch, parts * some, -1)[:, :regions] for x in found)
        return Described(*joined)

    def torch_name(self, module: str) -> str:
        """As of the other detectors; no public library has R-CNN's heads, which keep their own names."""
        return module if module in self.head else super().torch_name(module)

    @nn.nowrap
    def _look(self, images: jax.Array, boxes: jax.Array, train: bool) -> Described:
        stage = self.trunk(parent=None).stages[-1]
        crops = jax.vmap(lambda image, some: warped(image, some, size=self.crop, context=self.context))(images, boxes)
        name = f"{TRUNK}/{stage.name}"
        flat = crops.reshape(-1, *crops.shape[2:])
        maps = trunk_maps(self.trunk(name=TRUNK), flat, train=train, stages=[name])
        last, finer = maps[name], self.stride // stage.stride
        if finer > 1:  # VGG's stages end before their pools
            last = MaxPool(finer, strides=finer, name="pool")(last)
        pooled = last.reshape(*boxes.shape[:2], -1)
        head = TwoLayers(self.hidden, self.dropout, self.types, name="box_head")
        return Described(pooled, head(pooled, train=train))


class Fitted(nn.Module):
    """A linear SVM and a linear regression of the box for each class; zeros until they are fitted.

    Attributes:
        num_classes: of things.
    """

    num_classes: int

    @nn.compact
    def __call__(
        self, described: Described
    ) -> tuple[Float[Array, "batch regions classes"], Float[Array, "batch regions classes 4"], Float[Array, ""]]:
        """Margins of the SVMs, offsets, and 1 once both are fitted."""
        features, pixels = described.hidden.shape[-1], described.pooled.shape[-1]
        shapes = {
            "svm_kernel": (features, self.num_classes),
            "svm_bias": (self.num_classes,),
            "box_kernel": (pixels, self.num_classes * 4),
            "box_bias": (self.num_classes * 4,),
            "ready": (),
        }
        own: Mapping[str, Any] = {
            name: self.variable(FITTED, name, lambda shape=shape: jnp.zeros(shape, jnp.float32)).value
            for name, shape in shapes.items()
        }
        hidden, pooled = (x.astype(at_least_float32(x.dtype)) for x in (described.hidden, described.pooled))
        margins = hidden @ own["svm_kernel"].astype(hidden.dtype) + own["svm_bias"].astype(hidden.dtype)[None, None]
        offsets = pooled @ own["box_kernel"].astype(pooled.dtype) + own["box_bias"].astype(pooled.dtype)[None, None]
        return margins, offsets.reshape(*offsets.shape[:-1], self.num_classes, 4), own["ready"]


def warped(
    image: Float[Array, "height width channels"], boxes: Float[Array, "boxes 4"], *, size: int, context: int
) -> Float[Array, "boxes size size channels"]:
    """Boxes of a picture with what is around them, stretched to squares; zeros, the mean pixel, beyond the border.

    The box itself fills size - 2 context pixels of each side. One bilinear sample is taken for each pixel.

    Args:
        image: standardised, so that zero is the mean.
        boxes: in its pixels.
        size: side of what comes out.
        context: of its pixels, on each side of the box.

    Reference: Girshick et al. (2014), appendix A, warping with context padding p = 16.
    """
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    half = half * (size / (size - 2 * context))
    around = jnp.concatenate([middle - half, middle + half], axis=-1)
    return roi_align(image, around, size=(size, size), scale=1.0, aligned=True, samples=1)


register("rcnn", RCNN, (500, 500, 3), logits_of="boxes")
register(
    "rcnn_small",
    RCNN,
    (128, 128, 3),
    logits_of="boxes",
    crop=64,
    context=4,
    backbone=SMALL["backbone"],
    backbone_options=SMALL["backbone_options"],
    hidden=SMALL["hidden"],
    ridge=10.0,
    svm_cost=1e-2,
)
