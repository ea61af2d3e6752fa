"""Pictures become visible by one rule: scales, and the principal components of other channels than one or three."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from cnnjax.view.visible import visible

generator = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_and_floats_from_0_to_1_are_drawn_as_they_are(channels):
    pictures = generator.integers(0, 256, (3, 4, 5, channels)).astype(np.uint8)
    for given in (pictures, pictures / 255, (pictures / 255).astype(np.float32)):
        shown, note = visible(given)
        np.testing.assert_allclose(shown, pictures / 255, atol=1e-7)
        assert note == ""


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-2, 2.5), (100, 100.5)])
def test_floats_on_other_scales_are_stretched_alike_over_all_pictures(low, high):
    pictures = generator.uniform(low, high, (3, 4, 5, 3))
    pictures[0, 0, 0, 0], pictures[2, 3, 4, 2] = low, high
    shown, note = visible(pictures)
    np.testing.assert_allclose(shown, (pictures - low) / (high - low), atol=1e-12)
    assert note == f"black is {low:.3g}, white {high:.3g}"


@pytest.mark.parametrize("channels", [4, 5, 12])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_other_channels_are_the_first_three_principal_components_of_all_pixels(channels, dtype):
    mixing = generator.normal(size=(channels, channels)) * np.geomspace(1, 0.01, channels)[:, None]
    pixels = generator.normal(size=(60, channels)) @ mixing
    pixels = (255 * (pixels - pixels.min()) / np.ptp(pixels)).astype(dtype)
    pictures = [pixels[:20].reshape(4, 5, -1), pixels[20:].reshape(8, 5, -1)]
    shown, note = visible(pictures)
    assert note == f"principal components of {channels} channels as red, green, blue"
    assert [picture.shape for picture in shown] == [(4, 5, 3), (8, 5, 3)]
    expected = PCA(3).fit_transform(pixels.astype(np.float64))
    expected = (expected - expected.min(0)) / np.ptp(expected, axis=0)
    found = np.concatenate([picture.reshape(-1, 3) for picture in shown])
    for component, own in zip(found.T, expected.T, strict=True):
        # A component has two directions.
        assert min(abs(component - own).max(), abs(component - (1 - own)).max()) < 1e-6


def test_two_channels_are_two_components_and_no_blue():
    picture = np.array([[[0, 0], [200, 100], [100, 50]]], np.uint8)
    ((shown,), note) = visible([picture])
    assert note == "principal components of 2 channels as red, green"
    # All on a line: the second component is constant.
    np.testing.assert_allclose(shown, [[[0, 0.5, 0.5], [1, 0.5, 0.5], [0.5, 0.5, 0.5]]], atol=1e-12)


def test_flat_pictures_and_pixels_that_are_not_finite():
    np.testing.assert_array_equal(visible([np.full((2, 2, 5), 0.3)])[0], np.full((1, 2, 2, 3), 0.5))
    np.testing.assert_array_equal(visible([np.full((2, 2, 1), 7.0)])[0], np.zeros((1, 2, 2, 1)))
    for channels in (1, 3, 5):
        picture = generator.uniform(size=(2, 3, channels))
        picture[0, 1] = np.inf
        ((shown,), _) = visible([picture])
        assert np.argwhere(np.isnan(shown).any(-1)).tolist() == [[0, 1]]
    assert visible([]) == ([], "")


@pytest.mark.parametrize("shapes", [[(2, 2)], [(2, 2, 3), (2, 2, 1)], [(2, 0, 3)]])
def test_what_is_no_picture_is_refused(shapes):
    with pytest.raises(ValueError, match=r"expected \(height, width, channels\), of one number of channels"):
        visible([np.zeros(shape) for shape in shapes])
