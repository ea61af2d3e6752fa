"""Which pixels an answer rests on, by covering them."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnnjax.analysis.attribution import Pictures, Scores, Targets, baseline_of, prepared, score_of


def occlusion(
    net: Scores,
    images: Pictures,
    targets: Targets | None = None,
    *,
    window: int | Sequence[int] = 8,
    strides: int | Sequence[int] | None = None,
    baseline: Any = 0.0,
) -> Float[Array | np.ndarray, "batch height width"]:
    """By pixel, how much the target's score falls while it is covered: the mean over the windows that cover it.

    Args:
        net: pictures to scores.
        images: the pictures.
        targets: a class for each; the highest where left out.
        window: height and width of what is covered, in pixels, or one number for both.
        strides: from one window to the next; half a window where left out. The last window ends at the border.
        baseline: what is seen in its place, a number or a picture.

    Returns:
        A map for each picture, (batch, height, width).

    Raises:
        ValueError: pictures, scores or targets have other shapes; a window larger than the picture, or no stride.

    Reference: Zeiler and Fergus (2014), "Visualizing and Understanding Convolutional Networks", section 4.2.
    """
    images, targets, _ = prepared(net, images, targets)
    size = images.shape[1:3]
    windows = _pair(window)
    steps = tuple(max(side // 2, 1) for side in windows) if strides is None else _pair(strides)
    if any(not 1 <= side <= whole for side, whole in zip(windows, size, strict=True)) or min(steps) < 1:
        raise ValueError(f"window={windows}, strides={steps}; expected 1 to {size}, the picture's, and 1 or more")
    corners = jnp.asarray(list(itertools.product(*map(_starts, size, windows, steps))), jnp.int32)
    plain = score_of(net(images), targets)
    cover = baseline_of(images, baseline)
    places = [jnp.arange(side) for side in size]

    def add(totals: tuple[Pictures, jax.Array], corner: jax.Array) -> tuple[tuple[Pictures, jax.Array], None]:
        fall, times = totals
        inside = [
            (place >= first) & (place < first + side)
            for place, first, side in zip(places, corner, windows, strict=True)
        ]
        mask = (inside[0][:, None] & inside[1][None, :])[None]
        covered = mask.astype(images.dtype)
        lost = plain - score_of(net(jnp.where(mask[..., None], cover, images)), targets)
        return (fall + covered * lost[:, None, None], times + covered), None

    start = (jnp.zeros(images.shape[:3], images.dtype), jnp.zeros((1, *size), images.dtype))
    (fall, times), _ = jax.lax.scan(add, start, corners)
    return jnp.asarray(fall) / jnp.maximum(jnp.asarray(times), 1)


def _starts(size: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along an axis."""
    starts = list(range(0, size - window + 1, stride))
    return starts if starts[-1] == size - window else [*starts, size - window]


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    if np.size(value) not in (1, 2):
        raise ValueError(f"{value}; expected one number, or one for rows and one for columns")
    rows, columns = np.broadcast_to(value, 2)
    return int(rows), int(columns)
