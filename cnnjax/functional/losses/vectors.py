"""Losses of vectors: regression, classification, ranking."""

import math

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Num

from cnnjax.functional.operands import (
    as_distribution,
    bounded,
    check_classes,
    check_regression,
    check_tags,
    in_float32,
    masked,
    require_mask,
    require_shape,
    unlimited,
)
from cnnjax.functional.precision import at_least_float32


def mean_squared_error(
    outputs: Float[Array, "*batch features"],
    targets: Num[Array, "*batch features"],
    *,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    r"""The mean of the squared errors of an example: $\frac{1}{n} \sum_i (x_i - t_i)^2$.

    Raises:
        ValueError: shapes differ, outputs are not floating point, or `where` is not one flag per example.

    Reference: Goodfellow et al. (2016), "Deep Learning", section 6.2.2.1.

    >>> mean_squared_error(jnp.asarray([[1.0, 2.0], [0.0, 0.0]]), jnp.asarray([[1.0, 4.0], [3.0, 0.0]])).tolist()
    [2.0, 4.5]
    """
    outputs, targets = check_regression(outputs, targets, where)
    return masked(jnp.mean(optax.squared_error(outputs, targets), axis=-1), where)


def mean_absolute_error(
    outputs: Float[Array, "*batch features"],
    targets: Num[Array, "*batch features"],
    *,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    r"""L1: the mean of the absolute errors of an example, $\frac{1}{n} \sum_i |x_i - t_i|$.

    Raises:
        ValueError: as `mean_squared_error`.

    Reference: Goodfellow et al. (2016), "Deep Learning", section 6.2.1.2.
    """
    outputs, targets = check_regression(outputs, targets, where)
    return masked(jnp.mean(jnp.abs(outputs - targets), axis=-1), where)


def huber(
    outputs: Float[Array, "*batch features"],
    targets: Num[Array, "*batch features"],
    *,
    delta: float = 1.0,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    r"""Half the squared error up to `delta`, linear beyond; the mean over an example.

    $$h(e) = \tfrac{1}{2} e^2 \text{ if } |e| \le \delta, \text{ else } \delta (|e| - \tfrac{1}{2} \delta)$$

    Raises:
        ValueError: `delta` is not positive and finite, or as `mean_squared_error`.

    Reference: Huber (1964), "Robust Estimation of a Location Parameter".
    """
    if not 0 < delta < math.inf:
        raise ValueError(
            f"delta={delta}; expected a positive, finite number; without a limit, take 0.5 * mean_squared_error"
        )
    outputs, targets = check_regression(outputs, targets, where)
    return masked(jnp.mean(optax.huber_loss(outputs, targets, delta=delta), axis=-1), where)


def smooth_l1(
    outputs: Float[Array, "*batch features"],
    targets: Num[Array, "*batch features"],
    *,
    beta: float = 1.0,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    r"""Absolute error less `beta` / 2, rounded off below `beta`; the mean over an example. It is `huber` / `beta`.

    $$\frac{e^2}{2 \beta} \text{ if } |e| < \beta, \text{ else } |e| - \tfrac{1}{2} \beta$$

    With `beta` 0 it is the absolute error. Detectors sum over the four offsets of a box: four times this mean. 1 / 9
    is the "sigma 3" of region proposals, 1 that of SSD and Fast R-CNN.

    Raises:
        ValueError: `beta` is negative or not finite, or as `mean_squared_error`.

    Reference: Girshick (2015), "Fast R-CNN", equation 3.

    >>> smooth_l1(jnp.asarray([0.5, 3.0]), jnp.zeros(2)).item()
    1.3125
    """
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta={beta}; expected a finite number, zero or more")
    outputs, targets = check_regression(outputs, targets, where)
    errors = optax.huber_loss(outputs, targets, delta=beta) / beta if beta else jnp.abs(outputs - targets)
    return masked(jnp.mean(errors, axis=-1), where)


def binary_cross_entropy(
    outputs: Float[Array, "*batch tags"],
    targets: Num[Array, "*batch tags"] | Bool[Array, "*batch tags"],
    *,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    r"""Cross-entropy of independent tags with their logits z; the mean over the tags of an example.

    $$-y \log \sigma(z) - (1 - y) \log (1 - \sigma(z))$$

    Targets are 0 and 1 of any type, or probabilities; those outside [0, 1] by more than rounding give NaN.

    Raises:
        ValueError: as `mean_squared_error`.

    Reference: Goodfellow et al. (2016), "Deep Learning", section 6.2.2.2.
    """
    outputs, targets = check_tags(outputs, targets, where)
    finite, limits = _limits(outputs, targets)
    losses = jnp.where(jnp.isinf(outputs), limits, optax.sigmoid_binary_cross_entropy(finite, targets))
    return masked(jnp.mean(losses, axis=-1), where)


def sigmoid_focal(
    outputs: Float[Array, "*batch tags"],
    targets: Num[Array, "*batch tags"] | Bool[Array, "*batch tags"],
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    r"""Binary cross-entropy that fades where the model is right; the mean over the tags of an example.

    $$-\alpha_t (1 - p_t)^\gamma \log p_t$$

    where $p_t = \sigma(z)$ for a tag that is set and $1 - \sigma(z)$ for one that is not, $\alpha_t$ likewise `alpha`
    or 1 - `alpha` (1 without `alpha`; the paper has 0.25), and the cross-entropy is the last factor. For targets y
    between 0 and 1, $p_t = y \sigma(z) + (1 - y) (1 - \sigma(z))$ in the first. `gamma` 0 leaves the cross-entropy.

    Raises:
        ValueError: `gamma` is negative, `alpha` is outside [0, 1], or as `mean_squared_error`.

    Reference: Lin et al. (2017), "Focal Loss for Dense Object Detection", equations 4 and 5.
    """
    _require_gamma(gamma)
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha}; expected None or a number from 0 to 1")
    outputs, targets = check_tags(outputs, targets, where)
    finite, limits = _limits(outputs, targets)
    if alpha is not None:
        limits = jnp.where(alpha * targets + (1 - alpha) * (1 - targets) == 0, 0.0, limits)
    losses = optax.sigmoid_focal_loss(finite, targets, alpha=alpha, gamma=gamma)
    losses = jnp.where(jnp.isinf(outputs), limits, losses)
    return masked(jnp.mean(losses, axis=-1), where)


def softmax_cross_entropy(
    outputs: Float[Array, "*batch classes"],
    targets: Int[Array, "*batch"] | Float[Array, "*batch classes"],
    *,
    label_smoothing: float = 0.0,
    class_weights: Float[Array, "classes"] | None = None,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    r"""Cross-entropy of one class per example with its logits z.

    $$-w \sum_k q_k \log \mathrm{softmax}(z)_k, \qquad q_k = (1 - \epsilon) y_k + \epsilon / K$$

    Targets are classes, as integers, or distributions y over them. `label_smoothing` is $\epsilon$; with it, no class
    may be barred. `class_weights` multiply each example by the weight of its class, before smoothing,
    $w = \sum_k y_k w_k$; a weighted mean divides by the sum of what multiplied, so that doubling all weights changes
    nothing:

    >>> logits, labels = jnp.zeros((3, 2)), jnp.asarray([0, 1, 1])
    >>> weights = jnp.asarray([1.0, 3.0])
    >>> losses = softmax_cross_entropy(logits, labels, class_weights=weights)
    >>> mean = jnp.sum(losses) / jnp.sum(example_weights(labels, weights))
    >>> round(mean.item(), 4)
    0.6931

    Raises:
        ValueError: `label_smoothing` is not in [0, 1), there are fewer than two classes, integer targets are not one
            per example, distributions or `class_weights` disagree with the classes, outputs are not floating point,
            or `where` is not one flag per example.

    Reference: Goodfellow et al. (2016), "Deep Learning", section 6.2.2.3; smoothing, Szegedy et al. (2016),
    "Rethinking the Inception Architecture for Computer Vision", section 7.
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing={label_smoothing}; expected at least 0 and below 1")
    outputs, labels = check_classes(outputs, targets, where)
    losses = _cross_entropy(outputs, optax.smooth_labels(labels, label_smoothing))
    return masked(_weighted(losses, labels, class_weights), where)


def softmax_focal(
    outputs: Float[Array, "*batch classes"],
    targets: Int[Array, "*batch"] | Float[Array, "*batch classes"],
    *,
    gamma: float = 2.0,
    class_weights: Float[Array, "classes"] | None = None,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    r"""Softmax cross-entropy that fades where the model is right.

    $$-w (1 - p_t)^\gamma \sum_k y_k \log p_k, \qquad p = \mathrm{softmax}(z), \quad p_t = \sum_k y_k p_k$$

    `class_weights` as in `softmax_cross_entropy`. With two classes, of logits 0 and z, it is `sigmoid_focal` of z.

    Raises:
        ValueError: `gamma` is negative, or as `softmax_cross_entropy`.

    Reference: Lin et al. (2017), "Focal Loss for Dense Object Detection", equations 4 and 5.
    """
    _require_gamma(gamma)
    outputs, labels = check_classes(outputs, targets, where)
    losses = _cross_entropy(outputs, labels)
    # Of logarithms, because 1 - p_t rounds to zero long before the gradient does; the clip is for rounded mixtures.
    logits, _ = bounded(outputs)
    log_wrong = jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=-1, b=jnp.maximum(1 - labels, 0.0))
    barred = jnp.isinf(losses)
    losses = jnp.where(barred, jnp.inf, jnp.exp(gamma * log_wrong) * jnp.where(barred, 0.0, losses))
    return masked(_weighted(losses, labels, class_weights), where)


def multiclass_hinge(
    outputs: Float[Array, "*batch classes"],
    targets: Int[Array, "*batch"],
    *,
    margin: float = 1.0,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    r"""Multiclass SVM: by how much the scores s of the wrong classes come within `margin` of the right one's, summed.

    $$\sum_{j \ne y} \max(0, s_j - s_y + \Delta)$$

    Raises:
        ValueError: targets are not integers, `margin` is negative, or as `softmax_cross_entropy`.

    Reference: Weston and Watkins (1999), "Support Vector Machines for Multi-Class Pattern Recognition"; CS231n notes,
    "Linear Classification", multiclass SVM loss.

    >>> multiclass_hinge(jnp.asarray([13.0, -7.0, 11.0]), jnp.asarray(0), margin=10.0).item()
    8.0
    """
    _require_margin(margin)
    targets = jnp.asarray(targets)
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise ValueError(f"targets: {targets.dtype} came, integers were expected: a class for each example")
    # Optax has the form that counts the worst class only (Crammer and Singer), not the sum.
    outputs, labels = check_classes(outputs, targets, where)
    right = jnp.sum(jnp.where(labels == 0, 0.0, outputs * labels), axis=-1, keepdims=True)
    barred = jnp.isneginf(right)
    excess = jax.nn.relu(_difference(outputs, jnp.where(barred, 0.0, right)) + margin)
    losses = jnp.sum(jnp.where(labels == 1, 0.0, excess), axis=-1)
    return masked(jnp.where(barred[..., 0], jnp.inf, losses), where)


def margin_ranking(
    outputs: Float[Array, "*batch 2"],
    targets: Num[Array, "*batch"],
    *,
    margin: float = 0.0,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    r"""How far two scores are from the order they should have.

    $$\max(0, -t (s_1 - s_2) + m)$$

    An example is a pair: `outputs` holds both scores on its last axis (`jnp.stack([first, second], axis=-1)`) and the
    target is 1 where the first should be the larger, -1 where the second; others give NaN.

    Raises:
        ValueError: outputs are not pairs in floating point, targets are not one per pair, `margin` is negative, or
            `where` is not one flag per example.

    Reference: Herbrich et al. (2000), "Large Margin Rank Boundaries for Ordinal Regression".

    >>> margin_ranking(jnp.asarray([[3.0, 1.0], [3.0, 1.0]]), jnp.asarray([1.0, -1.0]), margin=0.5).tolist()
    [0.0, 2.5]
    """
    _require_margin(margin)
    outputs, targets = in_float32(outputs, 1, "(*batch, 2)"), jnp.asarray(targets)
    require_shape("outputs", outputs, (*outputs.shape[:-1], 2), "two scores on the last axis")
    require_shape("targets", targets, outputs.shape[:-1], "1 or -1 for each pair")
    require_mask(where, targets.shape)
    order = targets.astype(outputs.dtype)
    order = jnp.where(jnp.abs(order) == 1, order, jnp.nan)
    if where is not None:
        order = jnp.where(where, order, jnp.ones_like(order))
    first, second = jnp.moveaxis(masked(outputs, where), -1, 0)
    return masked(jax.nn.relu(margin - order * _difference(first, second)), where)


def example_weights(
    targets: Int[Array, "*batch"] | Float[Array, "*batch classes"],
    class_weights: Float[Array, "classes"],
    *,
    where: Bool[Array, "*batch"] | None = None,
) -> Float[Array, "*batch"]:
    r"""What `class_weights` multiply each example's loss by, $\sum_k y_k w_k$; zero where the mask is False.

    Raises:
        ValueError: `class_weights` are no vector, or as `softmax_cross_entropy`.

    >>> example_weights(jnp.asarray([2, 0]), jnp.asarray([1.0, 2.0, 4.0])).tolist()
    [4.0, 1.0]
    """
    targets, class_weights = jnp.asarray(targets), jnp.asarray(class_weights)
    batch = targets.shape if jnp.issubdtype(targets.dtype, jnp.integer) else targets.shape[:-1]
    require_mask(where, batch)
    shape = (*batch, class_weights.size)
    labels = as_distribution(targets, shape, at_least_float32(class_weights.dtype), where)
    return masked(_weights(labels, class_weights), where)


def _cross_entropy(outputs: jax.Array, shares: jax.Array) -> jax.Array:
    logits, barred = bounded(outputs)
    return jnp.sum(jnp.where(barred, unlimited(shares), -shares * jax.nn.log_softmax(logits)), axis=-1)


def _limits(outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits with zeros for infinities, and what cross-entropy is at those: infinite where the target has a share."""
    limits = unlimited(jnp.where(outputs > 0, 1 - targets, targets))
    return jnp.where(jnp.isinf(outputs), 0.0, outputs), limits


def _difference(first: jax.Array, second: jax.Array) -> jax.Array:
    """Of scores; none between two of the same infinity."""
    alike = jnp.isinf(first) & (first == second)
    return jnp.where(alike, 0.0, first - second)


def _weights(labels: jax.Array, class_weights: jax.Array) -> jax.Array:
    require_shape("class_weights", class_weights, labels.shape[-1:], "a weight for each class")
    # On accelerators a product of matrices would otherwise round the weights.
    return jnp.matmul(labels, class_weights.astype(labels.dtype), precision="highest")


def _weighted(losses: jax.Array, labels: jax.Array, class_weights: jax.Array | None) -> jax.Array:
    if class_weights is None:
        return losses
    weights = _weights(labels, jnp.asarray(class_weights))
    # Not even an infinite loss counts without a weight.
    return jnp.where(weights == 0, 0.0, losses) * weights


def _require_gamma(gamma: float) -> None:
    if not gamma >= 0:
        raise ValueError(f"gamma={gamma}; expected zero or more")


def _require_margin(margin: float) -> None:
    if not margin >= 0:
        raise ValueError(f"margin={margin}; expected zero or more")
