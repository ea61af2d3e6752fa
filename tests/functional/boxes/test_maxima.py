"""RoIPool: bit for bit torchvision's, and the edges of its bins for every length."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.functional.boxes import roi_pool
from cnnjax.functional.boxes.maxima import _edges
from tests.functional.boxes.torchvision_goldens import BINS, FILE, SCALES, features, random_boxes

GOLDENS = np.load(FILE)


def drawn():
    boxes = random_boxes(60, 7)
    boxes[0], boxes[1] = [-50, -60, -20, -30], [10, 10, 10, 10]
    return jnp.asarray(features(8), jnp.float32), jnp.asarray(boxes)


@pytest.mark.parametrize("scale", SCALES)
def test_bins_are_torchvisions(scale):
    pixels, boxes = drawn()
    found = jax.jit(lambda pixels: roi_pool(pixels, boxes, size=BINS, scale=scale))(pixels)
    np.testing.assert_array_equal(found, GOLDENS[f"pool/{scale}"])


@pytest.mark.parametrize("scale", SCALES)
def test_the_gradient_goes_to_the_first_of_equal_values(scale):
    pixels, boxes = drawn()
    whole = jnp.round(pixels)
    gradient = jax.jit(jax.grad(lambda pixels: jnp.sum(roi_pool(pixels, boxes, size=BINS, scale=scale))))(whole)
    np.testing.assert_array_equal(gradient, GOLDENS[f"pool/{scale}/gradient"])


def test_edges_are_those_of_float32_for_every_length():
    # 32-bit rounding decides: 57 pixels in 6 bins end at 58 instead of 57.
    for bins in range(1, 15):
        length = np.arange(1, 700, dtype=np.float32)
        step = length / np.float32(bins)
        number = np.arange(bins, dtype=np.float32)
        start, end = jax.jit(_edges, static_argnums=(2, 3))(jnp.zeros(699), jnp.asarray(length - 1), bins, 10_000)
        np.testing.assert_array_equal(start, np.floor(number * step[:, None]).astype(int))
        np.testing.assert_array_equal(end, np.ceil((number + 1) * step[:, None]).astype(int))


def test_mapped_forward_and_second_derivatives():
    pixels, boxes = drawn()

    def pooled(pixels):
        return jnp.sum(roi_pool(pixels, boxes[:5], size=(2, 2), scale=0.25) ** 3)

    batch = jnp.stack([pixels, -pixels])
    together = jax.vmap(jax.grad(pooled))(batch)
    for picture in range(2):
        np.testing.assert_allclose(together[picture], jax.grad(pooled)(batch[picture]), rtol=1e-6)
    _, forward = jax.jvp(pooled, (pixels,), (pixels,))
    # Each bin is one pixel's value, so the sum of cubes is of third degree.
    np.testing.assert_allclose(forward, 3 * pooled(pixels), rtol=1e-5)
    _, second = jax.jvp(jax.grad(pooled), (pixels,), (pixels,))
    np.testing.assert_allclose(second, 2 * jax.grad(pooled)(pixels), rtol=1e-5)


def test_bad_arguments():
    function = inspect.unwrap(roi_pool)
    with pytest.raises(ValueError, match=r"size=\(0, 1\) and scale=1.0; expected numbers above zero"):
        function(jnp.zeros((4, 4, 1)), jnp.zeros((1, 4)), size=(0, 1), scale=1.0)
    with pytest.raises(ValueError, match=r"features: shape \(1, 4, 4, 1\) came; .* map over a batch with vmap"):
        function(jnp.zeros((1, 4, 4, 1)), jnp.zeros((1, 4)), size=(1, 1), scale=1.0)
    with pytest.raises(ValueError, match="features: int32 came"):
        function(jnp.zeros((4, 4, 1), jnp.int32), jnp.zeros((1, 4)), size=(1, 1), scale=1.0)
