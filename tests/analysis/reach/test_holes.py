"""Holes of receptive fields against an experiment: a NaN in one pixel, and where it gets to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.analysis import receptive_field
from cnnjax.functional import correlate, max_pool
from tests.analysis.probes import probe


def conv(name, x, size=3, **options):
    with jax.named_scope(name):
        return correlate(x, jnp.ones((size, size, x.shape[-1], 2)), **options)


NETS = {
    "dilated": lambda x: conv("a", x, dilation=3),
    "dilated after a dense window": lambda x: conv("b", conv("a", x), dilation=4),
    "strided past its window, then a window": lambda x: conv("b", conv("a", x, 1, strides=2)),
    "a pool of skipped pixels": lambda x: max_pool(conv("a", x, 1, strides=2), 2, strides=1),
    "other gaps along the axes": lambda x: conv("a", x, dilation=(1, 2)),
}


@pytest.mark.parametrize("name", NETS)
def test_the_pixels_seen_are_those_of_the_experiment(name):
    shape = (1, 17, 15, 1)
    fields = receptive_field(NETS[name], shape)
    last = fields.layers[-1]
    position = tuple(place or 0 for place in last.centre_position())
    assert last.box() == last.box(position)
    hit = probe(NETS[name], shape)[(slice(None), slice(None), 0, *position)].any(-1)
    assert fields.find_seen is not None
    rows, columns = fields.find_seen({last.name: position})[last.name]
    np.testing.assert_array_equal(np.logical_and.outer(rows, columns), hit)
    assert not hit[np.ix_(*(slice_of(box) for box in last.box(exact=True)))].all()  # there are holes


def slice_of(bounds):
    low, high = bounds
    return range(low, high + 1)


@pytest.mark.parametrize(
    "net",
    [lambda x: conv("b", conv("a", x), dilation=2), lambda x: conv("b", conv("a", x, strides=2), strides=2)],
    ids=["dilation that the window before fills", "strides"],
)
def test_fields_without_holes_are_not_asked(net):
    assert receptive_field(net, (1, 17, 15, 1)).find_seen is None


def test_models_without_dilation_have_no_holes_and_those_that_skip_pixels_have():
    assert receptive_field(models.create("resnet18"), (1, 64, 64, 3)).find_seen is None


def test_holes_are_faded_in_the_drawing():
    picture = np.zeros((9, 9))
    _, panel = receptive_field(NETS["dilated"], (1, 9, 9, 1)).draw(picture).axes
    lit = np.asarray(panel.images[1].get_array())[..., 0]
    # The centre unit sees rows and columns 1, 4 and 7.
    assert [tuple(map(int, place)) for place in np.argwhere(lit == 0)] == [(r, c) for r in (1, 4, 7) for c in (1, 4, 7)]
    assert set(np.unique(lit)) == {0, 0.75}
