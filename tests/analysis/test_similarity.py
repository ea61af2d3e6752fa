"""Linear CKA against its definition with HSIC, and against what it must not see."""

import numpy as np
import pytest

from cnnjax.analysis.similarity import cka, similarity

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(20, 7)), RANDOM.normal(size=(20, 5))


def hsic(k, h):
    centre = np.eye(20) - 1 / 20
    return np.trace(k @ centre @ h @ centre) / 19**2


def test_equals_the_definition():
    # Kornblith et al. (2019), equations 2 to 4.
    k, h = X @ X.T, Y @ Y.T
    assert cka(X, Y) == pytest.approx(hsic(k, h) / np.sqrt(hsic(k, k) * hsic(h, h)))


def test_rotations_scales_and_offsets_are_not_seen():
    rotation = np.linalg.qr(RANDOM.normal(size=(7, 7)))[0]
    assert cka(X, 3 * X @ rotation + 5) == pytest.approx(1)
    stretched = X * np.arange(1, 8)
    assert cka(X, stretched) < 0.999


def test_maps_are_flattened_and_constants_have_no_similarity():
    maps = RANDOM.normal(size=(20, 2, 3, 4))
    assert cka(maps, maps.reshape(20, 24)) == pytest.approx(1)
    assert np.isnan(cka(X, np.full((20, 3), 0.1)))


def test_matrices_between_layers_and_between_runs():
    found = similarity({"a": X, "b": Y, "pair": ()})
    assert (found.names, found.others) == (("a", "b"), ("a", "b"))
    np.testing.assert_allclose(found.values, [[1, cka(X, Y)], [cka(X, Y), 1]])
    other = similarity({"a": X}, {"c": Y, "d": X})
    assert other.rows() == [{"layer": "a", "c": pytest.approx(cka(X, Y)), "d": pytest.approx(1)}]
    assert [text.get_text() for text in other.draw().axes[0].get_xticklabels()] == ["c", "d"]


@pytest.mark.parametrize("call", [lambda: cka(X, Y[:5]), lambda: cka(X[:1], Y[:1])], ids=["counts", "one"])
def test_examples_must_match(call):
    with pytest.raises(ValueError, match="expected the same, two or more"):
        call()


def test_numbers_that_are_not_finite():
    with pytest.raises(ValueError, match="b: 100 of 100 numbers are NaN"):
        similarity({"a": X, "b": Y * np.nan})


def test_layers_of_other_examples():
    with pytest.raises(ValueError, match=r"maps of \[5, 20\] examples"):
        similarity({"a": X, "b": Y[:5]})
