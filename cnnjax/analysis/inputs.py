"""What comes in, looked at before anything is computed of it: pictures, and numbers that must be finite."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def as_pictures(images: Any, *, axes: int | None = None, from_zero_to_one: bool = False) -> jax.Array:
    """Pictures as an array of floats: bytes become floats from 0 to 1, floats stay as they are.

    Args:
        images: what came.
        axes: how many it must have; (batch, height, width, channels) are 4.
        from_zero_to_one: whether values beyond are refused.

    Raises:
        ValueError: they are other whole numbers, have other axes, are none, or lie beyond 0 and 1.
    """
    images = as_floats(images)
    if (axes is not None and images.ndim != axes) or images.ndim < 3 or not images.size:
        expected = "(batch, height, width, channels)" if axes == 4 else "(batch, *spatial, channels)"
        raise ValueError(
            f"images have the shape {images.shape}; expected {expected}, and a batch axis for one: images[None]"
        )
    if from_zero_to_one and not isinstance(images, jax.core.Tracer):
        low, high = float(images.min()), float(images.max())
        if low < -1e-3 or high > 1 + 1e-3:
            raise ValueError(
                f"images have values from {low:g} to {high:g}; expected 0 to 1: let the function standardise them"
            )
    return images


def as_floats(images: Any) -> jax.Array:
    """Bytes as floats from 0 to 1, floats as they are.

    Raises:
        ValueError: they are neither.
    """
    images = jnp.asarray(images)
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images are {images.dtype}; expected floats, or bytes (uint8), which become floats from 0 to 1:"
            " images.astype(np.uint8) where they go from 0 to 255"
        )
    return images


def check_finite(what: str, array: Any) -> None:
    """That all numbers are finite; while a function is traced nothing is known, and nothing said.

    Raises:
        ValueError: some are not; it tells how many, and on which examples.
    """
    if isinstance(array, jax.core.Tracer):
        return
    bad = ~np.isfinite(np.asarray(array, np.float64))
    if bad.any():
        examples = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
        shown = ", ".join(map(str, examples[:5])) + (", ..." if len(examples) > 5 else "")
        raise ValueError(
            f"{what}: {int(bad.sum()):,} of {bad.size:,} numbers are NaN or infinite, on examples {shown}; look at the"
            " pictures and the weights (`feature_statistics` counts such numbers layer by layer)"
        )
