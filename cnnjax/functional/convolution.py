"""Cross-correlation, true convolution and transposed convolution in 1, 2 or 3 dimensions, channels last.

What the field calls convolution is `correlate`. Every function here, and every derivative of any of them, is a case of
`trilinear.product`; the adjoints by name are in `adjoints`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnjax.functional import trilinear
from cnnjax.functional.correlation import Correlation
from cnnjax.functional.factors import check_alike, check_groups, check_images, place, precision_in_force
from cnnjax.functional.geometry import Misfit, Padding, per_axis, slide_all_transposed

PaddingMode: TypeAlias = Literal["zeros", "reflect", "edge", "circular"]

_NUMPY_MODES = {"reflect": "reflect", "edge": "edge", "circular": "wrap"}


def correlate(
    images: Float[Array, "batch *spatial in_channels"],
    kernel: Float[Array, "*window group_channels out_channels"],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    padding_mode: PaddingMode = "zeros",
    input_dilation: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    misfit: Misfit = "floor",
    precision: lax.PrecisionLike = None,
) -> Float[Array, "batch *positions out_channels"]:
    r"""Slides a kernel over the images and sums the products: cross-correlation, in 1, 2 or 3 dimensions.

    $$y[n, p, k] = \sum_{t, c} x[n, p s + t d - P, c] \, w[t, c, k]$$

    with stride $s$, dilation $d$ and padding $P$ per axis. With `groups` = g, the channels fall into g runs and
    output run i sees input run i alone; the kernel then has `in_channels / g` input channels.

    `input_dilation` puts zeros between the pixels first. `padding_mode` says what lies outside: "zeros"; "reflect", the
    picture mirrored at its border pixel; "edge", the border pixel repeated; "circular", the picture repeated.

    Raises:
        ValueError: ranks, types, channels or groups disagree, the data is not floating point, the window does not
            fit (see `geometry.slide`), or the padding mode is unknown.

    Reference: Dumoulin and Visin (2016), "A guide to convolution arithmetic for deep learning".
    """
    images, kernel = jnp.asarray(images), jnp.asarray(kernel)
    check_images("images", images)
    check_alike("images", images, "kernel", kernel)
    check_groups(groups, {"input": images.shape[-1], "output": kernel.shape[-1]})
    if kernel.shape[-2] * groups != images.shape[-1]:
        raise ValueError(
            f"kernel has shape {kernel.shape}, that is {kernel.shape[-2]} input channels for each of {groups}"
            f" group(s); images of shape {images.shape} need {images.shape[-1] // groups}"
        )
    if padding_mode not in get_args(PaddingMode):
        raise ValueError(f"padding_mode={padding_mode!r} is unknown; expected {', '.join(get_args(PaddingMode))}")
    form = place(
        images.shape[1:-1],
        kernel.shape[:-2],
        strides=strides,
        padding=padding,
        input_dilation=input_dilation,
        dilation=dilation,
        groups=groups,
        misfit=misfit,
        precision=precision,
    )
    if padding_mode != "zeros":
        images, form = _pad_with(images, padding_mode, form)
    return trilinear.product("output", images, kernel, form)


def convolve(
    images: Float[Array, "batch *spatial in_channels"],
    kernel: Float[Array, "*window group_channels out_channels"],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "FULL",
    padding_mode: PaddingMode = "zeros",
    input_dilation: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    misfit: Misfit = "floor",
    precision: lax.PrecisionLike = None,
) -> Float[Array, "batch *positions out_channels"]:
    r"""True convolution: `correlate` with the kernel flipped along every spatial axis.

    $$y[n, p, k] = \sum_{t, c} x[n, p s - t d + P', c] \, w[t, c, k]$$

    Over the whole overlap ("FULL", stride 1), convolution is commutative and associative; correlation is neither.

    Raises:
        ValueError: as `correlate`.
    """
    return correlate(
        images,
        _flip(jnp.asarray(kernel)),
        strides=strides,
        padding=padding,
        padding_mode=padding_mode,
        input_dilation=input_dilation,
        dilation=dilation,
        groups=groups,
        misfit=misfit,
        precision=precision,
    )


def conv_transpose(
    images: Float[Array, "batch *spatial in_channels"],
    kernel: Float[Array, "*window group_channels in_channels"],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    precision: lax.PrecisionLike = None,
) -> Float[Array, "batch *positions out_channels"]:
    r"""Transposed convolution: the exact adjoint of `correlate` with the same kernel, strides and padding.

    $$\langle \mathrm{correlate}(z, w), x \rangle = \langle z, \mathrm{conv\_transpose}(x, w) \rangle$$

    so it makes pictures larger where `correlate` makes them smaller: by PyTorch's sizes for padding in integers,
    `strides` times the size for "SAME" (see `geometry.slide_transposed`). The kernel is that of the correlation, its
    input channels being what comes out here: `out_channels = group_channels * groups`.

    Raises:
        ValueError: ranks, types, channels or groups disagree, the data is not floating point, or the sizes do not fit
            (see `geometry.slide_transposed`).

    Reference: Dumoulin and Visin (2016), section 4; Zeiler et al. (2010), "Deconvolutional networks".
    """
    images, kernel = jnp.asarray(images), jnp.asarray(kernel)
    check_images("images", images)
    check_alike("images", images, "kernel", kernel)
    check_groups(groups, {"input": images.shape[-1]})
    if kernel.shape[-1] != images.shape[-1]:
        raise ValueError(
            f"kernel has shape {kernel.shape}; expected (*window, output channels / groups, {images.shape[-1]}),"
            f" since images have shape {images.shape}"
        )
    rank = images.ndim - 2
    placed = slide_all_transposed(
        images.shape[1:-1],
        kernel.shape[:-2],
        strides=strides,
        padding=padding,
        dilation=dilation,
        output_padding=output_padding,
    )
    form = Correlation(
        sizes=tuple(axis.output for axis in placed),
        window=kernel.shape[:-2],
        strides=per_axis(strides, rank, "strides"),
        padding=tuple((axis.before, axis.after) for axis in placed),
        input_dilation=(1,) * rank,
        dilation=per_axis(dilation, rank, "dilation"),
        groups=groups,
        precision=precision_in_force(precision),
    )
    return trilinear.product("images", kernel, images, form)


def _flip(kernel: jax.Array) -> jax.Array:
    return jnp.flip(kernel, range(kernel.ndim - 2))


def _pad_with(images: jax.Array, mode: PaddingMode, form: Correlation) -> tuple[jax.Array, Correlation]:
    """The images padded with what `mode` says, and the form of a correlation that pads nothing any more."""
    rank = len(form.sizes)
    spread = [(0, 0, step - 1) for step in form.input_dilation]
    images = lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0), *spread, (0, 0, 0)])
    grown = [(max(before, 0), max(after, 0)) for before, after in form.padding]
    cropped = [(min(before, 0), min(after, 0), 0) for before, after in form.padding]
    images = jnp.pad(images, [(0, 0), *grown, (0, 0)], mode=_NUMPY_MODES[mode])
    images = lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0), *cropped, (0, 0, 0)])
    sizes = images.shape[1:-1]
    return images, replace(form, sizes=sizes, padding=((0, 0),) * rank, input_dilation=(1,) * rank)
