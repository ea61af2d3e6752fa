"""What all detectors have in common: what they take and give, and how the boxes that they find are chosen.

A detector is called like any architecture. Its output is a pytree, every array of which has an entry for each picture:
the logits, for analyses, with methods for what they mean. `output.losses(objects)` are the parts of the paper's loss
(`Trainable`), and `output.detections()` the boxes that are left after suppression (`Detecting`). Detectors in one stage
give both at once. Those in two stages draw boxes while they train, so they take `PicturesWithObjects` then, and their
output has losses while they train and detections otherwise.

Classes count things: the background, where a detector has logits of it, is added by the detector, and comes first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from cnnjax.functional.boxes import class_nms, is_valid
from cnnjax.models.parts.architecture import Architecture, Stage
from cnnjax.models.parts.trunk import TRUNK
from cnnjax.models.registry import builder_of

# A field of an output: an array, or what stands in for one, as the shapes of `jax.eval_shape` and NumPy's arrays do.
Leaf: TypeAlias = Any


class Objects(NamedTuple):
    """The true objects of pictures, in slots.

    Attributes:
        boxes: x_min, y_min, x_max, y_max in pixels.
        classes: from 0, of things.
        present: which slots hold an object that is to be found.
        masks: k where the object of slot k - 1 is, or a plane for each slot; None where they are not known.
    """

    boxes: Float[Array, "batch slots 4"]
    classes: Int[Array, "batch slots"]
    present: Bool[Array, "batch slots"]
    masks: Num[Array, "batch height width *slots"] | None = None


class PicturesWithObjects(NamedTuple):
    """What a detector takes while it trains: pictures, and what is to be found in them."""

    images: Float[Array, "batch height width channels"]
    objects: Objects


class PicturesWithProposals(NamedTuple):
    """Pictures with boxes in which something may be, for detectors that do not propose any themselves.

    Attributes:
        images: the pictures.
        proposals: x_min, y_min, x_max, y_max in pixels; empty boxes are none.
        objects: what is to be found, while training.
    """

    images: Float[Array, "batch height width channels"]
    proposals: Float[Array, "batch slots 4"]
    objects: Objects | None = None


class Part(NamedTuple):
    """A part of a loss, as sums over each picture, so that it can be divided for each picture or for all together.

    Attributes:
        total: of the picture's boxes.
        count: what it is divided by; 1 takes its place where it is 0.
    """

    total: Float[Array, "batch"]
    count: Float[Array, "batch"]


class Detections(NamedTuple):
    """What was found, by falling score, in as many slots as there may be detections.

    Attributes:
        boxes: x_min, y_min, x_max, y_max in pixels of what the detector was given.
        scores: from 0 to 1; those of YOLO, which squashes nothing, may lie a little outside.
        classes: from 0, of things.
        present: which slots are filled; the others are zeros.
        masks: probabilities of the pixels of each box, resampled to one size; None of detectors without them.
    """

    boxes: Float[Array, "batch slots 4"]
    scores: Float[Array, "batch slots"]
    classes: Int[Array, "batch slots"]
    present: Bool[Array, "batch slots"]
    masks: Float[Array, "batch slots rows columns"] | None = None


@runtime_checkable
class Trainable(Protocol):
    """An output that has a loss."""

    def losses(self, objects: Objects) -> dict[str, Part]:
        """The parts of the loss by name, each with the weight that it has in their sum."""
        ...


@runtime_checkable
class Detecting(Protocol):
    """An output that has detections."""

    @property
    def candidates(self) -> int:
        """Boxes of a picture that have a score of each class, before suppression."""
        ...

    def detections(self) -> Detections:
        """The boxes that are left after suppression."""
        ...

    def class_scores(self) -> Float[Array, "batch classes"]:
        """Of each class the highest score of any box, before suppression: what attributions and Grad-CAM explain."""
        ...


@dataclass(frozen=True)
class Selection:
    """Which boxes of a detector are told.

    Attributes:
        score: they have more than this.
        overlap: those of one class that overlap one of a higher score by more are suppressed.
        most: of each picture.
        each: most candidates of each class that suppression looks at; all where None.
        smallest: both sides have at least so many pixels.

    Raises:
        ValueError: a number is out of range.
    """

    score: float
    overlap: float
    most: int
    each: int | None = None
    smallest: float = 0.0

    def __post_init__(self) -> None:
        for name in ("score", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}; expected a number from 0 to 1")
        if self.most < 1 or (self.each is not None and self.each < 1) or not self.smallest >= 0:
            raise ValueError(f"{self}; expected most and each of 1 or more, and smallest of 0 or more")


class Detector(Architecture, kw_only=True):
    """An architecture that finds objects: a trunk, whose stages it shows as its own, and heads.

    Attributes:
        num_classes: kinds of things; the background is not one of them.
        backbone: the registered name of the trunk, any net with stages.
        backbone_options: options of the trunk, as `create` takes them.
        frozen_norm: whether the trunk's normalisation is by numbers that stay, as is usual where the trunk's weights
            are loaded; for ResNets.
        score_threshold: detections have a higher score.
        nms_threshold: detections of one class that overlap one of a higher score by more are suppressed.
        most_detections: of a picture.
    """

    num_classes: int = 20
    backbone: str = "vgg16"
    backbone_options: Mapping[str, Any] | None = None
    frozen_norm: bool = False
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    most_detections: int = 100

    # Whether it finds the boxes that it looks at by itself; others take `PicturesWithProposals`.
    proposes: ClassVar[bool] = True

    @nn.nowrap
    def trunk(self, **place: Any) -> Architecture:
        """The trunk, as a part of this net by `name=`, or by itself by `parent=None`.

        Raises:
            ValueError: there is no such net, it has no stages, or no frozen normalisation.
        """
        builder, variant = builder_of(self.backbone)
        if not (isinstance(builder, type) and issubclass(builder, Architecture)) or issubclass(builder, Detector):
            raise ValueError(f"backbone={self.backbone!r}; expected a net with stages, such as 'resnet50' or 'vgg16'")
        options: dict[str, Any] = {**variant, **self.own_options(builder), **(self.backbone_options or {})}
        options["num_classes"] = None
        if self.frozen_norm:
            if "frozen_norm" not in builder.__dataclass_fields__:
                raise ValueError(
                    f"frozen_norm with backbone={self.backbone!r}; expected a ResNet, such as 'resnet50', or"
                    " frozen_norm=False"
                )
            options["frozen_norm"] = True
        for name in options:
            if name not in builder.__dataclass_fields__:
                raise ValueError(f"backbone_options: {self.backbone} has no option {name!r}")
        return builder(**options, **self.types, **place)

    @nn.nowrap
    def selection(self, *, each: int | None = None, smallest: float = 0.0) -> Selection:
        """Which boxes are told, by the detector's own attributes.

        Args:
            each: as that of `Selection`.
            smallest: as that of `Selection`.

        Raises:
            ValueError: a threshold is out of range; it is called by its name here.
        """
        for name in ("score_threshold", "nms_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}; expected a number from 0 to 1")
        return Selection(self.score_threshold, self.nms_threshold, self.most_detections, each, smallest)

    @nn.nowrap
    def own_options(self, builder: type[Architecture]) -> dict[str, Any]:
        """Options of a trunk of this class that the detector asks for."""
        return {}

    @nn.nowrap
    def trunk_stages_of(self, strides: Sequence[int]) -> tuple[Stage, ...]:
        """For each stride the trunk's last stage that has it, under the trunk's own name for it.

        Raises:
            ValueError: it has none.
        """
        stages = self.trunk(parent=None).stages
        by_stride = {stage.stride: stage for stage in stages}
        missing = [stride for stride in strides if stride not in by_stride]
        if missing:
            has = ", ".join(f"{stage.name} ({stage.stride})" for stage in stages)
            raise ValueError(
                f"backbone={self.backbone!r} has no stage of stride {missing[0]}, which {type(self).__name__} needs; it"
                f" has {has}. Choose another backbone, or other levels"
            )
        return tuple(by_stride[stride] for stride in strides)

    @nn.nowrap
    def trunk_name(self, module: str) -> str | None:
        """What a public library calls a module in a file of the trunk alone; None of modules of the detector."""
        part, _, rest = module.partition("/")
        return self.trunk(parent=None).torch_name(rest) if part == TRUNK else None


def pictures_and_objects(
    inputs: Float[Array, "batch height width channels"] | PicturesWithObjects | PicturesWithProposals,
) -> tuple[Float[Array, "batch height width channels"], Objects | None]:
    """The pictures, and their objects where they came along."""
    if isinstance(inputs, PicturesWithObjects | PicturesWithProposals):
        return inputs.images, inputs.objects
    return inputs, None


def select(
    boxes: Float[Array, "batch boxes *classes 4"], scores: Float[Array, "batch boxes classes"], selection: Selection
) -> Detections:
    """The detections of pictures: candidates above the least score, after suppression, up to the most there may be.

    Args:
        boxes: one for all classes, or one for each.
        scores: of each class of things.
        selection: which are told.
    """
    return jax.vmap(lambda boxes, scores: _select(boxes, scores, selection))(boxes, scores)


def _select(boxes: jax.Array, scores: jax.Array, selection: Selection) -> Detections:
    """Those of one picture, class by class before suppression."""
    number, classes = scores.shape
    boxes = jnp.moveaxis(jnp.broadcast_to(boxes[:, None] if boxes.ndim == 2 else boxes, (number, classes, 4)), 1, 0)
    scores = jnp.moveaxis(scores, 1, 0)
    # What is not a candidate is so by a score that suppression leaves out, never by its coordinates.
    wanted = (scores > selection.score) & is_valid(boxes, smallest=selection.smallest)
    scores = jnp.where(wanted, scores, -jnp.inf)
    if selection.each is not None and selection.each < number:
        scores, places = jax.lax.top_k(scores, selection.each)
        boxes = jnp.take_along_axis(boxes, places[..., None], axis=1)
    kinds = jnp.broadcast_to(jnp.arange(classes, dtype=jnp.int32)[:, None], scores.shape).reshape(-1)
    boxes, scores = boxes.reshape(-1, 4), scores.reshape(-1)
    kept = class_nms(boxes, scores, kinds, threshold=selection.overlap, most=selection.most)
    present = kept.indices >= 0

    def taken(array: jax.Array) -> jax.Array:
        found = array[jnp.maximum(kept.indices, 0)]
        return jnp.where(present.reshape(-1, *(1,) * (found.ndim - 1)), found, jnp.zeros_like(found))

    return Detections(taken(boxes), taken(scores), taken(kinds), present)
