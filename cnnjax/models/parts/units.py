"""Convolution, normalisation and rectifier as one module."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from cnnjax.layers import Conv


class ConvUnit(nn.Module):
    """A rectified convolution, normalised (and then without a bias) or not.

    Attributes:
        features: channels of the output.
        kernel_size: window.
        strides: step of the window.
        padding: as that of `Conv`.
        conv: makes the convolution.
        norm: makes what normalises it before it is rectified; None for nothing.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: int = 1
    padding: Any = "SAME"
    conv: Callable[..., nn.Module] = Conv
    norm: Callable[..., nn.Module] | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch rows columns features"]:
        """Convolves, normalises, rectifies."""
        window = {"strides": self.strides, "padding": self.padding, "use_bias": self.norm is None}
        x = self.conv(self.features, self.kernel_size, name="conv", **window)(x)
        x = x if self.norm is None else self.norm(name="bn")(x, train=train)
        return nn.relu(x)
