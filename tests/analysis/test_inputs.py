"""Pictures and numbers that cannot be meant are told before anything is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.analysis.inputs import as_pictures, check_finite


def test_numbers_that_are_not_finite_are_told_with_their_examples():
    array = np.ones((4, 3))
    array[1, 0] = array[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"scores: 2 of 12 numbers are NaN or infinite, on examples 1, 3; look"):
        check_finite("scores", array)
    check_finite("scores", np.ones((2, 2)))
    # Nothing is known of what is traced.
    jax.jit(lambda x: check_finite("scores", x))(jnp.full((2, 2), jnp.nan))


def test_pictures_are_floats_and_bytes_become_floats_from_0_to_1():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    found = as_pictures(levels, axes=4, from_zero_to_one=True)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, levels / 255, rtol=1e-6)
    floats = jnp.asarray(levels, jnp.bfloat16)
    np.testing.assert_array_equal(as_pictures(floats), floats)
    for dtype in (bool, np.int32, np.uint16):
        with pytest.raises(
            ValueError, match=rf"images are {np.dtype(dtype)}; expected floats, or bytes .* from 0 to 1"
        ):
            as_pictures(levels.astype(dtype))


def test_pictures_have_axes_and_values_as_expected():
    with pytest.raises(
        ValueError, match=r"shape \(4, 4, 1\); expected \(batch, height, width, channels\), and a batch axis"
    ):
        as_pictures(np.ones((4, 4, 1), np.float32), axes=4)
    with pytest.raises(ValueError, match=r"shape \(0, 4, 4, 1\)"):
        as_pictures(np.ones((0, 4, 4, 1), np.float32), axes=4)
    with pytest.raises(ValueError, match="values from 0 to 255; expected 0 to 1"):
        as_pictures(np.array([[[0.0], [255.0]]]), from_zero_to_one=True)
