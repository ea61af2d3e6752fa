"""The loss of edges, which few pixels are."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from cnnjax.functional.losses.vectors import binary_cross_entropy
from cnnjax.functional.operands import check_tags, in_float32, masked, require_mask


def class_balanced_cross_entropy(
    outputs: Float[Array, "batch *positions classes"],
    targets: Num[Array, "batch *positions classes"] | Bool[Array, "batch *positions classes"],
    *,
    where: Bool[Array, "batch *positions"] | None = None,
) -> Float[Array, "batch"]:
    r"""Cross-entropy of an edge map with its logits z, in which edges weigh as much as all that is none.

    $$-\frac{1}{|Y|} \left(\beta \sum_{j \in Y_+} \log \sigma(z_j)
    + (1 - \beta) \sum_{j \in Y_-} \log (1 - \sigma(z_j))\right), \qquad \beta = \frac{|Y_-|}{|Y|}$$

    where $Y_+$ are the positions of one picture that are edges, $Y_-$ the others, and Y both. The paper has the sum;
    the mean leaves a learning rate right for pictures of any size. Several kinds of edges, on the last axis, are
    balanced each by itself, and the mean of them is taken. A picture without edges, or with nothing else, costs
    nothing.

    Args:
        outputs: logits.
        targets: 0 and 1 of any type, or probabilities y, which count as so much of an edge, and the rest of none.
        where: False for positions that are left out, such as edges that annotators disagree on.

    Returns:
        One loss per picture; zero where all of it is left out.

    Raises:
        ValueError: shapes differ, outputs are not floating point or have less than two axes, or `where` is not one
            flag per position.

    Reference: Xie and Tu (2015), "Holistically-Nested Edge Detection", equation 2; for the fused map, it is equation 3.

    >>> edges = jnp.asarray([[1.0, 0.0, 0.0, 0.0]])[..., None]
    >>> round(class_balanced_cross_entropy(jnp.zeros_like(edges), edges).item(), 6)  # 6/16 log 2
    0.25993
    """
    outputs = in_float32(outputs, 2, "(batch, *positions, classes)")
    require_mask(where, outputs.shape[:-1], "a flag per position")
    outputs, targets = check_tags(outputs, targets, where)
    positions = tuple(range(1, outputs.ndim - 1))
    counted = masked(jnp.ones_like(targets), where)
    total = jnp.maximum(jnp.sum(counted, positions, keepdims=True), 1.0)
    others = counted - targets
    share = jnp.sum(others, positions, keepdims=True) / total
    weights = share * targets + (1 - share) * others
    losses = binary_cross_entropy(outputs[..., None], targets[..., None])
    # Not even an infinite loss counts without a weight.
    losses = jnp.where(weights == 0, 0.0, losses) * weights
    return jnp.mean(jnp.sum(losses / total, positions), axis=-1)
