"""The pyramid: nearest positions beside NumPy's indices; levels, sums and names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.models.parts.pyramid import FeaturePyramid, nearest, sizes_of, torch_name_of_pyramid


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (3, 4)], ids=["twice", "odd", "same"])
def test_nearest_positions(size):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 2)).astype(np.float32)
    rows, columns = (np.arange(side) * have // side for side, have in zip(size, x.shape[1:3], strict=True))
    np.testing.assert_array_equal(nearest(jnp.asarray(x), size), x[:, rows][:, :, columns])


def test_levels_are_smoothed_sums_and_the_last_is_every_second_place():
    maps = [jnp.full((1, 8, 8, 2), 1.0), jnp.full((1, 4, 4, 3), 2.0)]
    pyramid = FeaturePyramid(5, {})
    variables = pyramid.init(jax.random.key(0), maps)
    assert set(variables["params"]) == {"lateral1", "lateral2", "smooth1", "smooth2"}
    # 1x1 kernels of ones and 3x3 kernels that take the middle: sums are then known.
    filled = jax.tree.map(jnp.zeros_like, variables["params"])
    for name in ("lateral1", "lateral2"):
        filled[name]["kernel"] = jnp.ones_like(filled[name]["kernel"])
    for name in ("smooth1", "smooth2"):
        filled[name]["kernel"] = filled[name]["kernel"].at[1, 1].set(jnp.eye(5))
    first, second, third = pyramid.apply({"params": filled}, maps)
    np.testing.assert_allclose(second, 6.0)
    np.testing.assert_allclose(first, 2.0 + 6.0)
    assert sizes_of([first, second, third]) == ((8, 8), (4, 4), (2, 2))


def test_names_of_torchvision():
    assert torch_name_of_pyramid("lateral1", "backbone.fpn") == "backbone.fpn.inner_blocks.0.0"
    assert torch_name_of_pyramid("smooth4", "backbone.fpn") == "backbone.fpn.layer_blocks.3.0"
