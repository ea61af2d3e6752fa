"""Losses: of vectors (regression, classification, ranking), and of masks, boxes and sequences.

All are called alike, `loss(outputs, targets, *, options, where=None)`, and none reduces over examples. The last axis
of `outputs` holds what one example is (features, logits, scores), all axes before it count examples, and the result
has one value for each of those, in float32, or float64 where the outputs are.

`where` leaves out examples: there the loss and its gradient are exactly zero, whatever stands in outputs and targets,
so that `jnp.mean(loss, where=where)` is the mean over the others. Targets that mean nothing (an integer that names
no class, a tag that is no probability) make loss and gradient NaN, which stops a run, rather than vanish.

A logit may be infinite: minus infinity bars a class, a tag or a score, plus infinity makes it sure. A loss is infinite
where its target is barred, with a gradient of zero, and finite elsewhere, with its limit and the limits of all
derivatives.
"""

from cnnjax.functional.losses.edges import class_balanced_cross_entropy
from cnnjax.functional.losses.overlaps import (
    ciou_loss,
    dice_loss,
    diou_loss,
    giou_loss,
    iou_loss,
    soft_jaccard_loss,
)
from cnnjax.functional.losses.pixels import pixel_cross_entropy
from cnnjax.functional.losses.sequences import ctc_loss
from cnnjax.functional.losses.vectors import (
    binary_cross_entropy,
    example_weights,
    huber,
    margin_ranking,
    mean_absolute_error,
    mean_squared_error,
    multiclass_hinge,
    sigmoid_focal,
    smooth_l1,
    softmax_cross_entropy,
    softmax_focal,
)

__all__ = [
    "binary_cross_entropy",
    "ciou_loss",
    "class_balanced_cross_entropy",
    "ctc_loss",
    "dice_loss",
    "diou_loss",
    "example_weights",
    "giou_loss",
    "huber",
    "iou_loss",
    "margin_ranking",
    "mean_absolute_error",
    "mean_squared_error",
    "multiclass_hinge",
    "pixel_cross_entropy",
    "sigmoid_focal",
    "smooth_l1",
    "soft_jaccard_loss",
    "softmax_cross_entropy",
    "softmax_focal",
]
