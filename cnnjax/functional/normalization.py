"""Normalisation as pure functions: the statistics, and their use."""

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from cnnjax.functional.precision import at_least_float32, require_floating


def batch_statistics(
    images: Float[Array, "batch *spatial channels"],
    *,
    where: Bool[Array, "batch"] | None = None,
    axis_name: str | None = None,
) -> tuple[Float[Array, "channels"], Float[Array, "channels"]]:
    r"""Mean and (biased) variance of every channel, over the batch and all positions, in one pass.

    $$\mu = E[x], \qquad \sigma^2 = \max(E[x^2] - \mu^2, 0)$$

    In float32, or float64 where the images are. `where` leaves out examples (a padded batch). `axis_name` pools the
    moments over a mapped axis of that name; under `jit` with a sharded batch the statistics are global by themselves.

    One pass loses the variance to rounding where the mean is a thousand times the deviation or more: centre such data.

    Raises:
        ValueError: `where` is not one flag per example, or the images are not floating point.
    """
    require_floating("images", images)
    values = images.astype(at_least_float32(images.dtype))
    axes = tuple(range(images.ndim - 1))
    if where is None:
        moments = (jnp.mean(values, axes), jnp.mean(jnp.square(values), axes))
        if axis_name is not None:
            moments = lax.pmean(moments, axis_name)
    else:
        if where.shape != images.shape[:1]:
            raise ValueError(f"where has shape {where.shape}; expected {images.shape[:1]}, a flag per example")
        mask = where.reshape(-1, *(1,) * (images.ndim - 1))
        positions = images[0, ..., 0].size
        sums = (
            jnp.sum(values, axes, where=mask),
            jnp.sum(jnp.square(values), axes, where=mask),
            jnp.sum(where, dtype=values.dtype) * positions,
        )
        if axis_name is not None:
            sums = lax.psum(sums, axis_name)
        # A batch with nothing in it has mean and variance zero, not NaN.
        count = jnp.maximum(sums[2], 1.0)
        moments = (sums[0] / count, sums[1] / count)
    mean, mean_square = moments
    return mean, jnp.maximum(mean_square - jnp.square(mean), 0.0)


def normalize(
    images: Float[Array, "batch *spatial channels"],
    mean: Float[Array, "channels"],
    variance: Float[Array, "channels"],
    *,
    scale: Float[Array, "channels"] | None = None,
    bias: Float[Array, "channels"] | None = None,
    epsilon: float = 1e-5,
    dtype: DTypeLike | None = None,
) -> Float[Array, "batch *spatial channels"]:
    r"""Normalises every channel with given statistics, in float32 (float64 where the images are).

    $$y = \gamma \, (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta$$

    The result has `dtype`, or that of the images.

    Reference: Ioffe and Szegedy (2015), "Batch Normalization", algorithm 1.
    """
    require_floating("images", images)
    precise = at_least_float32(images.dtype)
    per_channel = (1,) * (images.ndim - 1) + (-1,)
    factor = lax.rsqrt(variance.astype(precise) + epsilon)
    if scale is not None:
        factor = factor * scale.astype(precise)
    result = (images.astype(precise) - mean.astype(precise).reshape(per_channel)) * factor.reshape(per_channel)
    if bias is not None:
        result = result + bias.astype(precise).reshape(per_channel)
    return result.astype(dtype or images.dtype)


def batch_norm(
    images: Float[Array, "batch *spatial channels"],
    *,
    scale: Float[Array, "channels"] | None = None,
    bias: Float[Array, "channels"] | None = None,
    epsilon: float = 1e-5,
    where: Bool[Array, "batch"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, "batch *spatial channels"]:
    """Batch normalisation by the batch's own statistics: `normalize` after `batch_statistics`.

    Reference: Ioffe and Szegedy (2015), "Batch Normalization", algorithm 1.
    """
    mean, variance = batch_statistics(images, where=where, axis_name=axis_name)
    return normalize(images, mean, variance, scale=scale, bias=bias, epsilon=epsilon)
