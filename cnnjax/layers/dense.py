"""The dense layer: a product with a matrix, and a bias."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnjax.functional.geometry import whole
from cnnjax.layers.naming import layer_errors

Initializer = jax.nn.initializers.Initializer


class Dense(nn.Module):
    """`flax.linen.Dense` by names, shapes and initial values; says which layer it is where its inputs do not fit.

    Parameters: `kernel` (inputs, features) and `bias` (features,).

    Attributes:
        features: outputs.
        use_bias: whether a bias is added.
        dtype: of the computation; where None, what inputs and parameters promote to, as in Flax.
        param_dtype: of the parameters.
        precision: of the product, as in `jax.lax`.
        kernel_init: initial kernel.
        bias_init: initial bias.
    """

    features: int
    use_bias: bool = True
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    precision: lax.PrecisionLike = None
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, inputs: Float[Array, "*batch inputs"]) -> Float[Array, "*batch features"]:
        """Raises ValueError naming this layer where its variables are for other inputs, or `features` is below 1."""
        size = inputs.shape[-1]
        with layer_errors(self):
            features = whole(self.features, "features")
            held = self.get_variable("params", "kernel").shape[0] if self.has_variable("params", "kernel") else size
            if held != size:
                raise ValueError(
                    f"inputs of {size} features came, the variables are for {held}; apply them to images of the size"
                    " they were made for"
                )
        kernel = self.param("kernel", self.kernel_init, (size, features), self.param_dtype)
        bias = self.param("bias", self.bias_init, (features,), self.param_dtype) if self.use_bias else None
        inputs, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        outputs = jnp.matmul(inputs, kernel, precision=self.precision)
        return outputs if bias is None else outputs + bias.reshape((1,) * (outputs.ndim - 1) + (-1,))
