"""Normalisation as Flax layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from cnnjax.functional import normalization


class BatchNorm(nn.Module):
    """`functional.batch_norm` with scale, bias and running statistics: Flax's names and shapes.

    Parameters: `scale`, `bias` (channels,). Collection `batch_stats`: `mean`, `var` (channels,), float32.
    While training, the batch's statistics normalise and the running ones follow,
    `running = momentum * running + (1 - momentum) * batch`; otherwise the running ones normalise.

    Attributes:
        momentum: share of the old running statistics; PyTorch's 0.1 is 0.9 here.
        epsilon: added to the variance.
        axis_name: mapped axis over which the statistics are pooled, under `shard_map` or `pmap`.
        use_scale: whether a scale is learned.
        use_bias: whether a bias is learned.
        dtype: of the output; the input's own where None. The statistics are always float32.
        param_dtype: of scale and bias.
        scale_init: initial scale.
        bias_init: initial bias.

    Reference: Ioffe and Szegedy (2015), "Batch Normalization", algorithms 1 and 2.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    use_scale: bool = True
    use_bias: bool = True
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    scale_init: jax.nn.initializers.Initializer = nn.initializers.ones_init()
    bias_init: jax.nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch *spatial channels"],
        *,
        train: bool,
        where: Bool[Array, "batch"] | None = None,
    ) -> Float[Array, "batch *spatial channels"]:
        """Normalises; `where` leaves examples out of the batch's statistics."""
        shape = images.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(shape, jnp.float32))
        running_variance = self.variable("batch_stats", "var", lambda: jnp.ones(shape, jnp.float32))
        scale = self.param("scale", self.scale_init, shape, self.param_dtype) if self.use_scale else None
        bias = self.param("bias", self.bias_init, shape, self.param_dtype) if self.use_bias else None
        if train:
            axis_name = None if self.is_initializing() else self.axis_name
            mean, variance = normalization.batch_statistics(images, where=where, axis_name=axis_name)
            if not self.is_initializing():
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_variance.value = keep * running_variance.value + (1 - keep) * variance
        else:
            mean, variance = running_mean.value, running_variance.value
        return normalization.normalize(
            images, mean, variance, scale=scale, bias=bias, epsilon=self.epsilon, dtype=self.dtype
        )
