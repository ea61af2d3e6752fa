"""The loss of labels for every pixel against a loop over the pixels."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from cnnjax.functional.losses import pixel_cross_entropy

generator = np.random.default_rng(0)
LOGITS = generator.normal(size=(2, 3, 4, 3)).astype(np.float32)
LABELS = generator.integers(0, 3, size=(2, 3, 4)).astype(np.int32)
WEIGHTS = generator.uniform(0, 3, size=(2, 3, 4)).astype(np.float32)


def by_loop(weights, class_weights, counted):
    found = []
    for example in range(2):
        total = share = 0.0
        for place in np.ndindex(3, 4):
            label = LABELS[(example, *place)]
            if counted[(example, *place)]:
                log_probabilities = scipy.special.log_softmax(LOGITS[(example, *place)].astype(np.float64))
                weight = weights[(example, *place)] * class_weights[label]
                total -= weight * log_probabilities[label]
                share += weight
        found.append(total / share)
    return found


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_loop(weighted):
    counted = (LABELS != 1) & (generator.random((2, 3, 4)) < 0.8)
    where = counted | (LABELS == 1)
    by_class = np.array([0.5, 7.0, 2.0], np.float32)
    found = pixel_cross_entropy(
        jnp.asarray(LOGITS),
        jnp.asarray(LABELS),
        weights=jnp.asarray(WEIGHTS) if weighted else None,
        class_weights=jnp.asarray(by_class) if weighted else None,
        ignored=1,
        where=jnp.asarray(where),
    )
    ones = np.ones((2, 3, 4))
    expected = by_loop(WEIGHTS, by_class, counted) if weighted else by_loop(ones, np.ones(3), counted)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_doubled_weights_change_nothing_and_nothing_costs_nothing():
    arguments = jnp.asarray(LOGITS), jnp.asarray(LABELS)
    once, twice = (pixel_cross_entropy(*arguments, weights=factor * jnp.asarray(WEIGHTS)) for factor in (1, 2))
    np.testing.assert_allclose(once, twice, rtol=1e-6)
    value, gradient = jax.value_and_grad(
        lambda logits: jnp.sum(pixel_cross_entropy(logits, jnp.full((2, 3, 4), 255), ignored=255))
    )(arguments[0])
    assert value == 0
    assert not np.asarray(gradient).any()


def test_a_label_above_the_classes_is_nan_unless_it_is_ignored():
    labels = jnp.asarray(LABELS).at[0, 0, 0].set(3)
    assert np.isnan(pixel_cross_entropy(jnp.asarray(LOGITS), labels)).tolist() == [True, False]
    assert np.isfinite(pixel_cross_entropy(jnp.asarray(LOGITS), labels, ignored=3)).all()


def test_bad_shapes():
    function = inspect.unwrap(pixel_cross_entropy)
    with pytest.raises(ValueError, match=r"weights: shape \(2, 3\) came, \(2, 3, 4\) was expected: a weight for each"):
        function(jnp.asarray(LOGITS), jnp.asarray(LABELS), weights=jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"targets: shape \(2, 3\) came"):
        function(jnp.asarray(LOGITS), jnp.asarray(LABELS)[..., 0])
    with pytest.raises(ValueError, match=r"outputs: shape \(3,\) came"):
        function(jnp.ones(3), jnp.asarray(0))
    with pytest.raises(ValueError, match=r"where: shape \(2, 3\) came"):
        function(jnp.asarray(LOGITS), jnp.asarray(LABELS), where=jnp.ones((2, 3), bool))
