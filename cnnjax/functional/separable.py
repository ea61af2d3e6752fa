"""Correlations with sparse kernels: one channel at a time, one pixel at a time, and both in turn."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnjax.functional.convolution import PaddingMode, correlate
from cnnjax.functional.factors import check_images
from cnnjax.functional.geometry import Misfit, Padding


def depthwise_conv(
    images: Float[Array, "batch *spatial channels"],
    kernel: Float[Array, "*window 1 out_channels"],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    padding_mode: PaddingMode = "zeros",
    dilation: int | Sequence[int] = 1,
    misfit: Misfit = "floor",
    precision: lax.PrecisionLike = None,
) -> Float[Array, "batch *positions out_channels"]:
    r"""Correlates every channel with kernels of its own: `correlate` with as many groups as channels.

    $$y[n, p, c m + j] = \sum_t x[n, p s + t d - P, c] \, w[t, 0, c m + j]$$

    `out_channels` is a multiple of the channels; the multiple m is the depth multiplier. The options
    are those of `correlate`, which takes `input_dilation` too.

    Raises:
        ValueError: the kernel's last axes are not 1 and a multiple of the channels, or as `correlate`.

    Reference: Howard et al. (2017), "MobileNets", section 3.1.
    """
    images, kernel = jnp.asarray(images), jnp.asarray(kernel)
    check_images("images", images)
    _check_depthwise("kernel", kernel, images)
    return correlate(
        images,
        kernel,
        strides=strides,
        padding=padding,
        padding_mode=padding_mode,
        dilation=dilation,
        groups=images.shape[-1],
        misfit=misfit,
        precision=precision,
    )


def pointwise_conv(
    images: Float[Array, "batch *spatial in_channels"],
    kernel: Float[Array, "in_channels out_channels"],
    *,
    strides: int | Sequence[int] = 1,
    precision: lax.PrecisionLike = None,
) -> Float[Array, "batch *positions out_channels"]:
    r"""Mixes the channels of every pixel alike: convolution with a window of one pixel, "1x1".

    $$y[n, p, k] = \sum_c x[n, p s, c] \, w[c, k]$$

    Raises:
        ValueError: the kernel is not a matrix, or as `correlate`.

    Reference: Lin, Chen and Yan (2014), "Network in network", section 3.1.
    """
    images, kernel = jnp.asarray(images), jnp.asarray(kernel)
    check_images("images", images)
    _check_pointwise("kernel", kernel, images.shape[-1])
    window = (1,) * (images.ndim - 2)
    return correlate(
        images, kernel.reshape(*window, *kernel.shape), strides=strides, padding="VALID", precision=precision
    )


def separable_conv(
    images: Float[Array, "batch *spatial in_channels"],
    depthwise_kernel: Float[Array, "*window 1 middle_channels"],
    pointwise_kernel: Float[Array, "middle_channels out_channels"],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    padding_mode: PaddingMode = "zeros",
    dilation: int | Sequence[int] = 1,
    misfit: Misfit = "floor",
    precision: lax.PrecisionLike = None,
) -> Float[Array, "batch *positions out_channels"]:
    """Depthwise separable convolution: `depthwise_conv`, then `pointwise_conv`.

    Equal to one dense correlation whose kernel is the product of the two, at a fraction of the cost.

    Raises:
        ValueError: as `depthwise_conv` and `pointwise_conv`.

    Reference: Sifre (2014), "Rigid-motion scattering for image classification", section 6.2; Howard et al. (2017).
    """
    images, depthwise_kernel, pointwise_kernel = map(jnp.asarray, (images, depthwise_kernel, pointwise_kernel))
    check_images("images", images)
    _check_depthwise("depthwise_kernel", depthwise_kernel, images)
    _check_pointwise("pointwise_kernel", pointwise_kernel, depthwise_kernel.shape[-1])
    middle = depthwise_conv(
        images,
        depthwise_kernel,
        strides=strides,
        padding=padding,
        padding_mode=padding_mode,
        dilation=dilation,
        misfit=misfit,
        precision=precision,
    )
    return pointwise_conv(middle, pointwise_kernel, precision=precision)


def _check_depthwise(name: str, kernel: jax.Array, images: jax.Array) -> None:
    channels = images.shape[-1]
    if kernel.ndim != images.ndim or kernel.shape[-2] != 1 or kernel.shape[-1] % channels:
        raise ValueError(
            f"{name} has shape {kernel.shape}; expected (*window, 1, a multiple of {channels}) with"
            f" {images.ndim - 2} spatial axes, since images have shape {images.shape}"
        )


def _check_pointwise(name: str, kernel: jax.Array, channels: int) -> None:
    if kernel.ndim != 2 or kernel.shape[0] != channels:
        raise ValueError(f"{name} has shape {kernel.shape}; expected ({channels}, out_channels)")
