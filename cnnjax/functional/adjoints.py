"""The two adjoints of `correlate`, by name: what its gradient rule calls."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnjax.functional import trilinear
from cnnjax.functional.factors import check_alike, check_groups, check_images, check_positions, place
from cnnjax.functional.geometry import Misfit, Padding, per_axis


def input_adjoint(
    kernel: Float[Array, "*window group_channels out_channels"],
    cotangent: Float[Array, "batch *positions out_channels"],
    sizes: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    input_dilation: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    misfit: Misfit = "floor",
    precision: lax.PrecisionLike = None,
) -> Float[Array, "batch *spatial in_channels"]:
    r"""The gradient of `correlate` with respect to its images, which have the spatial `sizes`.

    $$\bar x[n, q, c] = \sum_{p, t, k : \; p s + t d - P = q} \bar y[n, p, k] \, w[t, c, k]$$

    that is the full correlation of the cotangent, dilated by the stride, with the flipped kernel whose input and output
    channels have changed places.

    Raises:
        ValueError: as `correlate`, or the cotangent is not of the correlation's output shape.
    """
    kernel, cotangent = jnp.asarray(kernel), jnp.asarray(cotangent)
    check_images("cotangent", cotangent)
    check_alike("cotangent", cotangent, "kernel", kernel)
    check_groups(groups, {"output": kernel.shape[-1]})
    if kernel.shape[-1] != cotangent.shape[-1]:
        raise ValueError(
            f"cotangent has shape {cotangent.shape}; expected {kernel.shape[-1]} channels, since the kernel has shape"
            f" {kernel.shape}"
        )
    form = place(
        per_axis(sizes, kernel.ndim - 2, "sizes"),
        kernel.shape[:-2],
        strides=strides,
        padding=padding,
        input_dilation=input_dilation,
        dilation=dilation,
        groups=groups,
        misfit=misfit,
        precision=precision,
    )
    check_positions(cotangent, form)
    return trilinear.product("images", kernel, cotangent, form)


def kernel_adjoint(
    images: Float[Array, "batch *spatial in_channels"],
    cotangent: Float[Array, "batch *positions out_channels"],
    window: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    input_dilation: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    misfit: Misfit = "floor",
    precision: lax.PrecisionLike = None,
) -> Float[Array, "*window group_channels out_channels"]:
    r"""The gradient of `correlate` with respect to its kernel, whose spatial extent is `window`.

    $$\bar w[t, c, k] = \sum_{n, p} x[n, p s + t d - P, c] \, \bar y[n, p, k]$$

    that is the correlation of the images with the cotangent as kernel, dilated by the stride, summed over the batch.

    Raises:
        ValueError: as `correlate`, or the cotangent is not of the correlation's output shape.
    """
    images, cotangent = jnp.asarray(images), jnp.asarray(cotangent)
    check_images("images", images)
    check_alike("images", images, "cotangent", cotangent)
    check_groups(groups, {"input": images.shape[-1], "output": cotangent.shape[-1]})
    if images.shape[0] != cotangent.shape[0]:
        raise ValueError(
            f"cotangent has shape {cotangent.shape}, that is {cotangent.shape[0]} examples; images of shape"
            f" {images.shape} need {images.shape[0]}"
        )
    form = place(
        images.shape[1:-1],
        window,
        strides=strides,
        padding=padding,
        input_dilation=input_dilation,
        dilation=dilation,
        groups=groups,
        misfit=misfit,
        precision=precision,
    )
    check_positions(cotangent, form)
    return trilinear.product("kernel", images, cotangent, form)
