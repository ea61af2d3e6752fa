"""Conventions of boxes against numbers by hand, and back again."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.functional import boxes

BOX = jnp.asarray([[10.0, 20.0, 16.0, 50.0]])
# The same box as others write it, on a picture of 100 rows and 40 columns.
FORMS = {
    "xywh": [10, 20, 6, 30],
    "centre": [13, 35, 6, 30],
    "voc": [11, 21, 16, 50],
    "relative": [0.25, 0.2, 0.4, 0.5],
}


@pytest.mark.parametrize("name", FORMS)
def test_there_and_back(name):
    options = ((100, 40),) if name == "relative" else ()
    there = getattr(boxes, f"to_{name}")(BOX, *options)
    np.testing.assert_allclose(there, [FORMS[name]], rtol=1e-6)
    np.testing.assert_allclose(getattr(boxes, f"from_{name}")(there, *options), BOX, rtol=1e-6)


def test_clipping():
    every = jnp.asarray([[-5.0, 30.0, 60.0, 130.0], [50.0, 0.0, 60.0, 10.0], [jnp.nan, 0.0, 5.0, 5.0]])
    cut = boxes.clip(every, (100, 40))
    np.testing.assert_array_equal(cut[:2], [[0, 30, 40, 100], [40, 0, 40, 10]])
    assert boxes.area(cut)[1] == 0
    assert np.isnan(cut[2, 0])


def test_validity():
    every = jnp.asarray(
        [[0.0, 0, 4, 3], [0, 0, 4, 0], [4, 0, 0, 3], [0, 0, jnp.inf, 3], [jnp.nan, 0, 4, 3], [-9, -9, -5, -5]]
    )
    assert boxes.is_valid(every).tolist() == [True, False, False, False, False, True]
    assert boxes.is_valid(every, smallest=3.0).tolist() == [True, False, False, False, False, True]
    assert boxes.is_valid(every, smallest=3.5).tolist() == [False, False, False, False, False, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f(boxes.clip)(BOX, (0, 4)), r"size=\(0, 4\); expected the height and the width of the picture"),
        (lambda f: f(boxes.is_valid)(BOX, smallest=-1), "smallest=-1; expected zero or more"),
        (lambda f: f(boxes.to_xywh)(BOX[:, :3]), r"boxes: shape \(1, 3\) came"),
        (lambda f: f(boxes.from_voc)(BOX.astype(int)), "boxes: int32 came, floating point was expected"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(inspect.unwrap)
