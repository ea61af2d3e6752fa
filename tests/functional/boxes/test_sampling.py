"""Samples: exact where everything fits, uniform where not; hard negatives against a sort."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.functional.boxes import hard_negatives, sample_boxes


def draw(key, positive, negative, count, positives):
    sample = sample_boxes(key, jnp.asarray(positive), jnp.asarray(negative), count=count, positives=positives)
    return np.asarray(sample.indices), np.asarray(sample.positive), np.asarray(sample.present)


def test_everything_is_drawn_where_the_quota_exceeds_the_supply():
    kinds = np.array([1, 0, 2, 1, 0, 1, 2])
    indices, positive, present = draw(jax.random.key(0), kinds == 1, kinds == 0, 8, 4)
    assert sorted(indices[positive]) == [0, 3, 5]
    assert sorted(indices[present & ~positive]) == [1, 4]
    assert present.sum() == 5
    assert not (positive & ~present).any()
    assert not indices[~present].any()


def test_negatives_take_the_places_of_missing_positives():
    kinds = np.array([1] + [0] * 9)
    indices, positive, present = draw(jax.random.key(1), kinds == 1, kinds == 0, 6, 3)
    assert indices[positive].tolist() == [0]
    assert present.all()
    assert len(set(indices.tolist())) == 6


@pytest.mark.parametrize("positives", [0, 2])
def test_no_boxes_and_no_positives(positives):
    for number in (0, 3):
        none = np.zeros(number, bool)
        assert not draw(jax.random.key(0), none, none, 4, positives)[2].any()
    _, positive, present = draw(jax.random.key(0), np.ones(3, bool), np.zeros(3, bool), 4, positives)
    assert positive.sum() == present.sum() == min(3, positives)


def test_every_choice_is_as_likely():
    positive, negative = np.arange(10) < 5, np.arange(10) >= 5
    keys = jax.random.split(jax.random.key(2), 4000)
    sample = jax.vmap(
        lambda key: sample_boxes(key, jnp.asarray(positive), jnp.asarray(negative), count=4, positives=2)
    )(keys)
    counts = np.bincount(np.asarray(sample.indices).ravel(), minlength=10)
    # Two of five each time: 1,600 of 4,000, with a deviation of 31.
    assert np.abs(counts - 1600).max() < 5 * 31
    pairs = np.sort(np.asarray(sample.indices)[:, :2], axis=1)
    assert len(np.unique(pairs, axis=0)) == 10


def test_hard_negatives_are_those_of_a_sort():
    generator = np.random.default_rng(0)
    losses = generator.integers(0, 6, (20, 30)).astype(np.float32)
    positive = generator.random((20, 30)) < np.linspace(0, 0.4, 20)[:, None]
    found = np.asarray(jax.jit(jax.vmap(hard_negatives))(jnp.asarray(losses), jnp.asarray(positive)))
    for row in range(20):
        order = sorted(np.flatnonzero(~positive[row]), key=lambda index: (-losses[row, index], index))
        assert set(np.flatnonzero(found[row])) == set(order[: 3 * positive[row].sum()])
    assert not found[~positive.any(axis=1)].any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda f: f(sample_boxes)(jax.random.key(0), jnp.ones(2, bool), jnp.ones(2, bool), count=2, positives=3),
            "positives=3 of count=2",
        ),
        (
            lambda f: f(sample_boxes)(jax.random.key(0), jnp.ones(2, bool), jnp.ones(3, bool), count=2, positives=1),
            r"where: shape \(3,\) came, \(2,\) was expected",
        ),
        (lambda f: f(hard_negatives)(jnp.ones(2), jnp.ones(2, bool), ratio=-1), "ratio=-1; expected zero or more"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(inspect.unwrap)


def test_double_precision_draws_alike():
    """Whole numbers are of 64 bits there by default, and none may meet one of 32."""
    kinds = np.array([1, 0, 2, 1, 0, 1, 2])
    losses = np.array([0.1, 5.0, 0.3, 0.2, 0.4, 0.9, 0.7])

    def found():
        drawn = draw(jax.random.key(0), kinds == 1, kinds == 0, 8, 4)
        return *drawn, np.asarray(hard_negatives(jnp.asarray(losses), jnp.asarray(kinds == 1), ratio=1))

    single = found()
    with jax.enable_x64(True):
        for ours, theirs in zip(single, found(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
