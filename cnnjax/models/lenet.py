"""LeNet-5.

Reference: LeCun, Bottou, Bengio and Haffner (1998), "Gradient-Based Learning Applied to Document Recognition",
section II and figure 2.
"""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnjax.layers import AvgPool, Conv, Dense
from cnnjax.models.registry import Stage, register


class LeNet5(nn.Module):
    """LeNet-5 as it is taught today: every C3 map sees every S2 map, pooling is a plain mean, the output is linear.

    On 32x32 pictures of one channel and ten classes: 61,706 parameters, 416,520 multiply-accumulates; receptive
    fields C1 5, S2 6, C3 14, S4 16, C5 32. Activation tanh; kernels start as in LeCun et al. (1998b), "Efficient
    BackProp" (normal, variance 1 / fan-in), biases at zero.

    Attributes:
        num_classes: width of `output`; None ends with the 84 features of F6.
        dtype: of the computation; the inputs' own where None.
        param_dtype: of the parameters.
    """

    num_classes: int | None = 10
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    stages: ClassVar[tuple[Stage, ...]] = (Stage("s2", 6), Stage("s4", 16), Stage("c5", 120))

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits (or features) of a batch; `train` changes nothing here."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = nn.tanh(Conv(6, (5, 5), padding="VALID", name="c1", **types)(images))
        x = AvgPool(2, name="s2")(x)
        x = nn.tanh(Conv(16, (5, 5), padding="VALID", name="c3", **types)(x))
        x = AvgPool(2, name="s4")(x)
        x = nn.tanh(Conv(120, (5, 5), padding="VALID", name="c5", **types)(x))
        x = x.reshape(x.shape[0], -1)
        x = nn.tanh(Dense(84, name="f6", **types)(x))
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **types)(x)


register("lenet5", LeNet5, (32, 32, 1))
