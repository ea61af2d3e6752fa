"""Dropout and stochastic depth as Flax layers."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.functional.precision import require_floating
from cnnjax.layers.naming import layer_errors


class Dropout(nn.Module):
    """Flax's `Dropout`, with `train` said at the call: sets values to zero at random, and scales up what is left.

    While training, each value is zero with probability `rate` and divided by `1 - rate` otherwise; else nothing
    happens. The randomness comes from the stream "dropout":
    `model.apply(variables, images, train=True, rngs={"dropout": key})`. Where Flax's layer would have the same name,
    both drop the same values.

    Attributes:
        rate: share of the values that is dropped, 0 or more and below 1.
        broadcast_dims: axes along which all is dropped or nothing; (1, 2) drops whole channels of images, which is
            spatial dropout.

    Reference: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov (2014), "Dropout: A Simple Way to Prevent
    Neural Networks from Overfitting", section 4; Tompson, Goroshin, Jain, LeCun and Bregler (2015), "Efficient
    Object Localization Using Convolutional Networks", on SpatialDropout.
    """

    rate: float
    broadcast_dims: Sequence[int] = ()

    @nn.compact
    def __call__(self, inputs: Float[Array, "*shape"], *, train: bool) -> Float[Array, "*shape"]:
        """Drops while training.

        Raises:
            ValueError: the rate or an axis is out of range, or the inputs are not floating point; the message names
                this layer.
        """
        rank = inputs.ndim
        with layer_errors(self):
            if not 0 <= self.rate < 1:
                raise ValueError(f"rate={self.rate}; expected 0 <= rate < 1, the share that is dropped")
            if not all(-rank <= axis < rank for axis in self.broadcast_dims):
                raise ValueError(
                    f"broadcast_dims={self.broadcast_dims} of inputs of shape {inputs.shape};"
                    f" expected axes from 0 to {rank - 1}"
                )
            require_floating("inputs", inputs)
        if not train or self.rate == 0:
            return inputs
        # No child of this layer, so that the names gain no level and the key is that of this layer's own path.
        dropout = nn.Dropout(self.rate, self.broadcast_dims, parent=None).bind({})
        return dropout(inputs, deterministic=False, rng=self.make_rng("dropout"))


class StochasticDepth(nn.Module):
    r"""Skips a residual branch at random, for each example by itself, and scales it up for the others.

    While training, an example's branch is zero with probability p, the rate, and divided by $1 - p$ otherwise, so that
    its mean is the branch; else nothing happens. The randomness comes from the stream "dropout".

    Reference: Huang, Sun, Liu, Sedra and Weinberger (2016), "Deep Networks with Stochastic Depth", section 3, whose
    scaling when testing is done in training here.
    """

    @nn.compact
    def __call__(
        self, branch: Float[Array, "batch *rest"], *, rate: float | Float[Array, ""] | None, train: bool
    ) -> Float[Array, "batch *rest"]:
        """Skips while training; `rate` is 0 or more and below 1, None for never.

        Raises:
            ValueError: the rate is out of range; the message names this layer.
        """
        if isinstance(rate, int | float):
            with layer_errors(self):
                if not 0 <= rate < 1:
                    raise ValueError(f"rate={rate}; expected 0 <= rate < 1, the probability of being skipped")
        if rate is None or not train:
            return branch
        keep = 1 - jnp.asarray(rate, jnp.float32)
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, (branch.shape[0], *[1] * (branch.ndim - 1)))
        return jnp.where(kept, branch / keep.astype(branch.dtype), jnp.zeros_like(branch))
