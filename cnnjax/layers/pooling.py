"""Pooling as Flax layers: no parameters, but a name, so that papers' figures and analyses can point at them."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from cnnjax.functional import pooling
from cnnjax.functional.geometry import Misfit, Padding
from cnnjax.layers.naming import layer_errors


class _Pool(nn.Module):
    """What all sliding pools have.

    Attributes:
        window: extent of the window, for all axes or for each.
        strides: step of the window; the window itself where None.
        padding: "SAME", "VALID", or integers.
        dilation: distance of the window's taps.
        misfit: what happens where the stride does not fit; "pad" is the ceil mode of other libraries.
    """

    window: int | Sequence[int]
    strides: int | Sequence[int] | None = None
    padding: Padding = "VALID"
    dilation: int | Sequence[int] = 1
    misfit: Misfit = "floor"

    def _options(self) -> dict[str, Any]:
        return {"strides": self.strides, "padding": self.padding, "dilation": self.dilation, "misfit": self.misfit}


class MaxPool(_Pool):
    """`functional.max_pool` under a name; attributes `window`, `strides`, `padding`, `dilation`, `misfit`."""

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *positions channels"]:
        """Pools; raises ValueError naming this layer where the window does not fit."""
        with layer_errors(self):
            return pooling.max_pool(images, self.window, **self._options())


class MinPool(_Pool):
    """`functional.min_pool` under a name; attributes as `MaxPool`."""

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *positions channels"]:
        """Pools; raises ValueError naming this layer where the window does not fit."""
        with layer_errors(self):
            return pooling.min_pool(images, self.window, **self._options())


class AvgPool(_Pool):
    """`functional.avg_pool` under a name; attributes as `MaxPool`.

    Attributes:
        count_padding: whether padded taps count in the mean.
    """

    count_padding: bool = False

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *positions channels"]:
        """Pools; raises ValueError naming this layer where the window does not fit."""
        with layer_errors(self):
            return pooling.avg_pool(images, self.window, count_padding=self.count_padding, **self._options())


class L2Pool(_Pool):
    """`functional.l2_pool` under a name; attributes as `MaxPool`."""

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *positions channels"]:
        """Pools; raises ValueError naming this layer where the window does not fit."""
        with layer_errors(self):
            return pooling.l2_pool(images, self.window, **self._options())


class GlobalMaxPool(nn.Module):
    """`functional.global_max_pool` under a name.

    Attributes:
        keep_dims: whether the spatial axes stay, of size one.
    """

    keep_dims: bool = False

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *ones channels"]:
        """Pools; raises ValueError naming this layer where there is nothing to pool."""
        with layer_errors(self):
            return pooling.global_max_pool(images, keep_dims=self.keep_dims)


class GlobalMinPool(nn.Module):
    """`functional.global_min_pool` under a name.

    Attributes:
        keep_dims: whether the spatial axes stay, of size one.
    """

    keep_dims: bool = False

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *ones channels"]:
        """Pools; raises ValueError naming this layer where there is nothing to pool."""
        with layer_errors(self):
            return pooling.global_min_pool(images, keep_dims=self.keep_dims)


class GlobalAvgPool(nn.Module):
    """`functional.global_avg_pool` under a name.

    Attributes:
        keep_dims: whether the spatial axes stay, of size one.
    """

    keep_dims: bool = False

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *ones channels"]:
        """Pools; raises ValueError naming this layer where there is nothing to pool."""
        with layer_errors(self):
            return pooling.global_avg_pool(images, keep_dims=self.keep_dims)


class AdaptiveMaxPool(nn.Module):
    """`functional.adaptive_max_pool` under a name.

    Attributes:
        output_size: positions along all spatial axes, or along each.
    """

    output_size: int | Sequence[int]

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *positions channels"]:
        """Pools; raises ValueError naming this layer where the size is none."""
        with layer_errors(self):
            return pooling.adaptive_max_pool(images, self.output_size)


class AdaptiveAvgPool(nn.Module):
    """`functional.adaptive_avg_pool` under a name; attribute as `AdaptiveMaxPool`."""

    output_size: int | Sequence[int]

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *positions channels"]:
        """Pools; raises ValueError naming this layer where the size is none."""
        with layer_errors(self):
            return pooling.adaptive_avg_pool(images, self.output_size)
