"""Patches cut out by the exact field of the unit, and nearest examples, on pictures where both are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.analysis.patches import crop, nearest_examples, top_patches
from cnnjax.functional import correlate

IMAGES = np.random.default_rng(0).uniform(size=(6, 9, 9, 1))


def net(x):
    return correlate(x, jnp.ones((3, 3, 1, 2)) * jnp.array([[[[1.0, -1.0]]]]), strides=2, padding=[(1, 1)] * 2)


def test_patches_are_what_the_unit_sees():
    maps = np.asarray(net(jnp.asarray(IMAGES, jnp.float32)))
    found = top_patches(net, IMAGES, count=3)
    assert [(patch.channel, len(found.patches)) for patch in found.patches[::3]] == [(0, 6), (1, 6)]
    for patch in found.patches:
        sign = 1 if patch.channel == 0 else -1
        row, column = patch.position
        assert patch.box == ((2 * row - 1, 2 * row + 1), (2 * column - 1, 2 * column + 1))
        # Beyond the picture there is grey in the patch, and zero in the padding.
        inside = crop(IMAGES[patch.example], patch.box, fill=0.0)
        assert patch.value == pytest.approx(sign * inside.sum(), rel=1e-5)
        assert patch.value == pytest.approx(maps[patch.example, ..., patch.channel].max())
    values = [patch.value for patch in found.patches[:3]]
    assert values == sorted(values, reverse=True)
    assert len({patch.example for patch in found.patches[:3]}) == 3
    assert values[0] == pytest.approx(maps[..., 0].max())


def test_crops_reach_beyond_the_picture():
    image = np.arange(12.0).reshape(3, 4, 1)
    np.testing.assert_array_equal(crop(image, [(-1, 1), (2, 4)], fill=-1)[..., 0], [[-1] * 3, [2, 3, -1], [6, 7, -1]])
    np.testing.assert_array_equal(crop(image, [(5, 6), (0, 1)], fill=-1)[..., 0], np.full((2, 2), -1))


def test_maps_that_are_not_finite_are_refused():
    images = IMAGES.copy()
    images[2] = np.nan
    with pytest.raises(ValueError, match="50 of 300 numbers are NaN or infinite, on examples 2"):
        top_patches(net, images)


def test_it_is_drawn_a_line_per_channel():
    found = top_patches(net, IMAGES, count=3)
    figure = found.draw()
    assert len(figure.axes) == 6
    assert found.rows()[0].keys() == {"channel", "example", "position", "value", "pixels"}


def test_neighbours_are_the_nearest_by_angle():
    features = np.array([[1.0, 0], [10, 1], [0, 1], [1, 1], [-1, 0]])
    images = np.zeros((5, 2, 2, 1))
    found = nearest_examples(features, images, queries=(0, 4), count=2)
    assert found.nearest.tolist() == [[1, 3], [2, 3]]
    np.testing.assert_allclose(found.distances[0], [1 - 10 / np.sqrt(101), 1 - np.sqrt(0.5)])
    assert found.rows()[1] == {"query": 0, "rank": 2, "example": 3, "distance": pytest.approx(1 - np.sqrt(0.5))}
    assert len(found.draw().axes) == 6


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (255, 0), (4, -2)])
def test_pictures_are_drawn_from_black_to_white_on_any_scale(scale, shift):
    """Never as white tiles; what lies beyond the picture is grey."""
    images = np.zeros((3, 2, 2, 1))
    images[0, 0, 0], images[2] = 1, 1
    for given in (scale * images + shift, *([(255 * images).astype(np.uint8)] if shift == 0 else [])):
        figure = nearest_examples(np.eye(3), given, queries=(0,), count=2).draw()
        np.testing.assert_allclose([axes.images[0].get_array() for axes in figure.axes], images[..., 0], atol=1e-6)
    nine = np.concatenate([np.zeros((1, 9, 9, 1)), np.ones((1, 9, 9, 1))])
    first = jnp.zeros((1, 5, 5, 1)).at[0, 0, 0].set(1)
    figure = top_patches(lambda x: 0 * net(x) + first, scale * nine + shift, channels=[0], count=2).draw()
    for axes, inside in zip(figure.axes, (0, 1), strict=True):
        # The field of the first unit begins a pixel before the picture.
        expected = np.full((3, 3), inside, float)
        expected[0] = expected[:, 0] = 0.5
        np.testing.assert_allclose(axes.images[0].get_array(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: top_patches(net, IMAGES[..., 0]), r"images have the shape \(6, 9, 9\)"),
        (lambda: top_patches(lambda x: net(x).mean((1, 2)), IMAGES), r"shape \(6, 2\); expected maps"),
        (lambda: top_patches(net, IMAGES, layer="conv"), "no layer matches 'conv'; there are conv_general_dilated"),
        (lambda: top_patches(net, IMAGES, channels=[2]), r"channels \[2\]; .* has 2"),
        (lambda: top_patches(net, IMAGES, count=0), "count=0"),
        (lambda: nearest_examples(np.zeros((3, 2)), np.zeros((4, 2, 2, 1))), "3 features, 4 images"),
        (lambda: nearest_examples(np.zeros((3, 2)), np.zeros((3, 2, 2, 1)), queries=(3,), count=1), r"queries \[3\]"),
    ],
    ids=["axes", "positions", "layer", "channel", "count", "counts", "query"],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
