"""Losses of examples that are more than a vector: masks, boxes, sequences. Called as those of vectors are."""

import math

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Num

from cnnjax.functional.boxes import generalized_intersection_over_union, intersection_over_union
from cnnjax.functional.operands import (
    BARRED,
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
    # The formula with the 1 brought inside, where it cancels exactly.
    return jnp.mean((total - 2 * common) / (total + smoothing), axis=-1)


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
    return masked(1 - intersection_over_union(outputs, targets), where)


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
    return masked(1 - generalized_intersection_over_union(outputs, targets), where)


def ctc_loss(
    outputs: Float[Array, "*batch time classes"],
    targets: Int[Array, "*batch length"],
    *,
    logit_paddings: Num[Array, "*batch time"] | Bool[Array, "*batch time"] | None = None,
    label_paddings: Num[Array, "*batch length"] | Bool[Array, "*batch length"] | None = None,
    blank_id: int = 0,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    r"""Connectionist temporal classification: minus the log-probability of a label sequence, over all its alignments.

    $$-\log \sum_{\pi : \mathcal{B}(\pi) = l} \prod_t \mathrm{softmax}(z_t)_{\pi_t}$$

    where $\mathcal{B}$ merges repeats, then drops blanks (class `blank_id`).

    Sequences end at different lengths: `logit_paddings` and `label_paddings` are 1 (or True) where a frame or a label
    is padding, 0 elsewhere, as in Optax. Labels end with their padding. What stands in the padding does not matter.

    A sequence that needs more frames than there are (one for each label, one between repeated ones) has probability
    zero: its loss is infinite and its gradient zero. Labels that are the blank or no class, or whose padding comes
    before the end, give NaN.

    Raises:
        ValueError: outputs are not floating point with a frame at least, targets are not integers or have no room
            for a label, leading axes disagree, a padding has not the shape of what it pads, `blank_id` is no class,
            or `where` is not one flag per example.

    Reference: Graves et al. (2006), "Connectionist Temporal Classification", sections 3 and 4.1.
    """
    outputs, targets = in_float32(outputs, 2, "(*batch, time, classes)"), jnp.asarray(targets)
    *batch, time, classes = outputs.shape
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise ValueError(f"targets: {targets.dtype} came, integers were expected: the classes of a sequence")
    length = targets.shape[-1] if targets.ndim else 0
    require_shape("targets", targets, (*batch, length), "sequences of labels, the outputs' axes before them")
    if not time:
        raise ValueError(f"outputs: shape {outputs.shape} came, a frame at least was expected")
    if not length:
        raise ValueError(f"targets: shape {targets.shape} came, room for a label was expected; pad where there is none")
    if not 0 <= blank_id < classes:
        raise ValueError(f"blank_id={blank_id}; expected a class, from 0 to {classes - 1}")
    no_frame = _padding("logit_paddings", logit_paddings, outputs.shape[:-1])
    no_label = _padding("label_paddings", label_paddings, targets.shape)
    require_mask(where, batch)

    wanted = ~no_label if where is None else ~no_label & where[..., None]
    labels = targets.astype(jnp.int32)
    named = (labels >= 0) & (labels < classes) & (labels != blank_id)
    ordered = jnp.all(no_label[..., 1:] >= no_label[..., :-1], axis=-1)
    known = jnp.all(named | ~wanted, axis=-1) & (ordered if where is None else ordered | ~where)
    labels = jnp.where(wanted & named, labels, 0)
    repeats = (labels[..., 1:] == labels[..., :-1]) & ~no_label[..., 1:]
    needed = jnp.sum(~no_label, axis=-1) + jnp.sum(repeats, axis=-1)
    possible = needed <= jnp.sum(~no_frame, axis=-1)

    frames, barred = bounded(masked(masked(outputs, where), ~no_frame))
    possible &= ~jnp.any(jnp.all(barred, axis=-1), axis=-1)
    rows = math.prod(batch)
    # Optax mixes types, lets accelerators round the products that pick the labels, and takes -1e5 for log 0, which a
    # dozen frames of logits near 1e4 fall below.
    with jax.numpy_dtype_promotion("standard"), jax.default_matmul_precision("highest"):
        losses = optax.ctc_loss(
            frames.reshape(rows, time, classes),
            no_frame.reshape(rows, time).astype(outputs.dtype),
            labels.reshape(rows, length),
            no_label.reshape(rows, length).astype(outputs.dtype),
            blank_id=blank_id,
            log_epsilon=BARRED,
        )
    losses = losses.reshape(batch).astype(outputs.dtype)
    # Every alignment of a sequence may take a class that is barred.
    losses = jnp.where(possible & ~(losses > -BARRED / 2), losses, jnp.inf)
    # Rounding takes a sure sequence below zero; its gradient stays.
    losses = jnp.where(losses < 0, losses - jax.lax.stop_gradient(losses), losses)
    return masked(losses * jnp.where(known, 1.0, jnp.nan), where)


def _boxes(outputs: jax.Array, targets: jax.Array, where: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    outputs, targets = check_regression(outputs, targets, where)
    require_shape("outputs", outputs, (*outputs.shape[:-1], 4), "x_min, y_min, x_max, y_max on the last axis")
    first, second = outputs[..., :2], outputs[..., 2:]
    return jnp.concatenate([jnp.minimum(first, second), jnp.maximum(first, second)], axis=-1), targets


def _padding(name: str, paddings: jax.Array | None, shape: tuple[int, ...]) -> jax.Array:
    if paddings is None:
        return jnp.zeros(shape, bool)
    paddings = jnp.asarray(paddings)
    require_shape(name, paddings, shape, "1 for padding, 0 elsewhere")
    return paddings.astype(bool)
