"""Cross-correlation of any rank, channels last: what the field calls convolution."""

from collections.abc import Sequence

import jax
from jax import lax
from jaxtyping import Array, Float

from cnnjax.functional.geometry import Misfit, Padding, per_axis, slide_all
from cnnjax.functional.precision import require_floating

_SPATIAL = "DHW"


def correlate(
    images: Float[Array, "batch *spatial in_channels"],
    kernel: Float[Array, "*window group_channels out_channels"],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    misfit: Misfit = "floor",
    precision: lax.PrecisionLike = None,
) -> Float[Array, "batch *positions out_channels"]:
    r"""Slides a kernel over the images and sums the products: cross-correlation, in 1, 2 or 3 dimensions.

    $$y[n, p, k] = \sum_{t, c} x[n, p s + t d - P, c] \, w[t, c, k]$$

    with stride $s$, dilation $d$ and padding $P$ per axis. With `groups` = g, the channels fall into g runs and
    output run i sees input run i alone; the kernel then has `in_channels / g` input channels.

    Raises:
        ValueError: ranks, channels or groups disagree, the data is not floating point, or the window does not
            fit (see `geometry.slide`).

    Reference: Dumoulin and Visin (2016), "A guide to convolution arithmetic for deep learning".
    """
    rank = images.ndim - 2
    _check_operands(images, kernel, groups)
    placed = slide_all(
        images.shape[1:-1],
        kernel.shape[:-2],
        strides=strides,
        padding=padding,
        dilation=dilation,
        misfit=misfit,
    )
    axes = _SPATIAL[-rank:]
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=per_axis(strides, rank, "strides"),
        padding=[(axis.before, axis.after) for axis in placed],
        rhs_dilation=per_axis(dilation, rank, "dilation"),
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=groups,
        precision=precision,
    )


def _check_operands(images: jax.Array, kernel: jax.Array, groups: int) -> None:
    rank = images.ndim - 2
    if not 1 <= rank <= 3:
        raise ValueError(
            f"images have shape {images.shape}; expected (batch, *spatial, channels) with 1 to 3 spatial axes"
        )
    if kernel.ndim != images.ndim:
        raise ValueError(
            f"kernel has shape {kernel.shape}; images of shape {images.shape} need"
            f" {rank} window axes, then input and output channels"
        )
    require_floating("images", images)
    require_floating("kernel", kernel)
    if images.dtype != kernel.dtype:
        raise ValueError(f"images are {images.dtype} and the kernel {kernel.dtype}; expected one type, so convert one")
    if groups < 1 or images.shape[-1] % groups or kernel.shape[-1] % groups:
        raise ValueError(
            f"groups={groups} must divide the {images.shape[-1]} input and {kernel.shape[-1]} output channels"
        )
    if kernel.shape[-2] * groups != images.shape[-1]:
        raise ValueError(
            f"kernel has shape {kernel.shape}, that is {kernel.shape[-2]} input channels for each of {groups}"
            f" group(s); images of shape {images.shape} need {images.shape[-1] // groups}"
        )
