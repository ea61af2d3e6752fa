"""Losses of how much two things overlap: masks, and boxes. Called as those of vectors are."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from cnnjax.functional.boxes.overlap import ciou, diou, giou, iou
from cnnjax.functional.operands import (
    bounded,
    check_classes,
    check_regression,
    check_tags,
    in_float32,
    masked,
    require_mask,
    require_shape,
)


def dice_loss(
    outputs: Float[Array, "batch *positions classes"],
    targets: Int[Array, "batch *positions"] | Num[Array, "batch *positions classes"],
    *,
    smoothing: float = 1.0,
    where: Bool[Array, "batch *positions"] | None = None,
) -> Float[Array, "batch"]:
    r"""How little the predicted mask p of a class overlaps the true one t, over all positions i; the mean over classes.

    $$1 - \frac{1}{K} \sum_k \frac{2 \sum_i p_{ik} t_{ik} + s}{\sum_i p_{ik} + \sum_i t_{ik} + s}$$

    With several classes p is the softmax of the logits, and targets are classes or distributions. One class alone is
    a mask against its background: p is the sigmoid, and targets are 0, 1 or between, of the outputs' shape. With
    `smoothing` s, a class that is neither there nor predicted costs nothing. (Milletari et al. square the terms of
    the denominator.)

    `where` leaves out positions; an example without any costs nothing.

    Raises:
        ValueError: `smoothing` is not positive, outputs have less than two axes, `where` is not one flag per
            position, or as `softmax_cross_entropy`, or for one class `binary_cross_entropy`.

    Reference: Milletari et al. (2016), "V-Net", section 3.
    """
    common, total = _common_and_total(outputs, targets, smoothing, where)
    # The formula with the 1 brought inside, where it cancels exactly.
    return jnp.mean((total - 2 * common) / (total + smoothing), axis=-1)


def soft_jaccard_loss(
    outputs: Float[Array, "batch *positions classes"],
    targets: Int[Array, "batch *positions"] | Num[Array, "batch *positions classes"],
    *,
    smoothing: float = 1.0,
    where: Bool[Array, "batch *positions"] | None = None,
) -> Float[Array, "batch"]:
    r"""One less the soft intersection over union of the predicted mask p and the true one t; the mean over classes.

    $$1 - \frac{1}{K} \sum_k \frac{\sum_i p_{ik} t_{ik} + s}{\sum_i p_{ik} + \sum_i t_{ik} - \sum_i p_{ik} t_{ik} + s}$$

    Masks, one class alone, `smoothing` and `where` are as in `dice_loss`.

    Raises:
        ValueError: as `dice_loss`.

    Reference: Rahman and Wang (2016), "Optimizing Intersection-Over-Union in Deep Neural Networks for Image
    Segmentation", equations 3 to 5.
    """
    common, total = _common_and_total(outputs, targets, smoothing, where)
    return jnp.mean((total - 2 * common) / (total - common + smoothing), axis=-1)


def iou_loss(
    outputs: Float[Array, "*batch 4"],
    targets: Float[Array, "*batch 4"],
    *,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    """One less the intersection over union of two boxes: no gradient where they are apart.

    Boxes are `(x_min, y_min, x_max, y_max)`. The corners of the outputs are put in order first, so that an inverted
    prediction learns too: order them as well when predicting. A NaN among the coordinates makes the loss NaN.

    Raises:
        ValueError: shapes differ or do not end in 4, outputs are not floating point, or `where` is not one flag per
            example.

    Reference: Rezatofighi et al. (2019), "Generalized Intersection over Union", algorithm 2.
    """
    outputs, targets = _boxes(outputs, targets, where)
    return masked(1 - iou(outputs, targets), where)


def giou_loss(
    outputs: Float[Array, "*batch 4"],
    targets: Float[Array, "*batch 4"],
    *,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    """One less the generalised intersection over union: from 0 to 2, and learning where boxes are apart.

    Boxes as in `iou_loss`.

    Raises:
        ValueError: as `iou_loss`.

    Reference: Rezatofighi et al. (2019), "Generalized Intersection over Union", algorithm 2.

    >>> giou_loss(jnp.asarray([0.0, 0.0, 1.0, 1.0]), jnp.asarray([3.0, 0.0, 4.0, 1.0])).item()
    1.5
    """
    outputs, targets = _boxes(outputs, targets, where)
    return masked(1 - giou(outputs, targets), where)


def diou_loss(
    outputs: Float[Array, "*batch 4"],
    targets: Float[Array, "*batch 4"],
    *,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    """One less `boxes.diou`: from 0 to 2; it learns to bring the centres together where boxes are apart.

    Boxes as in `iou_loss`.

    Raises:
        ValueError: as `iou_loss`.

    Reference: Zheng et al. (2020), "Distance-IoU Loss", equation 7.
    """
    outputs, targets = _boxes(outputs, targets, where)
    return masked(1 - diou(outputs, targets), where)


def ciou_loss(
    outputs: Float[Array, "*batch 4"],
    targets: Float[Array, "*batch 4"],
    *,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    """One less `boxes.ciou`: `diou_loss` that also learns the ratio of the sides.

    Boxes as in `iou_loss`.

    Raises:
        ValueError: as `iou_loss`.

    Reference: Zheng et al. (2020), "Distance-IoU Loss", equation 10.
    """
    outputs, targets = _boxes(outputs, targets, where)
    return masked(1 - ciou(outputs, targets), where)


def _common_and_total(
    outputs: jax.Array, targets: jax.Array, smoothing: float, where: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """For each example and class, over the positions: the sum of p t, and that of p and t."""
    # Optax's takes no mask, and with probabilities does not compile.
    if not smoothing > 0:
        raise ValueError(f"smoothing={smoothing}; expected a positive number")
    outputs = in_float32(outputs, 2, "(batch, *positions, classes)")
    require_mask(where, outputs.shape[:-1], "a flag per position")
    if outputs.shape[-1] == 1:
        outputs, truth = check_tags(outputs, targets, where)
        predicted = jax.nn.sigmoid(outputs)
    else:
        outputs, truth = check_classes(outputs, targets, where)
        logits, barred = bounded(outputs)
        predicted = jnp.where(barred, 0.0, jax.nn.softmax(logits))
    predicted, truth = masked(predicted, where), masked(truth, where)
    positions = tuple(range(1, outputs.ndim - 1))
    common = jnp.sum(predicted * truth, positions)
    total = jnp.sum(predicted, positions) + jnp.sum(truth, positions)
    return common, total


def _boxes(outputs: jax.Array, targets: jax.Array, where: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    outputs, targets = check_regression(outputs, targets, where)
    require_shape("outputs", outputs, (*outputs.shape[:-1], 4), "x_min, y_min, x_max, y_max on the last axis")
    first, second = outputs[..., :2], outputs[..., 2:]
    return jnp.concatenate([jnp.minimum(first, second), jnp.maximum(first, second)], axis=-1), targets
