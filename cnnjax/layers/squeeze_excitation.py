"""Squeeze and excitation as a Flax layer: a gate per channel, from what all positions hold."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import PrecisionLike
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnjax.functional.geometry import whole
from cnnjax.functional.precision import at_least_float32, require_floating
from cnnjax.layers.dense import Dense
from cnnjax.layers.naming import layer_errors


class SqueezeExcitation(nn.Module):
    r"""Multiplies every channel of an image by a gate between 0 and 1 that all channels' means decide.

    $$z = \mathrm{mean}_{positions}(x), \qquad s = \sigma(W_2 \, \mathrm{relu}(W_1 z + b_1) + b_2), \qquad y = s \, x$$

    Submodules: `reduce`, a Dense layer to `max(1, channels // reduction)` units (a ratio that does not divide is
    rounded down, as widths are), and `increase`, a Dense layer back to the channels. 1 to 3 spatial axes.

    Attributes:
        reduction: the paper's ratio r of the bottleneck.
        dtype: of the computation and the output; the inputs' own where None. The mean is float32 or wider.
        param_dtype: of the parameters.
        precision: of the products, as in `jax.lax`.
        kernel_init: initial kernels.
        bias_init: initial biases.

    Reference: Hu, Shen and Sun (2018), "Squeeze-and-Excitation Networks", section 3, equations 2 to 4.
    """

    reduction: int = 16
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    precision: PrecisionLike = None
    kernel_init: jax.nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: jax.nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *spatial channels"]:
        """Gates.

        Raises:
            ValueError: the reduction is not a positive integer, or the images are not floating point or have not 1 to 3
                spatial axes; the message names this layer.
        """
        rank = images.ndim - 2
        with layer_errors(self):
            reduction = whole(self.reduction, "reduction")
            if not 1 <= rank <= 3:
                raise ValueError(
                    f"images have shape {images.shape}; expected (batch, *spatial, channels) with 1 to 3 spatial axes"
                )
            require_floating("images", images)
        channels = images.shape[-1]
        dtype = self.dtype or images.dtype
        options = {
            "dtype": dtype,
            "param_dtype": self.param_dtype,
            "precision": self.precision,
            "kernel_init": self.kernel_init,
            "bias_init": self.bias_init,
        }
        means = jnp.mean(images, tuple(range(1, rank + 1)), dtype=at_least_float32(images.dtype))
        hidden = nn.relu(Dense(max(1, channels // reduction), name="reduce", **options)(means))
        gate = nn.sigmoid(Dense(channels, name="increase", **options)(hidden))
        return images.astype(dtype) * gate.reshape(images.shape[0], *(1,) * rank, channels)
