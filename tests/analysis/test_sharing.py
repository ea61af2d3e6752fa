"""Shared parameters against hand computation and the lecture notes' figures."""

import jax.numpy as jnp
import pytest

from cnnjax import models
from cnnjax.analysis import parameter_sharing
from cnnjax.functional import correlate


def test_sharing_is_counted_as_in_the_lecture_notes():
    # CS231n: 290,400 units of 363 weights each are 105,415,200; shared, 34,848.
    found = parameter_sharing(models.create("alexnet"), (1, 227, 227, 3))
    first = found.layers[0]
    assert (first.name, first.kernel) == ("conv1", (11, 11, 3, 96))
    assert (first.shared, first.local) == (34_848, 105_415_200)
    assert first.dense == 227 * 227 * 3 * 55 * 55 * 96
    assert len(found.layers) == 5
    (axes,) = found.draw().axes  # one unit, one axis
    assert [line.get_label() for line in axes.lines] == ["weights shared", "a kernel per position", "dense"]
    assert [line.get_xdata()[0] for line in axes.lines] == [first.shared, first.local, first.dense]


def test_sharing_within_groups_and_batches():
    def grouped(x):
        return correlate(x, jnp.ones((3, 2, 6)), groups=2, padding="VALID")

    (layer,) = parameter_sharing(grouped, (5, 10, 4)).layers
    assert (layer.shared, layer.local, layer.dense) == (36, 36 * 8, 10 * 4 * 8 * 6)
    with pytest.raises(ValueError, match="no convolution"):
        parameter_sharing(jnp.tanh, (1, 4, 1))
