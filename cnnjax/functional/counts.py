"""What a convolution layer costs in numbers kept: its parameters, and the activations it puts out.

Exact, on Python integers of any size; nothing here touches an array.
"""

import math
from collections.abc import Iterable, Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from cnnjax.functional.geometry import per_axis, whole


def parameter_count(
    in_channels: int,
    out_channels: int,
    window: int | Sequence[int],
    *,
    groups: int = 1,
    bias: bool = True,
    rank: int = 2,
) -> int:
    r"""Parameters of a convolution: $K (C \prod L / g + 1)$, one kernel and one bias for each of K output channels.

    With C input channels in g groups and a window of L taps per axis. `window` has one entry per axis, or is one
    integer for all of `rank` axes. A window without axes, `()`, counts a dense layer.

    Raises:
        ValueError: the groups do not divide both channel counts, or a number is not whole or too small.

    Reference: LeCun et al. (1998), "Gradient-based learning applied to document recognition", section II.B (C1);
        Krizhevsky et al. (2012), "ImageNet classification with deep convolutional neural networks", section 3.5.

    >>> parameter_count(1, 6, 5), parameter_count(3, 96, 11)
    (156, 34944)
    """
    in_channels, out_channels = whole(in_channels, "in_channels"), whole(out_channels, "out_channels")
    groups = whole(groups, "groups")
    if in_channels % groups or out_channels % groups:
        raise ValueError(f"groups={groups} must divide the {in_channels} input and {out_channels} output channels")
    return out_channels * (in_channels // groups * _cells(window, "window", rank) + int(bias))


def activation_count(sizes: int | Sequence[int], channels: int, *, batch: int = 1, rank: int = 2) -> int:
    r"""Activations of a layer: $N K \prod O$, for K channels of O positions per axis in a batch of N.

    `sizes` has one entry per axis, as `geometry.output_size` gives them, or is one integer for all of `rank` axes.

    Raises:
        ValueError: a number is not whole or too small.

    >>> activation_count(55, 96)
    290400
    """
    return whole(batch, "batch") * _cells(sizes, "sizes", rank) * whole(channels, "channels")


def activation_bytes(
    sizes: int | Sequence[int], channels: int, *, dtype: DTypeLike, batch: int = 1, rank: int = 2
) -> int:
    """Bytes that the activations of a layer take in `dtype`, of which training keeps as much again for gradients.

    Types shorter than a byte are counted as the whole byte that NumPy gives them.

    Raises:
        ValueError: `dtype` is not a type of numbers, or a number is not whole or too small.

    Three layers of 64 channels on one image, activations and gradients, in MiB:

    >>> 2 * 3 * activation_bytes((224, 224), 64, dtype="float32") / 2**20
    73.5
    """
    return activation_count(sizes, channels, batch=batch, rank=rank) * _item_bytes(dtype)


def _cells(sizes: int | Sequence[int], name: str, rank: int) -> int:
    rank = whole(rank, "rank", minimum=0)
    if isinstance(sizes, Iterable):
        sizes = tuple(sizes)
        rank = len(sizes)
    return math.prod(per_axis(sizes, rank, name))


def _item_bytes(dtype: DTypeLike) -> int:
    message = f"dtype={dtype!r} is not a type of numbers; expected one such as 'float32' or 'bfloat16'"
    # NumPy reads None as float64.
    if dtype is None:
        raise ValueError(message)
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise ValueError(message) from None
    if not (jnp.issubdtype(kind, jnp.number) or kind == np.bool_):
        raise ValueError(message)
    return kind.itemsize
