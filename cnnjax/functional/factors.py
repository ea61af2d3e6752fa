"""What the functions of convolution are called with: the checks at the door, and the form they agree on."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax import lax

from cnnjax.functional.correlation import Correlation
from cnnjax.functional.geometry import Misfit, Padding, per_axis, slide_all, whole
from cnnjax.functional.precision import require_floating


def check_images(name: str, images: jax.Array) -> None:
    """Raises ValueError unless there are 1 to 3 spatial axes between batch and channels."""
    if not 3 <= images.ndim <= 5:
        raise ValueError(
            f"{name}: shape {images.shape} came; expected (batch, *spatial, channels) with 1 to 3 spatial axes"
        )


def check_axes(shape: Sequence[int], spatial: int) -> None:
    """Raises ValueError unless images of that shape have so many spatial axes; says which axis lacks, and the cure."""
    lacking = spatial + 2 - len(shape)
    if not lacking:
        return
    cures = {
        1: "the batch axis is missing: pass images[None]"
        if shape[-1] <= 4
        else "the channel axis is missing, then pass images[..., None], or the batch axis, then images[None]",
        2: "batch and channel axes are missing: pass images[None, ..., None]",
    }
    cure = cures.get(lacking, f"the window has {spatial} axes: give it {len(shape) - 2}")
    raise ValueError(
        f"images: shape {tuple(shape)} came; expected (batch, *spatial, channels) with {spatial} spatial axes, as the"
        f" window has; {cure}"
    )


def check_channels_last(shape: Sequence[int]) -> None:
    """Raises ValueError where a batch of pictures has 1 or 3 rows and as many channels as columns: PyTorch's order."""
    if len(shape) == 4 and shape[1] in (1, 3) and shape[2] == shape[3] > 4:
        raise ValueError(
            f"pictures of shape {tuple(shape)} have their channels first; expected (batch, height, width, channels):"
            " pass np.moveaxis(pictures, 1, -1)"
        )


def check_alike(name: str, array: jax.Array, other_name: str, other: jax.Array) -> None:
    """Raises ValueError unless both are floating point, of one type and of one rank."""
    require_floating(name, array)
    require_floating(other_name, other)
    if array.dtype != other.dtype:
        raise ValueError(
            f"{name} came as {array.dtype}, {other_name} as {other.dtype}; expected one type, so convert one"
        )
    if array.ndim != other.ndim:
        raise ValueError(
            f"{name} of shape {array.shape} came with {other_name} of shape {other.shape}; expected one rank, that is"
            f" as many spatial axes in both (a picture alone needs a batch axis, a grey one a channel axis)"
        )


def check_groups(groups: int, channels: Mapping[str, int]) -> None:
    """Raises ValueError unless the groups divide the channels, which are given by what they are."""
    whole(groups, "groups")
    if any(number % groups for number in channels.values()):
        numbers = " and ".join(f"{number} {name}" for name, number in channels.items())
        raise ValueError(f"groups={groups} must divide the {numbers} channels")


def check_positions(cotangent: jax.Array, form: Correlation) -> None:
    """Raises ValueError unless the cotangent has the spatial shape of the correlation's output."""
    if cotangent.shape[1:-1] != form.positions:
        raise ValueError(
            f"cotangent has shape {cotangent.shape}; a window of {form.window} over {form.sizes} stands at"
            f" {form.positions}, so expected (batch, {', '.join(map(str, form.positions))}, channels)"
        )


def precision_in_force(precision: lax.PrecisionLike) -> Any:
    """The precision, or where it is None that of `jax.default_matmul_precision` around the call."""
    # Written down here, because the product is lowered to `lax` only when that context is left.
    precision = jax.config.jax_default_matmul_precision if precision is None else precision
    if isinstance(precision, Sequence) and not isinstance(precision, str):
        if any(each != precision[0] for each in precision):
            raise ValueError(f"precision={precision!r}; expected one for both operands, which derivatives exchange")
        return tuple(precision)
    return precision


def place(
    sizes: Sequence[int],
    window: Sequence[int],
    *,
    strides: int | Sequence[int],
    padding: Padding,
    input_dilation: int | Sequence[int],
    dilation: int | Sequence[int],
    groups: int,
    misfit: Misfit,
    precision: lax.PrecisionLike,
) -> Correlation:
    """The form of a correlation of a window over images of the spatial `sizes`.

    Raises:
        ValueError: as `geometry.slide_all`.
    """
    rank = len(sizes)
    placed = slide_all(
        sizes,
        window,
        strides=strides,
        padding=padding,
        dilation=dilation,
        misfit=misfit,
        input_dilation=input_dilation,
    )
    return Correlation(
        sizes=per_axis(sizes, rank, "sizes"),
        window=per_axis(window, rank, "window"),
        strides=per_axis(strides, rank, "strides"),
        padding=tuple((axis.before, axis.after) for axis in placed),
        input_dilation=per_axis(input_dilation, rank, "input_dilation"),
        dilation=per_axis(dilation, rank, "dilation"),
        groups=groups,
        precision=precision_in_force(precision),
    )
