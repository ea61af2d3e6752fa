"""SSD: boxes of several sizes at every place of several maps, each with the class of what it holds, in one stage.

Reference: Liu et al. (2016), "SSD: Single Shot MultiBox Detector", section 2 and figure 2; the scale of the first map
is that of Liu, Rabinovich and Berg (2016), "ParseNet".
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from cnnjax.functional.boxes import (
    DefaultBoxes,
    clip,
    decode,
    default_boxes,
    encode,
    hard_negatives,
    match_with_forced,
    pairwise_iou,
)
from cnnjax.functional.boxes.anchors import Clipping
from cnnjax.functional.losses import smooth_l1, softmax_cross_entropy
from cnnjax.functional.precision import at_least_float32
from cnnjax.layers import BatchNorm, Conv, MaxPool
from cnnjax.models.parts.architecture import Architecture, Maps, Stage, StageMaps
from cnnjax.models.parts.detector import (
    Detections,
    Detector,
    Leaf,
    Objects,
    Part,
    PicturesWithObjects,
    PicturesWithProposals,
    Selection,
    pictures_and_objects,
    select,
)
from cnnjax.models.parts.layouts import OF_128, OF_300, OF_512, Extra, Layout
from cnnjax.models.parts.trunk import TRUNK, trunk_maps, trunk_stages
from cnnjax.models.registry import register
from cnnjax.models.vgg import VGG

# Variances 0.1 and 0.2 of Caffe's program.
WEIGHTS = (10.0, 10.0, 5.0, 5.0)

# Section 2.2: an IoU from which on a box is to find an object, and negatives for each positive.
LEAST_OVERLAP, NEGATIVES = 0.5, 3.0


@flax.struct.dataclass
class SSDOutput:
    """What SSD says of every default box.

    Attributes:
        logits: (batch, boxes, classes_and_background), of the background and the classes.
        offsets: (batch, boxes, 4), from the default box to the object, as `functional.boxes.encode` has them.
        layout: of the boxes.
        clipping: of the boxes.
        selection: of detections.
    """

    logits: Leaf
    offsets: Leaf
    layout: DefaultBoxes = flax.struct.field(pytree_node=False)
    clipping: Clipping = flax.struct.field(pytree_node=False)
    selection: Selection = flax.struct.field(pytree_node=False)

    @property
    def candidates(self) -> int:
        """Default boxes of a picture."""
        return self.offsets.shape[1]

    def losses(self, objects: Objects) -> dict[str, Part]:
        r"""Cross-entropy of positives and hard negatives, and smooth L1 of positives; the count is that of positives.

        $$L = \frac{1}{N} \left(\sum_{i \in Pos \cup Neg} -\log p_{i, c_i} + \sum_{i \in Pos} \mathrm{smooth}_{L1}
        (t_i - \hat{t}_i)\right)$$

        A picture without objects has no positives, so no negatives: its loss is zero.

        Reference: section 2.2, equations 1 to 3.
        """
        boxes = jnp.asarray(_boxes(self.layout, self.clipping))
        class_loss, box_loss, count = jax.vmap(partial(_losses, boxes))(self.logits, self.offsets, objects)
        return {"class": Part(class_loss, count), "box": Part(box_loss, count)}

    def detections(self) -> Detections:
        """Boxes of every class above the least score, after suppression."""
        anchors = jnp.asarray(_boxes(self.layout, self.clipping), self.offsets.dtype)
        boxes = decode(self.offsets, jnp.broadcast_to(anchors, self.offsets.shape), weights=WEIGHTS)
        boxes = clip(boxes, (self.layout.size, self.layout.size))
        return select(boxes, jax.nn.softmax(self.logits)[..., 1:], self.selection)

    def class_scores(self) -> Float[Array, "batch classes"]:
        """Of each class the highest logit of any box, less that of the background."""
        return jnp.max(self.logits[..., 1:] - self.logits[..., :1], axis=1)


class SSD(Detector):
    """SSD: a 3x3 convolution on each of several maps gives class and offsets of every default box of its places.

    The first two maps are the trunk's, of strides 8 and 16. With a VGG the second is the paper's: behind stage 5 a 3x3
    pool that keeps the size, fc6 as a convolution with taps six pixels apart, and fc7. The other maps are made one from
    the other. Kernels start as in Glorot and Bengio (2010), like Caffe's. Takes RGB from 0 to 255 less (123, 117, 104)
    where the weights are torchvision's.

    | net | boxes | parameters at 20 classes | at 90 |
    |---|---|---|---|
    | `ssd300` | 8,732 | 26,285,486 | 35,641,826 |
    | `ssd512` | 24,564 | 27,188,676 | 37,513,116 |

    The boxes are those of the paper for Pascal VOC; for COCO there is `Layout(functional.boxes.SSD300_COCO, ...)`, as
    torchvision has it. torchvision's own extractor for 512 pixels ends with other maps (24,732 boxes), Caffe's are
    these.

    Attributes:
        layout: default boxes, and the layers of the maps that the trunk does not have.
        clipping: what is done to default boxes that reach out of the picture; see `functional.boxes.default_boxes`.
        scale: what a place of the first map is normed to, to begin with; None leaves it as it is.
        hidden: channels of fc6 and fc7.
        batch_norm: whether fc6, fc7 and the extra maps are normalised, for training from scratch.
        most_candidates: of a class, that suppression looks at.
    """

    backbone: str = "vgg16"
    layout: Layout = OF_300
    clipping: Clipping = "none"
    scale: float | None = 20.0
    hidden: int = 1024
    batch_norm: bool = False
    score_threshold: float = 0.01
    nms_threshold: float = 0.45
    most_detections: int = 200
    most_candidates: int = 400

    head: ClassVar[tuple[str, ...]] = tuple(f"class{number}" for number in range(1, 10))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those of the trunk, and the maps behind it, from fine to coarse."""
        *_, second = self._sources()
        behind = [Stage("fc", self.hidden, second.stride)] if self._has_fc else []
        strides = self.layout.boxes.steps[2:]
        extras = [
            Stage(f"extra{number}", extra.wide, stride)
            for number, (extra, stride) in enumerate(zip(self.layout.extras, strides, strict=True), 1)
        ]
        trunk = [stage for stage in trunk_stages(self.trunk(parent=None)) if stage.stride <= second.stride]
        return (*trunk, *behind, *extras)

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch height width channels"] | PicturesWithObjects | PicturesWithProposals,
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> SSDOutput | Maps:
        """Logits and offsets of all boxes, or the maps of `stages`; `train` is for nets that normalise by the batch.

        Raises:
            ValueError: the pictures have another size than the boxes are for, or the trunk lacks a map.
        """
        images, _ = pictures_and_objects(inputs)
        size = self.layout.boxes.size
        if images.shape[1:3] != (size, size):
            raise ValueError(
                f"pictures of {images.shape[1]}x{images.shape[2]} came, and the default boxes are for {size}x{size};"
                f" bring pictures to that size (--image-size {size}), or take another layout"
            )
        found, asked = StageMaps(self, stages), [stage.name for stage in self.stages]
        if stages is not None:
            asked = asked[: 1 + max(asked.index(name) for name in stages)]
        sources = [f"{TRUNK}/{stage.name}" for stage in self._sources()]
        of_trunk = [name for name in asked if name.startswith(f"{TRUNK}/")]
        maps = trunk_maps(self.trunk(name=TRUNK), images, train=train, stages=of_trunk)
        for name in of_trunk:
            if found.take(name, maps[name]):
                return found.found
        first, x = (maps[name] for name in sources)
        if self.scale is not None:
            first = L2Norm(self.scale, param_dtype=self.param_dtype, name="norm")(first)
        conv = partial(Conv, kernel_init=nn.initializers.glorot_uniform(), **self.types)
        norm = partial(BatchNorm, **self.types) if self.batch_norm else None
        if self._has_fc:
            x = DilatedHead(self.hidden, conv, norm, name="fc")(x, train=train)
            if found.take("fc", x):
                return found.found
        levels = [first, x]
        for number, extra in enumerate(self.layout.extras, 1):
            x = ExtraMap(extra, conv, norm, name=f"extra{number}")(x, train=train)
            if found.take(f"extra{number}", x):
                return found.found
            levels.append(x)
        for level, side in zip(levels, self.layout.boxes.maps, strict=True):
            if level.shape[1:3] != (side, side):
                raise ValueError(
                    f"a map of {level.shape[1]}x{level.shape[2]} came where the layout has {side}x{side}; its extras"
                    " or the trunk's pools do not fit"
                )
        logits, offsets = [], []
        for number, (level, each) in enumerate(zip(levels, self.layout.boxes.per_place, strict=True), 1):
            for name, width, kept in (("class", self.num_classes + 1, logits), ("box", 4, offsets)):
                said = conv(each * width, (3, 3), padding=1, name=f"{name}{number}")(level)
                kept.append(said.reshape(said.shape[0], -1, width))
        selection = self.selection(each=self.most_candidates)
        joined = [jnp.concatenate(parts, axis=1) for parts in (logits, offsets)]
        wide = at_least_float32(images.dtype)
        return SSDOutput(joined[0].astype(wide), joined[1].astype(wide), self.layout.boxes, self.clipping, selection)

    @nn.nowrap
    def own_options(self, builder: type[Architecture]) -> dict[str, Any]:
        """A VGG keeps an odd last row and column, as Caffe's pools do."""
        return {"pool_misfit": "pad"} if builder is VGG else {}

    def torch_name(self, module: str) -> str:
        """What torchvision calls the module at a path of this model."""
        part, _, rest = module.partition("/")
        if part == "norm":
            return "backbone"
        if part.startswith(("class", "box")):
            kind = "classification_head" if part.startswith("class") else "regression_head"
            return f"head.{kind}.module_list.{int(part.removeprefix('class').removeprefix('box')) - 1}"
        if part == "fc":
            return f"backbone.extra.0.7.{ {'fc6': 1, 'fc7': 3}[rest] }" if rest in ("fc6", "fc7") else f"fc.{rest}"
        if part.startswith("extra"):
            places = {"narrow": 0, "wide": 2}
            return f"backbone.extra.{int(part[5:])}.{places[rest]}" if rest in places else module.replace("/", ".")
        trunk = self.trunk(parent=None)
        if isinstance(trunk, VGG) and rest.startswith("stage5/conv"):
            return f"backbone.extra.0.{2 * int(rest[-1]) - 1}"
        return f"backbone.{trunk.torch_name(rest)}"

    @property
    def _has_fc(self) -> bool:
        return isinstance(self.trunk(parent=None), VGG)

    def _sources(self) -> tuple[Stage, ...]:
        """The stages of the trunk that the first two maps come from, by the trunk's names."""
        return self.trunk_stages_of(self.layout.boxes.steps[:2])


class L2Norm(nn.Module):
    """Brings the channels of every place to a learned length: x / |x| times a scale for each channel.

    Attributes:
        scale: to begin with.
        param_dtype: of the scale.
    """

    scale: float
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        """Norms and scales."""
        # Its name in torchvision's files.
        scale = self.param("scale_weight", nn.initializers.constant(self.scale), x.shape[-1:], self.param_dtype)
        wide = x.astype(at_least_float32(x.dtype))
        squares = jnp.sum(jnp.square(wide), axis=-1, keepdims=True)
        # The derivative of the root at zero is not finite.
        length = jnp.sqrt(jnp.maximum(squares, 1e-24))
        return (wide / length * scale.astype(wide.dtype)[None, None, None]).astype(x.dtype)


class DilatedHead(nn.Module):
    """VGG's fc6 and fc7 as convolutions: a pool that keeps the size, a dilated 3x3, a 1x1.

    Attributes:
        features: channels of both.
        conv: makes a convolution.
        norm: makes what normalises each; None for nothing.
    """

    features: int
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w features"]:
        """Of the same size."""
        x = MaxPool(3, strides=1, padding=1, name="pool")(x)
        for name, size, around in (("fc6", 3, {"padding": 6, "dilation": 6}), ("fc7", 1, {})):
            x = self.conv(self.features, (size, size), name=name, **around)(x)
            x = nn.relu(x if self.norm is None else self.norm(name=f"{name}_bn")(x, train=train))
        return x


class ExtraMap(nn.Module):
    """The next map: see `Extra`.

    Attributes:
        extra: what makes it.
        conv: makes a convolution.
        norm: makes what normalises each; None for nothing.
    """

    extra: Extra
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b rows columns wide"]:
        """Both convolutions."""
        extra = self.extra
        second: Mapping[str, Any] = {"strides": extra.strides, "padding": extra.padding}
        for name, width, size, around in (
            ("narrow", extra.narrow, 1, {}),
            ("wide", extra.wide, extra.kernel_size, second),
        ):
            x = self.conv(width, (size, size), name=name, **around)(x)
            x = nn.relu(x if self.norm is None else self.norm(name=f"{name}_bn")(x, train=train))
        return x


@lru_cache(maxsize=8)
def _boxes(layout: DefaultBoxes, clipping: Clipping) -> Float32[np.ndarray, "boxes 4"]:
    return default_boxes(layout, clipping=clipping)


def _losses(
    boxes: jax.Array, logits: jax.Array, offsets: jax.Array, objects: Objects
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Losses of class and box of one picture, and how many boxes are to find an object."""
    boxes = boxes.astype(offsets.dtype)
    overlaps = pairwise_iou(objects.boxes.astype(offsets.dtype), boxes)
    matches = match_with_forced(overlaps, objects.present, threshold=LEAST_OVERLAP)
    positive = matches.objects >= 0
    if not len(objects.classes):
        wanted, labels = boxes, jnp.zeros(len(boxes), jnp.int32)
    else:
        mine = jnp.maximum(matches.objects, 0)
        wanted = jnp.where(positive[:, None], objects.boxes[mine].astype(boxes.dtype), boxes)
        labels = jnp.where(positive, objects.classes[mine] + 1, 0)
    of_class = softmax_cross_entropy(logits, labels)
    counted = positive | hard_negatives(jax.lax.stop_gradient(of_class), positive, ratio=NEGATIVES)
    of_box = 4 * smooth_l1(offsets, encode(wanted, boxes, weights=WEIGHTS), where=positive)
    return jnp.sum(of_class, where=counted), jnp.sum(of_box), jnp.sum(positive, dtype=offsets.dtype)


register("ssd300", SSD, (300, 300, 3), logits_of="boxes", layout=OF_300)
register("ssd512", SSD, (512, 512, 3), logits_of="boxes", layout=OF_512)
register(
    "ssd_small",
    SSD,
    (128, 128, 3),
    logits_of="boxes",
    layout=OF_128,
    backbone="vgg11",
    backbone_options={"width": 16, "batch_norm": True},
    hidden=128,
    batch_norm=True,
    scale=None,
)
