"""A correlation without its arrays, and its three products in operations of `lax`."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
from jax import lax

from cnnjax.functional.geometry import dilated_size

Factor: TypeAlias = Literal["images", "kernel", "output"]

_SPATIAL = "DHW"


@dataclass(frozen=True)
class Correlation:
    """What a correlation is besides its arrays: one entry per spatial axis, and the groups.

    `padding` holds (before, after) and may be negative; `sizes` are those of the images, undilated.
    """

    sizes: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    input_dilation: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    precision: Any = None

    @property
    def positions(self) -> tuple[int, ...]:
        """Size of the output along each axis."""
        return tuple(
            (dilated_size(size, spread) + before + after - dilated_size(window, dilation)) // stride + 1
            for size, spread, (before, after), window, dilation, stride in zip(
                self.sizes, self.input_dilation, self.padding, self.window, self.dilation, self.strides, strict=True
            )
        )

    @property
    def layout(self) -> tuple[str, str, str]:
        """Dimension numbers of images, kernel and output, channels last."""
        axes = _SPATIAL[-len(self.sizes) :]
        return f"N{axes}C", f"{axes}IO", f"N{axes}C"


def lax_correlation(images: jax.Array, kernel: jax.Array, form: Correlation) -> jax.Array:
    """The output, by `lax.conv_general_dilated`."""
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=form.strides,
        padding=form.padding,
        lhs_dilation=form.input_dilation,
        rhs_dilation=form.dilation,
        dimension_numbers=form.layout,
        feature_group_count=form.groups,
        precision=form.precision,
    )


def result_shape(result: Factor, first: Any, second: Any, form: Correlation) -> tuple[int, ...]:
    """Shape of the factor `result`, from the two others."""
    match result:
        case "output":
            return (first.shape[0], *form.positions, second.shape[-1])
        case "images":
            return (second.shape[0], *form.sizes, first.shape[-2] * form.groups)
        case "kernel":
            return (*form.window, first.shape[-1] // form.groups, second.shape[-1])


def reference_product(first: jax.Array, second: jax.Array, *, result: Factor, form: Correlation) -> jax.Array:
    """The same by `lax.conv_general_dilated` or its transpose: what platforms without a rule of their own run."""
    if result == "output":
        return lax_correlation(first, second, form)
    missing = jax.ShapeDtypeStruct(result_shape(result, first, second, form), first.dtype)
    if result == "images":
        transpose = jax.linear_transpose(lambda images: lax_correlation(images, first, form), missing)
    else:
        transpose = jax.linear_transpose(lambda kernel: lax_correlation(first, kernel, form), missing)
    (factor,) = transpose(second)
    return factor
