"""Colour spaces against the standard library, published values and scikit-image where it is installed."""

import colorsys

import numpy as np
import pytest

from cnnjax.data.proposals.colours import convert, intensity, to_hsv, to_lab, to_rgi

PICTURE = np.random.default_rng(0).integers(0, 256, (12, 9, 3)).astype(np.uint8)
PICTURE[0, :5] = [[0, 0, 0], [255, 255, 255], [7, 7, 7], [200, 200, 3], [5, 90, 90]]


def test_hsv_is_that_of_the_standard_library():
    expected = [[colorsys.rgb_to_hsv(*(pixel / 255.0)) for pixel in row] for row in PICTURE]
    np.testing.assert_allclose(to_hsv(PICTURE), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("colour", "lab"),
    [
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
    ],
)
def test_lab_of_the_primaries(colour, lab):
    """Published values of sRGB's primaries under D65."""
    np.testing.assert_allclose(to_lab(np.asarray([[colour]], np.uint8))[0, 0], lab, atol=0.02)


@pytest.mark.parametrize(("ours", "theirs"), [(to_hsv, "rgb2hsv"), (to_lab, "rgb2lab")])
def test_spaces_are_those_of_scikit_image(ours, theirs):
    color = pytest.importorskip("skimage.color")
    np.testing.assert_allclose(ours(PICTURE), getattr(color, theirs)(PICTURE), atol=1e-4)


def test_shares_and_intensity_by_hand():
    picture = np.asarray([[[50, 100, 50], [0, 0, 0]]], np.uint8)
    grey = (0.299 * 50 + 0.587 * 100 + 0.114 * 50) / 255
    np.testing.assert_allclose(to_rgi(picture), [[[0.25, 0.5, grey], [1 / 3, 1 / 3, 0]]], atol=1e-12)
    np.testing.assert_allclose(intensity(picture), [[[grey], [0]]], atol=1e-12)


@pytest.mark.parametrize(("space", "channels"), [("hsv", 3), ("lab", 3), ("rgi", 3), ("hue", 1), ("intensity", 1)])
def test_channels_are_stretched(space, channels):
    found = convert(PICTURE, space)
    assert found.shape == (12, 9, channels)
    np.testing.assert_allclose(found.min((0, 1)), 0)
    np.testing.assert_allclose(found.max((0, 1)), 1)
    assert not convert(np.full((3, 4, 3), 9, np.uint8), space).any()
