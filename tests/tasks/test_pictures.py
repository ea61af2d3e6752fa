"""Small pictures: which values are drawn, and how names are cut."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from cnnjax.tasks.pictures import shorten, show_images


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_drawn_as_it_is(channels):
    image = np.random.default_rng(0).integers(0, 256, (4, 5, channels)).astype(np.uint8)
    axes = Figure().subplots()
    assert show_images([axes], [image]) == ""
    np.testing.assert_allclose(axes.images[0].get_array(), (image[..., 0] if channels == 1 else image) / 255)
    assert not axes.axison


def test_one_channel_goes_from_its_darkest_to_its_brightest_on_any_scale():
    axes = Figure().subplots()
    assert show_images([axes], [np.array([[[-2.0], [0.5]]])]) == ""
    assert axes.images[0].get_clim() == (0, 1)
    axes = Figure().subplots()
    show_images([axes], [np.array([[[51], [102]]], np.uint8)])
    np.testing.assert_allclose(axes.images[0].get_clim(), (0.2, 0.4))


def test_a_figure_says_what_its_colours_are():
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 4)).astype(np.uint8)
    axes = Figure().subplots()
    assert show_images([axes], [picture]) == "principal components of 4 channels as red, green, blue"
    assert axes.images[0].get_array().shape == (4, 5, 3)  # no transparency
    assert show_images([axes], [np.array([[[-1.0, 0, 3]]])]) == "black is -1, white 3"


@pytest.mark.parametrize(
    ("name", "expected"), [("cat", "cat"), ("twelve chars", "twelve chars"), ("x" * 13, "x" * 11 + "…")]
)
def test_long_names_end_in_an_ellipsis(name, expected):
    assert shorten(name) == expected
