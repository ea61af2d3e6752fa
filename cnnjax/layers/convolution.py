"""Convolutions as Flax layers: dense, transposed, one channel at a time, and separable."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnjax.functional import convolution, separable
from cnnjax.functional.convolution import PaddingMode
from cnnjax.functional.factors import check_axes, check_channels_last, check_groups, check_images
from cnnjax.functional.geometry import Misfit, Padding, per_axis, whole
from cnnjax.functional.precision import require_floating
from cnnjax.layers.naming import layer_errors

Initializer = jax.nn.initializers.Initializer


class _Convolution(nn.Module, kw_only=True):
    """A kernel, a bias, and what every convolution is told besides its shape."""

    padding: Padding = "SAME"
    dilation: int | Sequence[int] = 1
    use_bias: bool = True
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    precision: lax.PrecisionLike = None
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros_init()


class Conv(_Convolution):
    """`functional.correlate` with a kernel and a bias of its own: Flax's names, shapes and initial values.

    Parameters: `kernel` (*kernel_size, in_channels / groups, features) and `bias` (features,).

    Attributes:
        features: output channels.
        kernel_size: window, one integer per spatial axis; its length is the rank of the convolution.
        strides: step of the window, for all axes or for each.
        padding: "SAME", "VALID", "FULL", or integers.
        padding_mode: what lies outside: "zeros", "reflect", "edge" or "circular".
        input_dilation: distance to which the pixels are spread first, zeros between them.
        dilation: distance of the kernel's taps.
        groups: runs of channels that do not see each other.
        misfit: what happens where the stride does not fit: "floor", "error", "pad" or "crop".
        use_bias: whether a bias is added.
        dtype: of the computation; where None, what inputs and parameters promote to, as in Flax.
        param_dtype: of the parameters.
        precision: of the products, as in `jax.lax`.
        kernel_init: initial kernel.
        bias_init: initial bias.
    """

    features: int
    kernel_size: Sequence[int]
    strides: int | Sequence[int] = 1
    padding_mode: PaddingMode = "zeros"
    input_dilation: int | Sequence[int] = 1
    groups: int = 1
    misfit: Misfit = "floor"

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial in_channels"]) -> Float[Array, "batch *positions features"]:
        """Convolves; raises ValueError naming this layer where shapes do not fit."""
        with layer_errors(self):
            window, channels = _window(self.kernel_size, images), images.shape[-1]
            check_groups(self.groups, {"input": channels})
            return _convolve(
                self,
                convolution.correlate,
                images,
                (*window, channels // self.groups, whole(self.features, "features")),
                self.features,
                strides=self.strides,
                padding_mode=self.padding_mode,
                input_dilation=self.input_dilation,
                groups=self.groups,
                misfit=self.misfit,
            )


class ConvTranspose(_Convolution):
    """`functional.conv_transpose`, the exact adjoint of `Conv`, with a kernel and a bias of its own.

    Parameters: `kernel` (*kernel_size, features / groups, in_channels), as Flax has it under `transpose_kernel=True`,
    and `bias` (features,). The kernel is drawn in the layout of `Conv`'s, so that an initializer's fan-in counts the
    input channels that an output sees. The attributes not named here are those of `Conv`.

    Attributes:
        features: output channels.
        kernel_size: window, one integer per spatial axis.
        strides: factor by which the images grow, for all axes or for each.
        padding: that of the `Conv` this is the adjoint of: "SAME" for `strides` times the size, "VALID", "FULL", or
            integers, which take elements away.
        output_padding: elements added at the end of each axis, with padding in integers.
        groups: runs of channels that do not see each other.
    """

    features: int
    kernel_size: Sequence[int]
    strides: int | Sequence[int] = 1
    output_padding: int | Sequence[int] = 0
    groups: int = 1

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial in_channels"]) -> Float[Array, "batch *positions features"]:
        """Convolves; raises ValueError naming this layer where shapes do not fit."""
        with layer_errors(self):
            window, channels = _window(self.kernel_size, images), images.shape[-1]
            check_groups(self.groups, {"input": channels, "output": whole(self.features, "features")})
            return _convolve(
                self,
                convolution.conv_transpose,
                images,
                (*window, self.features // self.groups, channels),
                self.features,
                kernel_init=_transposed(self.kernel_init, self.groups),
                strides=self.strides,
                output_padding=self.output_padding,
                groups=self.groups,
            )


class DepthwiseConv(_Convolution):
    """`functional.depthwise_conv` with a kernel and a bias of its own: `Conv` with as many groups as channels.

    Parameters: `kernel` (*kernel_size, 1, channels * multiplier) and `bias` (channels * multiplier,). The attributes
    not named here are those of `Conv`.

    Attributes:
        kernel_size: window, one integer per spatial axis.
        strides: step of the window, for all axes or for each.
        multiplier: output channels for each input channel, one after another.

    Reference: Howard et al. (2017), "MobileNets", section 3.1.
    """

    kernel_size: Sequence[int]
    strides: int | Sequence[int] = 1
    multiplier: int = 1
    padding_mode: PaddingMode = "zeros"
    misfit: Misfit = "floor"

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *positions features"]:
        """Convolves; raises ValueError naming this layer where shapes do not fit."""
        with layer_errors(self):
            window, channels = _window(self.kernel_size, images), images.shape[-1]
            features = channels * whole(self.multiplier, "multiplier")
            return _convolve(
                self,
                separable.depthwise_conv,
                images,
                (*window, 1, features),
                features,
                strides=self.strides,
                padding_mode=self.padding_mode,
                misfit=self.misfit,
            )


class SeparableConv(_Convolution):
    """Depthwise separable convolution: each channel alone, then the channels of each pixel.

    Submodules: `depthwise`, a `DepthwiseConv` without a bias, which the next could absorb, and `pointwise`, a `Conv`
    of one pixel. The attributes not named here are those of `Conv`.

    Attributes:
        features: output channels.
        kernel_size: window, one integer per spatial axis.
        strides: step of the window, for all axes or for each.
        multiplier: channels between the two, for each input channel.

    Reference: Sifre (2014), "Rigid-motion scattering for image classification", section 6.2; Howard et al. (2017),
    "MobileNets", section 3.1.
    """

    features: int
    kernel_size: Sequence[int]
    strides: int | Sequence[int] = 1
    multiplier: int = 1
    padding_mode: PaddingMode = "zeros"
    misfit: Misfit = "floor"

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial in_channels"]) -> Float[Array, "batch *positions features"]:
        """Convolves twice; raises ValueError naming the layer where shapes do not fit."""
        shared = {
            name: getattr(self, name) for name in ("dtype", "param_dtype", "precision", "kernel_init", "bias_init")
        }
        middle = DepthwiseConv(
            self.kernel_size,
            self.strides,
            self.multiplier,
            self.padding_mode,
            self.misfit,
            padding=self.padding,
            dilation=self.dilation,
            use_bias=False,
            name="depthwise",
            **shared,
        )(images)
        pixel = (1,) * (images.ndim - 2)
        return Conv(self.features, pixel, use_bias=self.use_bias, name="pointwise", **shared)(middle)


def _window(kernel_size: Sequence[int], images: jax.Array) -> tuple[int, ...]:
    """The window, checked against floating-point images of its rank."""
    check_images("images", images)
    require_floating("images", images)
    if isinstance(kernel_size, int):
        raise ValueError(f"kernel_size={kernel_size}; expected one integer per spatial axis, such as (3, 3)")
    check_axes(images.shape, len(kernel_size))
    return per_axis(kernel_size, images.ndim - 2, "kernel_size")


def _convolve(
    layer: _Convolution,
    operation: Callable[..., jax.Array],
    images: jax.Array,
    shape: Sequence[int],
    features: int,
    *,
    kernel_init: Callable[..., jax.Array] | None = None,
    **options: Any,
) -> jax.Array:
    """The operation with the layer's kernel, which has this shape, and its bias."""
    if layer.has_variable("params", "kernel"):
        held = layer.get_variable("params", "kernel").shape
        if held != tuple(shape):
            check_channels_last(images.shape)
            raise ValueError(
                f"images of shape {images.shape} need a kernel of shape {tuple(shape)}, the variables hold one of"
                f" {held}; apply them to images of as many channels as they were made for"
            )
    kernel = layer.param("kernel", kernel_init or layer.kernel_init, tuple(shape), layer.param_dtype)
    bias = layer.param("bias", layer.bias_init, (features,), layer.param_dtype) if layer.use_bias else None
    images, kernel, bias = promote_dtype(images, kernel, bias, dtype=layer.dtype)
    outputs = operation(
        images, kernel, padding=layer.padding, dilation=layer.dilation, precision=layer.precision, **options
    )
    return outputs if bias is None else outputs + bias.reshape((1,) * (outputs.ndim - 1) + (-1,))


def _transposed(kernel_init: Initializer, groups: int) -> Callable[..., jax.Array]:
    """Draws in the layout of a correlation and puts inputs and outputs in each other's place within each group."""

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike) -> jax.Array:
        *window, outputs, inputs = shape
        kernel = kernel_init(key, (*window, inputs // groups, outputs * groups), dtype)
        return kernel.reshape(*window, inputs // groups, groups, outputs).swapaxes(-3, -1).reshape(shape)

    return draw
