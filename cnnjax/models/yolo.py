"""YOLO, the first version: one look at the picture gives the boxes and classes of a grid of cells.

Reference: Redmon, Divvala, Girshick and Farhadi (2016), "You Only Look Once: Unified, Real-Time Object Detection",
section 2 and figure 3; what the paper leaves open is as in the authors' program, darknet.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.functional.boxes import clip, from_centre, iou, match_cells, to_centre
from cnnjax.functional.precision import at_least_float32
from cnnjax.layers import BatchNorm, Conv, Dense, Dropout, GlobalAvgPool, MaxPool
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
from cnnjax.models.parts.trunk import TRUNK, trunk_maps, trunk_stages
from cnnjax.models.registry import register

# Window and channels of the convolutions of each stage. All but the first begin with a pool.
STAGES = (
    ((7, 64),),
    ((3, 192),),
    ((1, 128), (3, 256), (1, 256), (3, 512)),
    ((1, 256), (3, 512)) * 4 + ((1, 512), (3, 1024)),
    ((1, 512), (3, 1024)) * 2,
)

# Equation 3: what weighs more than the rest, and less.
COORDINATES, NO_OBJECT = 5.0, 0.5

_leaky = partial(nn.leaky_relu, negative_slope=0.1)


class YOLOStage(nn.Module):
    """Leaky convolutions of one resolution.

    Attributes:
        layers: window and channels of each.
        strides: of the first.
        types: of computation and parameters, as options of a layer.
    """

    layers: Sequence[tuple[int, int]]
    strides: int
    types: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns features"]:
        """All in turn."""
        for number, (side, features) in enumerate(self.layers, 1):
            conv = partial(Conv, features, (side, side), padding=side // 2, kernel_init=nn.initializers.he_normal())
            strides = self.strides if number == 1 else 1
            x = _leaky(conv(strides=strides, name=f"conv{number}", **self.types)(x))
        return x


class YOLOClassifier(Architecture):
    """The first 20 convolutions of YOLO with a mean and a dense layer, which the paper trains on ImageNet at 224x224.

    23,428,136 parameters at 1,000 classes.

    Attributes:
        num_classes: width of `output`; None ends with the 1,024 pooled features.
    """

    num_classes: int | None = 1000

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name, from fine to coarse."""
        return tuple(Stage(f"stage{i}", layers[-1][1], 2**i) for i, layers in enumerate(STAGES, 1))

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> Float[Array, "batch outputs"] | Maps:
        """Logits (or features), or the maps of `stages`."""
        maps = StageMaps(self, stages)
        x: jax.Array = images
        for number, layers in enumerate(STAGES, 1):
            x = MaxPool(2, name=f"pool{number - 1}")(x) if number > 1 else x
            x = YOLOStage(layers, 2 if number == 1 else 1, self.types, name=f"stage{number}")(x)
            if maps.take(f"stage{number}", x):
                return maps.found
        x = GlobalAvgPool(name="pool")(x)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **self.types)(x)


class _Cells(NamedTuple):
    """What is to be found in each cell of one picture.

    Attributes:
        has: which cells have an object.
        box: its centre within the cell, from 0 to 1, and the roots of its width and height as shares of the picture's.
        one_hot: its class.
    """

    has: jax.Array
    box: jax.Array
    one_hot: jax.Array


@flax.struct.dataclass
class YOLOOutput:
    """What YOLO says of every cell.

    Attributes:
        classes: (batch, cells, classes), of the object whose centre is in the cell, if there is one.
        confidences: (batch, cells, predictors), that there is an object, times how well the predictor's box fits.
        boxes: (batch, cells, predictors, 4), centre within the cell, and the roots of width and height as shares of the
            picture's.
        size: height and width of the pictures.
        cells: rows and columns of cells.
        selection: of detections.
    """

    classes: Leaf
    confidences: Leaf
    boxes: Leaf
    size: tuple[int, int] = flax.struct.field(pytree_node=False)
    cells: tuple[int, int] = flax.struct.field(pytree_node=False)
    selection: Selection = flax.struct.field(pytree_node=False)

    @property
    def candidates(self) -> int:
        """Predictors of all cells of a picture."""
        return self.boxes.shape[1] * self.boxes.shape[2]

    def losses(self, objects: Objects) -> dict[str, Part]:
        r"""The paper's sum of squares, over cells i, their predictors j, of which one is responsible for the object.

        $$L = \lambda_{coord} \sum_{i,j} 1^{obj}_{ij} \left[(x - \hat x)^2 + (y - \hat y)^2
        + (\sqrt w - \sqrt{\hat w})^2 + (\sqrt h - \sqrt{\hat h})^2\right] + \sum_{i,j} 1^{obj}_{ij} (C - \hat C)^2$$
        $$+ \lambda_{noobj} \sum_{i,j} 1^{noobj}_{ij} C^2 + \sum_i 1^{obj}_i \sum_c (p_i(c) - \hat p_i(c))^2$$

        A cell has the first object whose centre lies in it. Responsible is the predictor whose box overlaps the object
        most; where none does, the one that is nearest to it. The confidence $\hat C$ that is learned is its IoU,
        through which no gradient goes. The gradient is twice that of darknet, which leaves out the squares' factor.

        Reference: section 2.2, equation 3; darknet's `detection_layer.c`.
        """
        parts = jax.vmap(self._of_picture)(self.classes, self.confidences, self.boxes, objects)
        one = jnp.ones(self.classes.shape[0], self.classes.dtype)
        return {name: Part(total, one) for name, total in parts.items()}

    def detections(self) -> Detections:
        """Boxes of every predictor, with the confidence times the cell's classes as their scores, after suppression."""
        boxes = clip(self._pixels(self.boxes), self.size)
        scores = self.confidences[..., None] * self.classes[..., None, :]
        batch = boxes.shape[0]
        return select(boxes.reshape(batch, -1, 4), scores.reshape(batch, -1, scores.shape[-1]), self.selection)

    def class_scores(self) -> Float[Array, "batch classes"]:
        """Of each class the highest score of any box."""
        return jnp.max(self.confidences[..., None] * self.classes[..., None, :], axis=(1, 2))

    def _pixels(self, boxes: jax.Array) -> jax.Array:
        """Corners in pixels."""
        rows, columns = self.cells
        every = (1,) * (boxes.ndim - 3)
        y, x = jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij")
        corner = jnp.stack([x, y], axis=-1).reshape(*every, -1, 1, 2).astype(boxes.dtype)
        height, width = self.size
        step = jnp.asarray([width / columns, height / rows], boxes.dtype).reshape(*every, 1, 1, 2)
        sides = jnp.square(boxes[..., 2:]) * jnp.asarray([width, height], boxes.dtype).reshape(*every, 1, 1, 2)
        return from_centre(jnp.concatenate([(corner + boxes[..., :2]) * step, sides], axis=-1))

    def _targets(self, objects: Objects) -> _Cells:
        """Of one picture."""
        rows, columns = self.cells
        dtype = self.boxes.dtype
        boxes = objects.boxes.astype(dtype)
        which = match_cells(boxes, objects.present, cells=self.cells, size=self.size).reshape(-1)
        has, number = which >= 0, self.classes.shape[-1]
        if not len(boxes):
            return _Cells(has, jnp.zeros((rows * columns, 4), dtype), jnp.zeros((rows * columns, number), dtype))
        mine = jnp.maximum(which, 0)
        centred = to_centre(boxes)[mine]
        height, width = self.size
        place = centred[:, :2] * jnp.asarray([columns / width, rows / height], dtype)[None]
        sides = jnp.sqrt(jnp.maximum(centred[:, 2:] / jnp.asarray([width, height], dtype)[None], 0))
        box = jnp.concatenate([place - jnp.floor(place), sides], axis=-1)
        return _Cells(has, box, jax.nn.one_hot(objects.classes[mine], number, dtype=dtype))

    def _of_picture(
        self, classes: jax.Array, confidences: jax.Array, boxes: jax.Array, objects: Objects
    ) -> dict[str, jax.Array]:
        cells = self._targets(objects)
        wanted = jnp.broadcast_to(cells.box[:, None], boxes.shape)
        said, true = (self._pixels(each) for each in (jax.lax.stop_gradient(boxes), wanted))
        overlap = iou(said, true)
        shares = jnp.asarray([self.size[1], self.size[0]] * 2, boxes.dtype)[None, None]
        distance = jnp.sum(jnp.square((to_centre(said) - to_centre(true)) / shares), axis=-1)
        best = jnp.where(jnp.any(overlap > 0, axis=-1), jnp.argmax(overlap, axis=-1), jnp.argmin(distance, axis=-1))
        responsible = jax.nn.one_hot(best, boxes.shape[1], dtype=bool) & cells.has[:, None]
        of_box = jnp.sum(jnp.square(boxes - wanted), axis=-1)
        return {
            "box": COORDINATES * jnp.sum(of_box, where=responsible),
            "confidence": jnp.sum(jnp.square(confidences - overlap), where=responsible),
            "no object": NO_OBJECT * jnp.sum(jnp.square(confidences), where=~responsible),
            "class": jnp.sum(jnp.square(classes - cells.one_hot), where=cells.has[:, None]),
        }


class YOLO(Detector):
    """YOLO: a trunk, four more convolutions, and two dense layers that say everything of every cell at once.

    The paper's has 24 convolutions, 7x7 cells of pictures of 448x448 pixels, two predictors in each, so 98 boxes and
    1,470 numbers for 20 classes: those of the classes of all cells, then the confidences, then the boxes, as darknet
    has them; darknet's later `yolov1.cfg` is another net. Nothing is squashed: scores may leave 0 to 1. 271,703,550
    parameters, 60,155,968 of them in convolutions. The trunk's last map of a `stride` is taken, of any net.

    Attributes:
        stride: of the trunk's map.
        features: channels of the four convolutions behind it.
        step: of the second of these; what is left are the cells.
        predictors: boxes of a cell.
        hidden: width of the first dense layer.
        dropout: share of its features that is dropped in training.
        batch_norm: whether the four convolutions are normalised, for training from scratch.
    """

    backbone: str = "yolov1_classifier"
    stride: int = 32
    features: int = 1024
    step: int = 2
    predictors: int = 2
    hidden: int = 4096
    dropout: float = 0.5
    batch_norm: bool = False
    score_threshold: float = 0.005
    nms_threshold: float = 0.5

    head: ClassVar[tuple[str, ...]] = ("fc2",)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those of the trunk, as far as it is used, and what the cells are made of."""
        trunk = [stage for stage in trunk_stages(self.trunk(parent=None)) if stage.stride <= self.stride]
        return (*trunk, Stage("cells", self.features, self.stride * self.step))

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch height width channels"] | PicturesWithObjects | PicturesWithProposals,
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> YOLOOutput | Maps:
        """What every cell says, or the maps of `stages`; `train` drops features."""
        images, _ = pictures_and_objects(inputs)
        found = StageMaps(self, stages)
        (source,) = self.trunk_stages_of([self.stride])
        name = f"{TRUNK}/{source.name}"
        asked = [name, *(each for each in found.names or () if each.startswith(f"{TRUNK}/"))]
        if found.names is not None and "cells" not in found.names:
            asked = asked[1:]
        maps = trunk_maps(self.trunk(name=TRUNK), images, train=train, stages=asked)
        for each, x in maps.items():
            if found.take(each, x):
                return found.found
        x = YOLOCells(self.features, self.step, self.batch_norm, self.types, name="cells")(maps[name], train=train)
        if found.take("cells", x):
            return found.found
        rows, columns = x.shape[1:3]
        dense = partial(Dense, **self.types)
        x = _leaky(dense(self.hidden, kernel_init=nn.initializers.he_normal(), name="fc1")(x.reshape(x.shape[0], -1)))
        x = Dropout(self.dropout, name="drop")(x, train=train)
        cells, each = rows * columns, self.predictors
        numbers = cells * (self.num_classes + 5 * each)
        x = dense(numbers, kernel_init=nn.initializers.normal(0.01), name="fc2")(x)
        x = x.astype(at_least_float32(x.dtype))
        classes, confidences, boxes = jnp.split(
            x, [cells * self.num_classes, cells * (self.num_classes + each)], axis=-1
        )
        return YOLOOutput(
            classes.reshape(-1, cells, self.num_classes),
            confidences.reshape(-1, cells, each),
            boxes.reshape(-1, cells, each, 4),
            (images.shape[1], images.shape[2]),
            (rows, columns),
            self.selection(),
        )


class YOLOCells(nn.Module):
    """Four leaky 3x3 convolutions.

    Attributes:
        features: channels of each.
        step: stride of the second.
        batch_norm: whether each is normalised.
        types: of computation and parameters, as options of a layer.
    """

    features: int
    step: int
    batch_norm: bool
    types: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b rows columns features"]:
        """All in turn."""
        for number, strides in enumerate((1, self.step, 1, 1), 1):
            conv = partial(Conv, self.features, (3, 3), padding=1, kernel_init=nn.initializers.he_normal())
            x = conv(strides=strides, name=f"conv{number}", **self.types)(x)
            x = BatchNorm(name=f"bn{number}", **self.types)(x, train=train) if self.batch_norm else x
            x = _leaky(x)
        return x


register("yolov1_classifier", YOLOClassifier, (224, 224, 3))
register("yolov1", YOLO, (448, 448, 3), logits_of="boxes", backbone="yolov1_classifier")
register(
    "yolo_small",
    YOLO,
    (112, 112, 3),
    logits_of="boxes",
    backbone="vgg11",
    backbone_options={"width": 16, "batch_norm": True},
    stride=16,
    features=128,
    step=1,
    hidden=256,
    batch_norm=True,
)
