"""Detectors in two stages: regions where something may be, and what is in each of them.

The flow that Fast, Faster and Mask R-CNN share; each of their files says what its maps, regions and heads are.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.functional.boxes import clip, decode
from cnnjax.functional.losses import binary_cross_entropy
from cnnjax.functional.precision import at_least_float32
from cnnjax.layers import Dense, Dropout
from cnnjax.models.parts.architecture import Maps, StageMaps
from cnnjax.models.parts.detector import (
    Detections,
    Detector,
    Leaf,
    Objects,
    Part,
    pictures_and_objects,
    select,
)
from cnnjax.models.parts.proposals import Drawn, DrawnRegions, ProposalRule, Regions, draw_regions

# Of the heads' offsets: standard deviations of 0.1 and 0.2 in the first programs.
WEIGHTS = (10.0, 10.0, 5.0, 5.0)

TORCH_NAMES = {
    "rpn/conv": "rpn.head.conv.0.0",
    "rpn/objectness": "rpn.head.cls_logits",
    "rpn/box": "rpn.head.bbox_pred",
    "box_head/fc6": "roi_heads.box_head.fc6",
    "box_head/fc7": "roi_heads.box_head.fc7",
    "predictor/class": "roi_heads.box_predictor.cls_score",
    "predictor/box": "roi_heads.box_predictor.bbox_pred",
}

# Options of the small ones, for CPUs and tests.
SMALL: dict[str, Any] = {
    "backbone": "vgg11",
    "backbone_options": {"width": 16, "batch_norm": True},
    "drawn_anchors": 64,
    "drawn_regions": 64,
    "test_before": 300,
    "train_before": 600,
    "train_after": 300,
    "hidden": 128,
}


@flax.struct.dataclass
class DrawnMasks:
    """Masks of the regions with an object, for their loss.

    Attributes:
        logits: (batch, drawn, rows, columns), of the pixels of each region, of its own class.
        targets: (batch, drawn, rows, columns), what part of each is covered.
        present: (batch, drawn), which places are filled.
    """

    logits: Leaf
    targets: Leaf
    present: Leaf

    def loss(self) -> Part:
        """Mean cross-entropy of the pixels; the count is that of the regions."""
        pixels = self.logits.reshape(*self.logits.shape[:2], -1)
        wanted = self.targets.reshape(pixels.shape).astype(pixels.dtype)
        by_region = binary_cross_entropy(pixels, wanted, where=self.present)
        return Part(jnp.sum(by_region, axis=1), jnp.sum(self.present, axis=1, dtype=by_region.dtype))


@flax.struct.dataclass
class TwoStageTraining:
    """What a detector in two stages says while it trains.

    Attributes:
        anchors: those that were drawn for the first stage's loss; None where proposals come from elsewhere.
        regions: those that were drawn for the second stage's.
        masks: of the regions with an object; None without masks.
    """

    anchors: Drawn | None
    regions: Drawn
    masks: DrawnMasks | None = None

    def losses(self, objects: Objects) -> dict[str, Part]:
        """Those of both stages, which know their objects already."""
        parts: dict[str, Part] = {}
        if self.anchors is not None:
            parts["objectness"], parts["proposal"] = self.anchors.losses()
        if self.regions.offsets is None:
            parts["class"] = self.regions.class_loss()
        else:
            parts["class"], parts["box"] = self.regions.losses()
        return parts if self.masks is None else {**parts, "mask": self.masks.loss()}


@flax.struct.dataclass
class TwoStageOutput:
    """What a detector in two stages says.

    Attributes:
        regions: in which the second stage looked.
        logits: (batch, regions, classes_and_background), of the background and the classes.
        offsets: (batch, regions, classes_and_background, 4), from the region to the object, of each class.
        found: the detections.
    """

    regions: Regions
    logits: Leaf
    offsets: Leaf
    found: Detections

    @property
    def candidates(self) -> int:
        """Regions of a picture."""
        return self.regions.boxes.shape[1]

    def detections(self) -> Detections:
        """Boxes of every class above the least score, after suppression."""
        return self.found

    def class_scores(self) -> Float[Array, "batch classes"]:
        """Of each class the highest logit of any region, less that of the background."""
        above = self.logits[..., 1:] - self.logits[..., :1]
        return jnp.max(jnp.where(self.regions.present[..., None], above, -jnp.inf), axis=1)


class TwoStage(Detector):
    """A detector in two stages, as far as they are all alike.

    Attributes:
        drawn_anchors: anchors of a picture in the loss of the first stage, half of them positive at most.
        drawn_regions: regions of a picture in the loss of the second stage.
        positive_share: most of them that have an object, as a share.
        region_low: a region without an object is background if it overlaps one by so much.
        train_before: proposals of each level before suppression, while training.
        train_after: proposals of a picture after it, while training.
        test_before: proposals of each level before suppression.
        test_after: proposals of a picture after it.
        smallest_proposal: pixels of the shorter side.
    """

    drawn_anchors: int = 256
    drawn_regions: int = 512
    positive_share: float = 0.25
    region_low: float = 0.0
    train_before: int = 2000
    train_after: int = 2000
    test_before: int = 1000
    test_after: int = 1000
    smallest_proposal: float = 1e-3

    # Smooth L1's of the second stage, and the weights of its offsets; the least side of a detection, in pixels.
    region_beta: ClassVar[float] = 1 / 9
    offset_weights: ClassVar[tuple[float, ...]] = WEIGHTS
    # Whether gradients reach the offsets.
    learns_boxes: ClassVar[bool] = True
    smallest_detection: ClassVar[float] = 1e-2

    head: ClassVar[tuple[str, ...]] = ("predictor/class", "predictor/box")
    flattened: ClassVar[dict[str, tuple[int, int]]] = {"box_head/fc6": (7, 7)}

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> TwoStageOutput | TwoStageTraining | Maps:
        """Detections, or what losses are of where objects came along and `train`, or the maps of `stages`.

        Args:
            inputs: pictures, or pictures with their objects.
            train: drops features, and normalises by the batch's statistics unless they are frozen.
            stages: names of maps.

        Raises:
            ValueError: the pictures are too small, or `train` came without objects.
        """
        images, objects = pictures_and_objects(inputs)
        found = StageMaps(self, stages)
        maps = self.maps_of(images, train=train, found=found)
        if stages is not None:
            return found.found
        if train and objects is None:
            raise ValueError(
                f"{type(self).__name__} was called with train=True and pictures alone; it draws the boxes of its loss,"
                " so it takes models.PicturesWithObjects(images, objects) then"
            )
        size = (images.shape[1], images.shape[2])
        labelled = objects if train else None
        regions, anchors = self.first_stage(maps, size, inputs, labelled)
        if labelled is None:
            logits, offsets = self.second_stage(maps, regions.boxes, train=False)
            return self.with_masks(maps, self._detected(regions, logits, offsets, size))
        drawn = draw_regions(
            self.make_rng("sampling"),
            regions,
            labelled,
            count=self.drawn_regions,
            positives=int(self.drawn_regions * self.positive_share),
            low=self.region_low,
            weights=self.offset_weights,
        )
        logits, offsets = self.second_stage(maps, drawn.boxes, train=True)
        own = None
        if self.learns_boxes:
            own = jnp.take_along_axis(offsets, drawn.labels[..., None, None], axis=2)[:, :, 0]
        said = Drawn(logits, own, drawn.targets, drawn.labels, drawn.present, self.region_beta)
        return TwoStageTraining(anchors, said, self.drawn_masks(maps, drawn, labelled))

    @nn.nowrap
    def maps_of(self, images: jax.Array, *, train: bool, found: StageMaps) -> list[jax.Array]:
        """The maps that both stages look at; an empty list where all the stages asked for are found before.

        Args:
            images: the pictures.
            train: as the detector was called.
            found: takes the maps of the stages that are asked for.
        """
        raise NotImplementedError

    @nn.nowrap
    def first_stage(
        self, maps: Sequence[jax.Array], size: tuple[int, int], inputs: Any, objects: Objects | None
    ) -> tuple[Regions, Drawn | None]:
        """Regions, and with objects what the loss of proposals is of.

        Args:
            maps: those of `maps_of`.
            size: height and width of the pictures.
            inputs: what the detector was called with, in which proposals may have come along.
            objects: what is to be found, while training; None otherwise.
        """
        raise NotImplementedError

    @nn.nowrap
    def second_stage(
        self, maps: Sequence[jax.Array], boxes: jax.Array, *, train: bool
    ) -> tuple[Float[Array, "batch regions _"], Float[Array, "batch regions _ 4"]]:
        """Logits of the background and the classes, and offsets of each.

        Args:
            maps: those of `maps_of`.
            boxes: (batch, regions, 4), in pixels.
            train: as the detector was called.
        """
        raise NotImplementedError

    @nn.nowrap
    def scores(self, logits: Float[Array, "batch regions _"]) -> Float[Array, "batch regions classes"]:
        """How sure each class of things is, from 0 to 1."""
        return jax.nn.softmax(logits)[..., 1:]

    @nn.nowrap
    def with_masks(self, maps: Sequence[jax.Array], output: TwoStageOutput) -> TwoStageOutput:
        """The output with the masks of its detections, of detectors that have them."""
        return output

    @nn.nowrap
    def drawn_masks(self, maps: Sequence[jax.Array], drawn: DrawnRegions, objects: Objects) -> DrawnMasks | None:
        """What the loss of masks is of; None of detectors without them.

        Args:
            maps: those of `maps_of`.
            drawn: regions that were drawn for the loss of the second stage.
            objects: with their masks.
        """
        return None

    @nn.nowrap
    def proposal_rule(self, *, train: bool) -> ProposalRule:
        """How many proposals there are."""
        if train:
            return ProposalRule(self.train_before, self.train_after, smallest=self.smallest_proposal)
        return ProposalRule(self.test_before, self.test_after, smallest=self.smallest_proposal)

    @nn.nowrap
    def _detected(
        self, regions: Regions, logits: jax.Array, offsets: jax.Array, size: tuple[int, int]
    ) -> TwoStageOutput:
        places = jnp.broadcast_to(regions.boxes.astype(offsets.dtype)[:, :, None], offsets.shape)
        boxes = clip(decode(offsets, places, weights=self.offset_weights), size)
        scores = jnp.where(regions.present[..., None], self.scores(logits), 0.0)
        selection = self.selection(smallest=self.smallest_detection)
        return TwoStageOutput(regions, logits, offsets, select(boxes[:, :, 1:], scores, selection))


class BoxPredictor(nn.Module):
    """Two dense layers: logits of the background and the classes, and offsets of each.

    Attributes:
        num_classes: of things.
        types: of computation and parameters, as options of a layer.
    """

    num_classes: int
    types: Mapping[str, Any]

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch regions features"]
    ) -> tuple[Float[Array, "batch regions _"], Float[Array, "batch regions _ 4"]]:
        """In float32 at least, for the softmax and the boxes."""
        kinds = self.num_classes + 1
        wide = at_least_float32(x.dtype)
        logits = Dense(kinds, kernel_init=nn.initializers.normal(0.01), name="class", **self.types)(x)
        offsets = Dense(4 * kinds, kernel_init=nn.initializers.normal(0.001), name="box", **self.types)(x)
        return logits.astype(wide), offsets.reshape(*offsets.shape[:-1], kinds, 4).astype(wide)


class TwoLayers(nn.Module):
    """fc6 and fc7, rectified, with dropout.

    Attributes:
        features: width of both.
        dropout: share that is dropped in training.
        types: of computation and parameters, as options of a layer.
    """

    features: int
    dropout: float
    types: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: Float[Array, "batch regions _"], *, train: bool) -> Float[Array, "batch regions features"]:
        """Of each region."""
        dense = partial(Dense, self.features, kernel_init=nn.initializers.he_uniform(), **self.types)
        for number in (6, 7):
            x = nn.relu(dense(name=f"fc{number}")(x))
            x = Dropout(self.dropout, name=f"drop{number}")(x, train=train) if self.dropout else x
        return x


def flattened(x: Float[Array, "batch regions rows columns channels"]) -> Float[Array, "batch regions features"]:
    """The pixels of each region in one row."""
    return x.reshape(*x.shape[:2], -1)
