"""Occlusion against Captum's, and by hand on a function that looks at one pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.analysis.occlusion import occlusion
from tests.analysis.captum_goldens import BASELINE, STRIDE, WINDOW
from tests.analysis.goldens_net import CHOSEN, GOLDENS, IMAGES, net


def test_equals_captum():
    find = jax.jit(lambda images: occlusion(net, images, CHOSEN, window=WINDOW, strides=STRIDE, baseline=BASELINE))
    np.testing.assert_allclose(find(IMAGES), GOLDENS["occlusion"][..., 0], rtol=1e-4, atol=1e-5)


def test_one_pixel_is_seen_by_the_windows_over_it():
    def at_three(x):
        return jnp.stack([x[:, 3, 4, 0], 0 * x[:, 0, 0, 0]], -1)

    images = jnp.ones((1, 6, 7, 1))
    found = np.asarray(occlusion(at_three, images, jnp.array([0]), window=(2, 3), strides=(2, 3)))[0]
    # Windows begin at rows 0, 2, 4 and columns 0, 3, 4 (the last ends at the border).
    expected = np.zeros((6, 7))
    expected[2:4, 3] = 1  # under one window, which covers the pixel
    expected[2:4, 4:6] = 1  # under both
    expected[2:4, 6] = 1
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(("window", "strides"), [(0, 1), (13, 1), ((2, 20), 1), (4, 0)])
def test_windows_that_do_not_fit(window, strides):
    with pytest.raises(ValueError, match=r"expected 1 to \(12, 12\), the picture's, and 1 or more"):
        occlusion(net, IMAGES, window=window, strides=strides)
