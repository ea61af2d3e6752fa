"""Region proposals: a small net slides over maps and says of every anchor whether there is an object, and where.

Reference: Ren, He, Girshick and Sun (2015), "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal
Networks", section 3.1 and figure 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int

from cnnjax.functional.boxes import (
    class_nms,
    clip,
    decode,
    encode,
    is_valid,
    match_by_thresholds,
    pairwise_iou,
    sample_boxes,
)
from cnnjax.functional.losses import binary_cross_entropy, smooth_l1, softmax_cross_entropy
from cnnjax.layers import Conv
from cnnjax.models.parts.detector import Leaf, Objects, Part

NORMAL = nn.initializers.normal(0.01)


class Regions(NamedTuple):
    """Boxes in which the second stage looks.

    Attributes:
        boxes: in pixels; zeros in slots that are not present.
        present: which slots hold a box.
    """

    boxes: Float[Array, "batch slots 4"]
    present: Bool[Array, "batch slots"]


@dataclass(frozen=True)
class ProposalRule:
    """Which boxes of the first stage the second one looks at.

    Attributes:
        before: of each level, by score, before suppression.
        after: of a picture, by score, after it.
        overlap: those of one level that overlap one of a higher score by more are suppressed.
        smallest: both sides have at least so many pixels.
    """

    before: int
    after: int
    overlap: float = 0.7
    smallest: float = 1e-3


@flax.struct.dataclass
class Drawn:
    """Boxes that were drawn for a loss, with what is said of them and what is right.

    Attributes:
        logits: (batch, drawn, *classes), of an object, one number, or of background and classes.
        offsets: (batch, drawn, 4), from the box to the object; of its own class, where there is one for each. None
            where they are not learned.
        targets: (batch, drawn, 4), the right offsets; zeros where there is no object.
        labels: (batch, drawn), 0 for the background, and the class from 1.
        present: (batch, drawn), which places are filled.
        beta: of smooth L1.
    """

    logits: Leaf
    offsets: Leaf
    targets: Leaf
    labels: Leaf
    present: Leaf
    beta: float = flax.struct.field(pytree_node=False, default=1 / 9)

    def losses(self) -> tuple[Part, Part]:
        r"""Cross-entropy of all, and smooth L1 of those with an object; both counts are that of all.

        $$L = \frac{1}{N} \sum_i \ell(p_i, p^*_i) + \frac{1}{N} \sum_i [p^*_i > 0] \, \mathrm{smooth}_{L1}(t_i -
        t^*_i)$$

        Reference: Girshick (2015), "Fast R-CNN", equations 1 to 3; Ren et al. (2015), equation 1.
        """
        with_object = (self.labels > 0) & self.present
        of_box = 4 * smooth_l1(self.offsets, self.targets, beta=self.beta, where=with_object)
        of_class = self.class_loss()
        return of_class, Part(jnp.sum(of_box, axis=1), of_class.count)

    def class_loss(self) -> Part:
        """Cross-entropy of all."""
        if self.logits.ndim == 2:
            said = (self.labels > 0)[..., None].astype(self.logits.dtype)
            of_class = binary_cross_entropy(self.logits[..., None], said, where=self.present)
        else:
            of_class = softmax_cross_entropy(self.logits, self.labels, where=self.present)
        return Part(jnp.sum(of_class, axis=1), jnp.sum(self.present, axis=1, dtype=of_class.dtype))


class RegionProposalHead(nn.Module):
    """A rectified 3x3 convolution and two 1x1 ones on every map alike: objectness and offsets of each anchor.

    Attributes:
        features: channels of the 3x3.
        per_place: anchors of a place.
        two_way: whether objectness is the difference of two logits, as in the paper, or one.
        types: of computation and parameters, as options of a layer.
    """

    features: int
    per_place: int
    two_way: bool
    types: Mapping[str, Any]

    def setup(self) -> None:
        """One set of layers for all maps."""
        conv = partial(Conv, kernel_init=NORMAL, **self.types)
        self.conv = conv(self.features, (3, 3), padding=1)
        self.objectness = conv((2 if self.two_way else 1) * self.per_place, (1, 1))
        self.box = conv(4 * self.per_place, (1, 1))

    def __call__(
        self, maps: Sequence[Float[Array, "batch _ _ _"]]
    ) -> tuple[list[Float[Array, "batch _"]], list[Float[Array, "batch _ 4"]]]:
        """Logits and offsets of the anchors of each map, places in rows, anchors of a place together."""
        logits, offsets = [], []
        for x in maps:
            hidden = nn.relu(self.conv(x))
            said = self.objectness(hidden)
            if self.two_way:
                background, thing = jnp.split(said, 2, axis=-1)
                said = thing - background
            logits.append(said.reshape(said.shape[0], -1))
            offsets.append(self.box(hidden).reshape(said.shape[0], -1, 4))
        return logits, offsets


def propose(
    logits: Sequence[Float[Array, "batch _"]],
    offsets: Sequence[Float[Array, "batch _ 4"]],
    anchors: Sequence[Float32[np.ndarray, "_ 4"]],
    size: tuple[int, int],
    rule: ProposalRule,
) -> Regions:
    """The boxes of highest score of every level, cut at the border, after suppression within their level.

    No gradient goes through them.

    Args:
        logits: of each level.
        offsets: of each level.
        anchors: of each level.
        size: height and width of the picture.
        rule: how many.
    """
    logits, offsets = jax.lax.stop_gradient((list(logits), list(offsets)))

    def of_picture(logits: Sequence[jax.Array], offsets: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
        boxes, scores, levels = [], [], []
        for number, (said, shifts, places) in enumerate(zip(logits, offsets, anchors, strict=True)):
            top, which = jax.lax.top_k(said, min(rule.before, len(said)))
            boxes.append(decode(shifts[which], jnp.asarray(places, shifts.dtype)[which]))
            scores.append(jax.nn.sigmoid(top))
            levels.append(jnp.full(len(which), number, jnp.int32))
        joined, sure, level = jnp.concatenate(boxes), jnp.concatenate(scores), jnp.concatenate(levels)
        joined = clip(joined, size)
        sure = jnp.where(is_valid(joined, smallest=rule.smallest), sure, -jnp.inf)
        kept = class_nms(joined, sure, level, threshold=rule.overlap, most=rule.after)
        present = kept.indices >= 0
        return jnp.where(present[:, None], joined[jnp.maximum(kept.indices, 0)], 0.0), present

    return Regions(*jax.vmap(of_picture)(logits, offsets))


def draw_anchors(
    key: jax.Array,
    logits: Sequence[Float[Array, "batch _"]],
    offsets: Sequence[Float[Array, "batch _ 4"]],
    anchors: Sequence[Float32[np.ndarray, "_ 4"]],
    objects: Objects,
    *,
    count: int = 256,
    high: float = 0.7,
    low: float = 0.3,
    inside: tuple[int, int] | None = None,
) -> Drawn:
    """Anchors for the loss of the first stage, half of them with an object where there are so many.

    Args:
        key: of the draw.
        logits: of each level.
        offsets: of each level.
        anchors: of each level.
        objects: what is to be found.
        count: anchors of a picture.
        high: an anchor has an object that it overlaps by so much.
        low: one that overlaps none by so much is background.
        inside: height and width of the picture, where anchors that cross its border do not count, as in the paper;
            None where they do, as in torchvision.
    """
    said, shifts = (jnp.concatenate(list(parts), axis=1) for parts in (logits, offsets))
    places = jnp.concatenate([jnp.asarray(level, shifts.dtype) for level in anchors])
    counted = jnp.ones(len(places), bool)
    if inside is not None:
        height, width = inside
        counted = (places[:, 0] >= 0) & (places[:, 1] >= 0) & (places[:, 2] <= width) & (places[:, 3] <= height)

    def of_picture(key: jax.Array, said: jax.Array, shifts: jax.Array, objects: Objects) -> tuple[jax.Array, ...]:
        boxes = objects.boxes.astype(places.dtype)
        matches = match_by_thresholds(
            jnp.where(counted[None], pairwise_iou(boxes, places), -1.0), objects.present, high=high, low=low
        )
        positive = (matches.objects >= 0) & counted
        drawn = sample_boxes(key, positive, ~positive & ~matches.ignored & counted, count=count, positives=count // 2)
        found = places[drawn.indices]
        wanted = _chosen(boxes, matches.objects[drawn.indices], drawn.positive, found)
        targets = encode(wanted, found)
        return said[drawn.indices], shifts[drawn.indices], targets, drawn.positive.astype(jnp.int32), drawn.present

    keys = jax.random.split(key, said.shape[0])
    of_drawn, shifts_of_drawn, targets, labels, present = jax.vmap(of_picture)(keys, said, shifts, objects)
    return Drawn(of_drawn, shifts_of_drawn, targets, labels, present)


class DrawnRegions(NamedTuple):
    """Regions for the loss of the second stage.

    Attributes:
        boxes: in pixels.
        present: which places are filled.
        labels: 0 for the background, and the class from 1.
        objects: the slot of the object of each; 0 where there is none.
        targets: the right offsets; zeros where there is no object.
    """

    boxes: Float[Array, "batch drawn 4"]
    present: Bool[Array, "batch drawn"]
    labels: Int[Array, "batch drawn"]
    objects: Int[Array, "batch drawn"]
    targets: Float[Array, "batch drawn 4"]


def draw_regions(
    key: jax.Array,
    regions: Regions,
    objects: Objects,
    *,
    count: int,
    positives: int,
    high: float = 0.5,
    low: float = 0.0,
    weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
) -> DrawnRegions:
    """Regions for the loss of the second stage; the true boxes are among them.

    Args:
        key: of the draw.
        regions: those of the first stage.
        objects: what is to be found.
        count: regions of a picture.
        positives: most of them that have an object.
        high: a region has the object that it overlaps most, by so much or more.
        low: one that overlaps no object by `high` is background if it overlaps one by `low`: 0.1 in Fast R-CNN, and 0
            in later programs.
        weights: of the offsets.

    Reference: Girshick (2015), "Fast R-CNN", section 2.3, mini-batch sampling.
    """

    def of_picture(key: jax.Array, boxes: jax.Array, present: jax.Array, objects: Objects) -> tuple[jax.Array, ...]:
        true = objects.boxes.astype(boxes.dtype)
        boxes, present = jnp.concatenate([boxes, true]), jnp.concatenate([present, objects.present])
        overlaps = pairwise_iou(true, boxes)
        matches = match_by_thresholds(overlaps, objects.present, high=high, low=high, low_quality=False)
        positive = (matches.objects >= 0) & present
        most = jnp.max(jnp.where(objects.present[:, None], overlaps, 0.0), axis=0, initial=0.0)
        drawn = sample_boxes(key, positive, ~positive & present & (most >= low), count=count, positives=positives)
        mine = jnp.where(drawn.positive, matches.objects[drawn.indices], 0)
        found = boxes[drawn.indices]
        labels = jnp.where(drawn.positive, _of_slot(objects.classes, mine) + 1, 0)
        places = _with_area(found)
        targets = encode(_chosen(true, mine, drawn.positive, places), places, weights=weights)
        return found, drawn.present, labels.astype(jnp.int32), mine.astype(jnp.int32), targets

    keys = jax.random.split(key, regions.boxes.shape[0])
    return DrawnRegions(*jax.vmap(of_picture)(keys, regions.boxes, regions.present, objects))


def _of_slot(values: jax.Array, slots: jax.Array) -> jax.Array:
    """The values of some slots; zeros where there is no slot at all."""
    return values[jnp.maximum(slots, 0)] if len(values) else jnp.zeros(slots.shape, values.dtype)


def _chosen(boxes: jax.Array, slots: jax.Array, has: jax.Array, otherwise: jax.Array) -> jax.Array:
    """The boxes of objects, and others where there is none, so that their offsets are zero."""
    return jnp.where(has[:, None], boxes[jnp.maximum(slots, 0)], otherwise) if len(boxes) else otherwise


def _with_area(boxes: jax.Array) -> jax.Array:
    """The boxes; a unit square where one has no area, as empty slots have, of which no offset is finite."""
    unit = jnp.asarray([0.0, 0.0, 1.0, 1.0], boxes.dtype)[None]
    return jnp.where(is_valid(boxes)[:, None], boxes, unit)
