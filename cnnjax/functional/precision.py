"""Number types: what the operations take, and what they compute in."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def require_floating(name: str, array: jax.Array) -> None:
    """Raises ValueError unless the array is floating point."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{name}: {array.dtype} came, floating point was expected; convert it first")


def at_least_float32(dtype: DTypeLike) -> DTypeLike:
    """Float64 for itself, float32 for all others, such as the types below it: what statistics are computed in."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32
