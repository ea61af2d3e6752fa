"""Number types: what is refused, and what statistics are computed in."""

import jax
import jax.numpy as jnp
import pytest

from cnnjax.functional.precision import at_least_float32, require_floating


@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool", "complex64"])
def test_other_types_are_refused_by_name(dtype):
    with pytest.raises(ValueError, match=f"pictures: {dtype} came, floating point was expected; convert it first"):
        require_floating("pictures", jnp.zeros(3, dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_floating_point_passes(dtype):
    assert require_floating("pictures", jnp.zeros(3, dtype)) is None


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (jnp.float16, "float32"),
        (jnp.bfloat16, "float32"),
        (jnp.float8_e4m3fn, "float32"),
        (jnp.dtype("float32"), "float32"),
    ],
    ids=str,
)
def test_types_below_float32_become_float32(dtype, expected):
    assert at_least_float32(dtype) == jnp.dtype(expected)


def test_float64_stays():
    with jax.enable_x64(True):
        assert at_least_float32(jnp.float64) == jnp.dtype("float64")
