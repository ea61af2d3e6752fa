"""Weights from counts: scikit-learn's for classes, by hand for tags, and what they balance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from cnnjax.tasks import Classification, Tagging, class_weights, positive_weights

generator = np.random.default_rng(0)


def test_class_weights_are_scikit_learns():
    labels = generator.choice(4, 100, p=(0.7, 0.1, 0.15, 0.05)).astype(np.int32)
    found = class_weights(labels, 4)
    np.testing.assert_allclose(found, compute_class_weight("balanced", classes=np.arange(4), y=labels))
    assert all(type(weight) is float for weight in found)
    Classification(("a", "b", "c", "d"), class_weights=found)


def test_positive_weights_by_hand():
    tags = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 1], [0, 0, 0]])
    assert positive_weights(tags) == (3.0, 3.0, pytest.approx(1 / 3))
    assert positive_weights(tags.astype(bool)) == positive_weights(tags.astype(np.float32)) == positive_weights(tags)
    assert positive_weights(np.array([[0.5], [0.0]])) == (3.0,)


def test_with_its_weights_a_tag_costs_as_much_where_it_is_as_where_it_is_not():
    tags = (generator.uniform(size=(40, 2)) < (0.1, 0.7)).astype(np.float32)
    tags[:2] = [[1, 1], [0, 0]]
    task = Tagging(("a", "b"), positive_weights=positive_weights(tags))

    batch = {"tags": jnp.asarray(tags), "valid": jnp.ones(40, bool)}
    # At a probability of one half every decision without a weight costs log 2.
    negatives = 40 - tags.sum(axis=0)
    found = jax.jit(lambda logits: task.loss(logits, batch)[0].value)(jnp.zeros((40, 2)))
    assert found == pytest.approx(np.mean(2 * negatives / 40) * np.log(2), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_weights(np.array([0, 2]), 3), "class 1 has no example among 2.*leave the class out"),
        (lambda: class_weights(np.array([0, 0]), 3), "classes 1, 2 have no example among 2"),
        (lambda: class_weights(np.array([0, 3]), 3), "other values than 0 to 2"),
        (lambda: positive_weights(np.array([[1, 0], [0, 0]])), "tag 1 has no example among 2.*leave the tag out"),
        (lambda: positive_weights(np.array([[1, 1], [0, 1]])), "tag 1 has every example among 2"),
        (lambda: positive_weights(np.zeros((4, 8))), "tags 0, 1, 2, 3, 4 and 3 more have no example among 4"),
    ],
)
def test_counts_that_give_no_weight(call, message):
    with pytest.raises(ValueError, match=message):
        call()
