"""Statistics of feature maps against definitions worked out by hand."""

import numpy as np
import pytest

from cnnjax.analysis.layer_statistics import effective_rank, feature_statistics


def one(array):
    (layer,) = feature_statistics({"layer": array}).layers
    return layer


def test_moments_zeros_and_ends_of_the_range():
    array = np.array([0.0, 0, 0, 1, 2, 100, 99.5, 50]).reshape(1, 2, 2, 2)
    layer = one(array)
    assert (layer.mean, layer.spread) == (pytest.approx(array.mean()), pytest.approx(array.std()))
    assert layer.sparsity == 3 / 8
    # Within 1 of 0 or of 100: three zeros, 1, 100 and 99.5.
    assert layer.saturation == 6 / 8
    assert (layer.dead, layer.channels, layer.not_finite) == (0, 2, 0)


def test_dead_channels_are_constant_on_all_pictures():
    array = np.random.default_rng(0).normal(size=(3, 4, 4, 5))
    array[..., 1], array[..., 3] = 0.0, 7.0
    array[0, ..., 4] = 1.0  # only on one picture
    assert one(array).dead == 2


def test_effective_rank_counts_directions():
    random = np.random.default_rng(0)
    # Orthogonal columns of equal length, with means of zero.
    equal = np.linalg.qr(np.column_stack([np.ones(50), random.normal(size=(50, 6))]))[0][:, 1:]
    assert effective_rank(equal) == pytest.approx(6)
    assert effective_rank(np.outer(random.normal(size=50), random.normal(size=6))) == pytest.approx(1, abs=1e-3)
    assert effective_rank(np.ones((5, 3))) == 0
    # Singular values 3 and 1: the entropy of (3/4, 1/4).
    two = equal[:, :2] * [3, 1]
    assert effective_rank(two) == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
    # As many rows as columns, or fewer.
    wide = random.normal(size=(4, 9))
    values = np.linalg.svd(wide - wide.mean(0), compute_uv=False)[:3]
    shares = values / values.sum()
    assert effective_rank(wide) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-3)


def test_spatial_entropy_is_one_for_even_maps_and_zero_for_a_point():
    assert one(np.ones((2, 4, 4, 3))).spatial_entropy == pytest.approx(1)
    point = np.zeros((1, 4, 4, 3))
    point[0, 2, 1] = 5
    assert one(point).spatial_entropy == pytest.approx(0)
    half = np.zeros((1, 4, 4, 1))
    half[0, :2] = 1
    assert one(half).spatial_entropy == pytest.approx(np.log(8) / np.log(16))
    assert one(np.ones((2, 3))).spatial_entropy is None


def test_values_that_are_not_finite_are_counted_and_left_out():
    array = np.ones((1, 2, 2, 2))
    array[0, 0, 0, 0], array[0, 1, 1, 1] = np.nan, np.inf
    found = feature_statistics({"bad": array, "worse": np.full((1, 3), np.nan)})
    assert (found.layers[0].mean, found.layers[0].not_finite) == (1, 2)
    assert np.isnan(found.layers[1].mean)
    assert found.notes() == ["Values that are not finite, left out of the numbers: bad (2), worse (3)."]


def test_rounding_is_no_direction_and_one_value_no_dead_channel():
    # The mean of 0.1 is rounded; what does not vary has no direction all the same.
    assert effective_rank(np.full((63, 6), 0.1)) == 0
    assert one(np.full((7, 3, 3, 6), 0.1)).dead == 6
    assert one(np.ones((1, 6))).dead == 0
    # A channel is told by its finite values.
    array = np.random.default_rng(0).normal(size=(4, 3))
    array[:, 0] = 2.0
    array[0, :2] = np.nan
    assert one(array).dead == 1


@pytest.mark.usefixtures("unchecked_types")
def test_an_array_is_no_maps():
    with pytest.raises(ValueError, match="ndarray came; expected maps by layer"):
        feature_statistics(np.ones((2, 3)))


def test_tables_pictures_and_what_is_left_out():
    found = feature_statistics({"a": np.ones((2, 3)), "pair": (np.ones(2), np.ones(2)), "b": np.eye(4)[None]})
    assert [layer.name for layer in found.layers] == ["a", "b"]
    assert "effective rank" in str(found)
    assert found.draw().axes[1].get_xlabel() == "zeros / %"
    with pytest.raises(ValueError, match=r"maps: \['pair'\]; expected at least one array"):
        feature_statistics({"pair": ()})
