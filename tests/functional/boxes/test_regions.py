"""RoIAlign and pyramid levels against torchvision's, and derivatives against finite differences."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.functional.boxes import pyramid_levels, pyramid_roi_align, roi_align
from tests.functional.boxes.torchvision_goldens import ALIGNED, BINS, FILE, SCALES, features, random_boxes

GOLDENS = np.load(FILE)


def drawn():
    boxes = random_boxes(60, 7)
    boxes[0], boxes[1] = [-50, -60, -20, -30], [10, 10, 10, 10]
    return features(8), jnp.asarray(boxes)


@pytest.mark.parametrize("samples", [2, None])
@pytest.mark.parametrize("aligned", ALIGNED)
@pytest.mark.parametrize("scale", SCALES)
def test_bins_and_their_gradient_are_torchvisions(scale, aligned, samples):
    pixels, boxes = drawn()
    for kind, tolerance in (("float32", 1e-5), ("float64", 1e-12)):
        with jax.enable_x64(kind == "float64"):

            def bins(pixels, kind=kind):
                rows = boxes.astype(kind)
                return roi_align(pixels, rows, size=BINS, scale=scale, aligned=aligned, samples=samples)

            key = f"align/{scale}/{aligned}/{samples or 0}/{kind}"
            found, pull_back = jax.vjp(jax.jit(bins), jnp.asarray(pixels, kind))
            np.testing.assert_allclose(found, GOLDENS[key], atol=tolerance, rtol=tolerance)
            (gradient,) = pull_back(2 * found)
            np.testing.assert_allclose(gradient, GOLDENS[f"{key}/gradient"], atol=20 * tolerance, rtol=20 * tolerance)


def test_a_pyramid_is_each_level_by_itself():
    pixels, boxes = drawn()
    maps = [jnp.asarray(part, jnp.float32) for part in (pixels, pixels[:25, :20], pixels[:9, :7])]
    levels = jnp.asarray(np.arange(60) % 3)
    for samples in (2, None):
        together = pyramid_roi_align(
            maps, boxes, levels, size=BINS, scales=(0.25, 0.125, 0.04), aligned=True, samples=samples
        )
        for level, scale in enumerate((0.25, 0.125, 0.04)):
            mine = np.flatnonzero(np.asarray(levels) == level)
            alone = roi_align(maps[level], boxes[mine], size=BINS, scale=scale, aligned=True, samples=samples)
            np.testing.assert_allclose(together[mine], alone, atol=1e-6)


def test_a_batch_is_each_picture_by_itself():
    pixels, boxes = drawn()
    batch = jnp.asarray(np.stack([pixels, pixels[::-1]]), jnp.float32)
    rows = jnp.stack([boxes, boxes[::-1]])

    def total(pixels, boxes):
        return jnp.sum(roi_align(pixels, boxes, size=(2, 2), scale=0.25, aligned=False) ** 2)

    together = jax.vmap(jax.value_and_grad(total))(batch, rows)
    for picture in range(2):
        value, gradient = jax.value_and_grad(total)(batch[picture], rows[picture])
        np.testing.assert_allclose(together[0][picture], value, rtol=1e-5)
        np.testing.assert_allclose(together[1][picture], gradient, rtol=1e-4, atol=1e-5)
    # One picture, two sets of boxes: the table is shared.
    shared = jax.vmap(lambda boxes: roi_align(batch[0], boxes, size=(2, 2), scale=0.25, aligned=False))(rows)
    np.testing.assert_allclose(
        shared[1], roi_align(batch[0], rows[1], size=(2, 2), scale=0.25, aligned=False), atol=1e-6
    )


def test_levels_are_torchvisions():
    boxes = jnp.asarray(random_boxes(200, 9, sides=(2, 1500)))
    np.testing.assert_array_equal(pyramid_levels(boxes), GOLDENS["levels"])
    # An area of zero has a logarithm of minus infinity.
    assert pyramid_levels(jnp.zeros((1, 4))).tolist() == [2]


def test_beyond_the_border():
    # By hand: up to a pixel outside the border's value, further out zero.
    pixels = jnp.full((4, 4, 1), 3.0)
    outside = jnp.asarray([[-1.4, 0.0, -0.4, 1.0], [-3.0, 0.0, -2.0, 1.0]])
    found = roi_align(pixels, outside, size=(1, 1), scale=1.0, aligned=False, samples=1)
    assert found.ravel().tolist() == [3.0, 0.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 7)}, r"size=\(0, 7\) and samples=2; expected numbers from 1 on"),
        ({"samples": 0}, "samples=0"),
        ({"scale": 0.0}, r"scales=\(0.0,\) came with 1 maps; expected a number above 0 for each"),
    ],
)
def test_bad_options(options, message):
    good = {"size": (2, 2), "scale": 1.0, "aligned": True}
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(roi_align)(jnp.zeros((4, 4, 1)), jnp.zeros((2, 4)), **{**good, **options})


def test_bad_maps():
    with pytest.raises(TypeError, match="aligned"):
        roi_align(jnp.zeros((4, 4, 1)), jnp.zeros((2, 4)), size=(1, 1), scale=1.0)
    function = inspect.unwrap(pyramid_roi_align)
    options = {"size": (1, 1), "scales": (1.0, 0.5), "aligned": True}
    with pytest.raises(ValueError, match=r"features of level 1: shape \(2, 2, 3\) came; .* with 1 channels as on"):
        function([jnp.zeros((4, 4, 1)), jnp.zeros((2, 2, 3))], jnp.zeros((2, 4)), jnp.zeros(2, int), **options)
    with pytest.raises(ValueError, match=r"scales=\(1.0, 0.5\) came with 1 maps"):
        function([jnp.zeros((4, 4, 1))], jnp.zeros((2, 4)), jnp.zeros(2, int), **options)
    with pytest.raises(ValueError, match="lowest=5, highest=2"):
        inspect.unwrap(pyramid_levels)(jnp.zeros((1, 4)), lowest=5, highest=2)
