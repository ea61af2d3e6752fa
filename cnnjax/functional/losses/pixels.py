"""The loss of labels for every pixel, called as those of vectors are."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cnnjax.functional.losses.vectors import example_weights, softmax_cross_entropy
from cnnjax.functional.operands import in_float32, require_mask, require_shape


def pixel_cross_entropy(
    outputs: Float[Array, "batch *positions classes"],
    targets: Int[Array, "batch *positions"],
    *,
    weights: Float[Array, "batch *positions"] | None = None,
    class_weights: Float[Array, "classes"] | None = None,
    ignored: int | None = None,
    label_smoothing: float = 0.0,
    where: Bool[Array, "batch *positions"] | None = None,
) -> Float[Array, "batch"]:
    r"""Softmax cross-entropy of a class at each position; the weighted mean over the positions of an example.

    $$\frac{\sum_i w_i c_{y_i} \, (-\log \mathrm{softmax}(z_i)_{y_i})}{\sum_i w_i c_{y_i}}$$

    with weights w of the positions and c of the classes; doubling either changes nothing. An example without any
    position that counts costs nothing.

    Args:
        outputs: logits z.
        targets: the class y of each position.
        weights: zero or more at each position, as `data.augment`'s map for the gaps between objects.
        class_weights: one positive number for each class.
        ignored: a label that marks positions that do not count, such as 255.
        label_smoothing: as in `softmax_cross_entropy`.
        where: positions that count.

    Raises:
        ValueError: `weights`, `targets` or `where` are not one value for each position, or as
            `softmax_cross_entropy`.

    Reference: Ronneberger et al. (2015), "U-Net", equations 1 and 2, whose sum this divides by that of the weights.

    >>> round(pixel_cross_entropy(jnp.zeros((1, 2, 2)), jnp.asarray([[0, 255]]), ignored=255).item(), 4)
    0.6931
    """
    outputs, targets = in_float32(outputs, 2, "(batch, *positions, classes)"), jnp.asarray(targets)
    positions = outputs.shape[:-1]
    require_shape("targets", targets, positions, "a class for each position")
    require_mask(where, positions, "a flag per position")
    counted = jnp.ones(positions, bool) if where is None else jnp.asarray(where)
    if ignored is not None:
        counted = counted & (targets != jnp.asarray(ignored, targets.dtype))
    losses = softmax_cross_entropy(
        outputs, targets, label_smoothing=label_smoothing, class_weights=class_weights, where=counted
    )
    if class_weights is None:
        shares = counted.astype(losses.dtype)
    else:
        shares = example_weights(targets, jnp.asarray(class_weights, losses.dtype), where=counted)
    if weights is not None:
        weights = jnp.asarray(weights)
        require_shape("weights", weights, positions, "a weight for each position")
        factors = jnp.where(counted, weights.astype(outputs.dtype), 0.0)
        losses, shares = losses * factors, shares * factors
    axes = tuple(range(1, losses.ndim))
    total, share = jnp.sum(losses, axes), jnp.sum(shares, axes)
    return jnp.where(share > 0, total / jnp.where(share > 0, share, 1.0), 0.0)
