"""Two changes of shape that the methods share."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax


def pad(images: jax.Array, margins: Sequence[tuple[int, int, int]]) -> jax.Array:
    """Zeros before, after and between the pixels along each spatial axis; negative numbers crop."""
    return lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0), *margins, (0, 0, 0)])


def split_groups(array: jax.Array, groups: int) -> jax.Array:
    """The channels as two axes, groups and the channels of one."""
    return array.reshape(*array.shape[:-1], groups, -1)
