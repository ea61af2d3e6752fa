"""Offsets against torchvision's, and each the inverse of the other."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.functional.boxes import decode, encode
from tests.functional.boxes.torchvision_goldens import FILE, random_boxes

GOLDENS = np.load(FILE)
WEIGHTS = [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)]


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_offsets_are_torchvisions(weights):
    with jax.enable_x64(True):
        first, second = (jnp.asarray(random_boxes(40, seed).astype(np.float64)) for seed in (1, 2))
        np.testing.assert_allclose(encode(first, second, weights=weights), GOLDENS[f"encode/{weights[0]}"], rtol=1e-11)
        # Large enough that the limit on the ratio of sides holds some of them.
        offsets = jnp.asarray(np.random.default_rng(4).normal(0, 10, (40, 4)))
        found = decode(offsets, second, weights=weights)
        np.testing.assert_allclose(found, GOLDENS[f"decode/{weights[0]}"], rtol=1e-11, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(WEIGHTS))
def test_each_is_the_inverse_of_the_other(seed, weights):
    first, second = (jnp.asarray(random_boxes(8, each)) for each in (seed, seed + 1))
    back = decode(encode(first, second, weights=weights), second, weights=weights, largest_log_ratio=None)
    np.testing.assert_allclose(back, first, atol=2e-3)


def test_the_limit():
    far = jnp.asarray([0.0, 0.0, 50.0, -50.0])
    anchor = jnp.asarray([0.0, 0.0, 16.0, 16.0])
    np.testing.assert_allclose(decode(far, anchor)[2] - decode(far, anchor)[0], 1000, rtol=1e-5)
    wide = decode(far, anchor, largest_log_ratio=None)
    np.testing.assert_allclose(wide[2] - wide[0], 16 * np.exp(50.0), rtol=1e-4)


def test_bad_arguments():
    one = jnp.ones((1, 4))
    with pytest.raises(ValueError, match=r"weights=\(1, 1, 0, 1\); expected four positive numbers"):
        inspect.unwrap(encode)(one, one, weights=(1, 1, 0, 1))
    with pytest.raises(ValueError, match=r"anchors: shape \(2, 4\) came, \(1, 4\) was expected: that of offsets"):
        inspect.unwrap(decode)(one, jnp.ones((2, 4)))
