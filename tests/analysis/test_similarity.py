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
    assert cka(X, Y, debiased=False) == pytest.approx(hsic(k, h) / np.sqrt(hsic(k, k) * hsic(h, h)))


def unbiased_hsic(k, h):
    """Song et al. (2012), equation 5."""
    count, one = len(k), np.ones(len(k))
    k, h = (gram - np.diag(np.diag(gram)) for gram in (k, h))
    whole = (one @ k @ one) * (one @ h @ one) / ((count - 1) * (count - 2))
    return (np.trace(k @ h) + whole - 2 / (count - 2) * (one @ k @ h @ one)) / (count * (count - 3))


@pytest.mark.parametrize("examples", [4, 9, 20])
def test_debiased_equals_the_definition(examples):
    x, y = X[:examples], Y[:examples] + 3
    k, h = x @ x.T, y @ y.T
    expected = unbiased_hsic(k, h) / np.sqrt(unbiased_hsic(k, k) * unbiased_hsic(h, h))
    assert cka(x, y) == pytest.approx(expected, rel=1e-9)
    assert cka(x, x) == pytest.approx(1)


@pytest.mark.parametrize("examples", [8, 64])
def test_independent_draws_are_unlike(examples):
    draws = np.random.default_rng(1)
    found = [cka(*draws.normal(size=(2, examples, 256))) for _ in range(100)]
    # Their mean is 0, and each strays by about the root of 2 / (n (n - 3)).
    scatter = np.sqrt(2 / (examples * (examples - 3)))
    assert abs(np.mean(found)) < 3 * scatter / 10
    assert np.std(found) == pytest.approx(scatter, rel=0.3)
    # 1 / (1 + (n - 1) / features) is what plain CKA comes to.
    plain = cka(*draws.normal(size=(2, examples, 256)), debiased=False)
    assert plain == pytest.approx(1 / (1 + (examples - 1) / 256), abs=0.02)


def test_few_examples_are_remarked():
    maps = {"a": X[:8], "b": Y[:8]}
    found = similarity(maps)
    assert (found.debiased, found.examples) == (True, 8)
    assert "8 examples are few: unrelated layers would scatter by about 0.22 around 0." in str(found)
    plain = similarity(maps, debiased=False)
    # The mean over all orders, by drawing orders.
    orders = np.random.default_rng(0)
    means = [cka(X[:8], Y[orders.permutation(8)], debiased=False) for _ in range(2000)]
    assert plain.chance[0, 1] == pytest.approx(np.mean(means), abs=0.01)
    assert "8 examples are few: unrelated layers would have up to" in str(plain)
    assert similarity({"a": X}).notes() == []
    many = np.random.default_rng(0).normal(size=(200, 3))
    assert similarity({"a": many}, debiased=False).notes() == []


def test_examples_that_are_equally_far_apart_have_no_debiased_similarity():
    assert np.isnan(cka(np.eye(5), X[:5]))


def test_rotations_scales_and_offsets_are_not_seen():
    rotation = np.linalg.qr(RANDOM.normal(size=(7, 7)))[0]
    assert cka(X, 3 * X @ rotation + 5) == pytest.approx(1)
    stretched = X * np.arange(1, 8)
    for debiased in (True, False):
        assert cka(X, stretched, debiased=debiased) < 0.999


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


@pytest.mark.parametrize(("one", "other"), [(X, Y[:5]), (X[:1], Y[:1]), (X[:3], Y[:3])], ids=["counts", "1", "3"])
def test_examples_must_match(one, other):
    with pytest.raises(ValueError, match="expected the same, four or more"):
        cka(one, other)


def test_plain_cka_takes_two_examples():
    assert cka(X[:2], Y[:2], debiased=False) == pytest.approx(1)
    with pytest.raises(ValueError, match="expected the same, two or more"):
        cka(X[:1], Y[:1], debiased=False)
    with pytest.raises(ValueError, match=r"maps of \[3\] examples; expected one number for all layers, four or more"):
        similarity({"a": X[:3]})


def test_numbers_that_are_not_finite():
    with pytest.raises(ValueError, match="b: 100 of 100 numbers are NaN"):
        similarity({"a": X, "b": Y * np.nan})


def test_layers_of_other_examples():
    with pytest.raises(ValueError, match=r"maps of \[5, 20\] examples"):
        similarity({"a": X, "b": Y[:5]})
