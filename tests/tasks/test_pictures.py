"""Small pictures: which values are drawn, and how names are cut."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from cnnjax.tasks.pictures import shorten, show_image


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_drawn_as_it_is(channels):
    image = np.random.default_rng(0).integers(0, 256, (4, 5, channels)).astype(np.uint8)
    axes = Figure().subplots()
    show_image(axes, image)
    np.testing.assert_array_equal(axes.images[0].get_array(), image[..., 0] if channels == 1 else image)
    assert not axes.axison


@pytest.mark.parametrize(
    ("name", "expected"), [("cat", "cat"), ("twelve chars", "twelve chars"), ("x" * 13, "x" * 11 + "…")]
)
def test_long_names_end_in_an_ellipsis(name, expected):
    assert shorten(name) == expected
