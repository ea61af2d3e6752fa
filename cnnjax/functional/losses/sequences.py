"""The loss of sequences that have no alignment, called as those of vectors are."""

import math

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Num

from cnnjax.functional.operands import (
    BARRED,
    bounded,
    in_float32,
    masked,
    require_mask,
    require_shape,
)


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


def _padding(name: str, paddings: jax.Array | None, shape: tuple[int, ...]) -> jax.Array:
    if paddings is None:
        return jnp.zeros(shape, bool)
    paddings = jnp.asarray(paddings)
    require_shape(name, paddings, shape, "1 for padding, 0 elsewhere")
    return paddings.astype(bool)
