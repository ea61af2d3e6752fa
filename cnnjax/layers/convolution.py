"""Convolution as a Flax layer."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnjax.functional import convolution
from cnnjax.functional.geometry import Misfit, Padding
from cnnjax.layers.naming import layer_errors


class Conv(nn.Module):
    """`functional.correlate` with a kernel and a bias of its own: Flax's names, shapes and initial values.

    Parameters: `kernel` (*kernel_size, in_channels / groups, features) and `bias` (features,).

    Attributes:
        features: output channels.
        kernel_size: window, one integer per spatial axis; its length is the rank of the convolution.
        strides: step of the window, for all axes or for each.
        padding: "SAME", "VALID", "FULL", or integers.
        dilation: distance of the kernel's taps.
        groups: runs of channels that do not see each other.
        misfit: what happens where the stride does not fit: "floor", "error", "pad" or "crop".
        use_bias: whether a bias is added.
        dtype: of the computation; the inputs' own where None.
        param_dtype: of the parameters.
        precision: of the products, as in `jax.lax`.
        kernel_init: initial kernel.
        bias_init: initial bias.
    """

    features: int
    kernel_size: Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding = "SAME"
    dilation: int | Sequence[int] = 1
    groups: int = 1
    misfit: Misfit = "floor"
    use_bias: bool = True
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    precision: lax.PrecisionLike = None
    kernel_init: jax.nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: jax.nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial in_channels"]) -> Float[Array, "batch *positions features"]:
        """Convolves; raises ValueError naming this layer where shapes do not fit."""
        with layer_errors(self):
            if isinstance(self.kernel_size, int):
                raise ValueError(
                    f"kernel_size={self.kernel_size}; expected one integer per spatial axis, such as (3, 3)"
                )
            if self.groups < 1 or images.shape[-1] % self.groups:
                raise ValueError(f"groups={self.groups} must divide the {images.shape[-1]} input channels")
            shape = (*self.kernel_size, images.shape[-1] // self.groups, self.features)
            kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
            bias = self.param("bias", self.bias_init, shape[-1:], self.param_dtype) if self.use_bias else None
            images, kernel, bias = promote_dtype(images, kernel, bias, dtype=self.dtype)
            outputs = convolution.correlate(
                images,
                kernel,
                strides=self.strides,
                padding=self.padding,
                dilation=self.dilation,
                groups=self.groups,
                misfit=self.misfit,
                precision=self.precision,
            )
        return outputs if bias is None else outputs + bias.reshape((1,) * (outputs.ndim - 1) + (-1,))
