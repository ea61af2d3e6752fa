"""Borders of label maps against a loop over pixels and their neighbours, and scikit-image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.functional.borders import label_borders

# Blocks that touch, and noise.
MAPS = np.stack(
    [
        np.kron(np.random.default_rng(0).integers(0, 3, (3, 4)), np.ones((3, 3), int)),
        np.random.default_rng(1).integers(0, 4, (9, 12)),
    ]
).astype(np.int32)


def one_by_one(labels, inner):
    borders = np.zeros(labels.shape, bool)
    for n, i, j in np.ndindex(*labels.shape):
        for y, x in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if 0 <= y < labels.shape[1] and 0 <= x < labels.shape[2] and labels[n, y, x] != labels[n, i, j]:
                borders[n, i, j] = labels[n, i, j] != 0 or not inner
    return borders


@pytest.mark.parametrize("inner", [False, True])
def test_every_pixel_by_hand(inner):
    found = jax.jit(label_borders, static_argnames="inner")(MAPS, inner=inner)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, one_by_one(MAPS, inner))
    # Alone, and of another type.
    np.testing.assert_array_equal(label_borders(jnp.asarray(MAPS[0], jnp.uint16), inner=inner), found[0])


@pytest.mark.parametrize(("inner", "mode"), [(False, "thick"), (True, "inner")])
def test_borders_are_scikit_images(inner, mode):
    segmentation = pytest.importorskip("skimage.segmentation")
    for labels in MAPS:
        expected = segmentation.find_boundaries(labels, connectivity=1, mode=mode)
        np.testing.assert_array_equal(label_borders(jnp.asarray(labels), inner=inner), expected)


def test_one_label_has_no_border():
    assert not label_borders(jnp.full((4, 1), 3)).any()
