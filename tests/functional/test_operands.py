"""The checks at the losses' door, and the arrays behind it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.functional.operands import (
    as_distribution,
    check_classes,
    check_regression,
    check_tags,
    in_float32,
    masked,
    require_mask,
    require_shape,
)


def test_shapes_are_refused_by_name():
    assert require_shape("boxes", jnp.ones((2, 4)), (2, 4), "rows") is None
    with pytest.raises(ValueError, match=r"boxes: shape \(2, 4\) came, \(2, 3\) was expected: rows"):
        require_shape("boxes", jnp.ones((2, 4)), (2, 3), "rows")


def test_masks_are_booleans_of_one_shape():
    assert require_mask(None, (3,)) is None
    assert require_mask(jnp.ones(3, bool), (3,)) is None
    with pytest.raises(ValueError, match=r"where: shape \(3, 1\) came, \(3,\) was expected: a flag per example"):
        require_mask(jnp.ones((3, 1), bool), (3,))
    with pytest.raises(ValueError, match="where: float32 came, bool was expected; compare first"):
        require_mask(jnp.ones(3), (3,))


def test_masked_is_zero_whatever_stands_there():
    array = jnp.asarray([[1.0, 2.0], [jnp.nan, jnp.inf]])
    np.testing.assert_array_equal(masked(array, jnp.asarray([True, False])), [[1, 2], [0, 0]])
    assert masked(array, None) is array


def test_outputs_are_floating_point_with_something_in_them():
    with pytest.raises(ValueError, match="outputs: int32 came, floating point was expected"):
        in_float32(jnp.ones(3, jnp.int32), 1, "(features)")
    for shape in ((), (3, 0)):
        with pytest.raises(ValueError, match=r"outputs: shape \(.*\) came, \(\*batch, features\) was expected"):
            in_float32(jnp.ones(shape), 1, "(*batch, features)")
    assert in_float32(jnp.ones(3, jnp.bfloat16), 1, "").dtype == jnp.float32


def test_alike_takes_one_shape_and_gives_one_type():
    outputs, targets = check_regression(
        jnp.ones((2, 3), jnp.bfloat16), jnp.ones((2, 3), jnp.uint8), jnp.asarray([True, False])
    )
    assert (outputs.dtype, targets.dtype) == (jnp.float32, jnp.float32)
    np.testing.assert_array_equal(targets, [[1, 1, 1], [0, 0, 0]])
    with pytest.raises(ValueError, match=r"targets: shape \(3,\) came, \(2, 3\) was expected: that of outputs"):
        check_regression(jnp.ones((2, 3)), jnp.ones(3), None)


def test_tags_are_clipped_by_rounding_and_nan_beyond():
    _, tags = check_tags(jnp.ones(6), jnp.asarray([0, 1, -0.007, 1.007, -0.1, 2]), None)
    np.testing.assert_array_equal(tags, [0, 1, 0, 1, np.nan, np.nan])


def test_one_class_is_none():
    with pytest.raises(ValueError, match=r"outputs: shape \(2, 1\) came, two classes or more were expected"):
        check_classes(jnp.ones((2, 1)), jnp.zeros(2, jnp.int32), None)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32"])
def test_integers_of_any_size_name_classes(dtype):
    # A byte that counts to 300 would find 3 and 259 alike.
    labels = jnp.asarray([3, 100], dtype)
    expected = np.eye(300, dtype=np.float32)[[3, 100]]
    np.testing.assert_array_equal(as_distribution(labels, (2, 300), jnp.float32, None), expected)


def test_integers_that_name_no_class_are_nan_unless_masked():
    labels = jnp.asarray([-1, 1, 3, 3], jnp.int32)
    found = as_distribution(labels, (4, 3), jnp.float32, jnp.asarray([True, True, True, False]))
    np.testing.assert_array_equal(found, [[np.nan] * 3, [0, 1, 0], [np.nan] * 3, [1, 0, 0]])


def test_distributions_stay():
    soft = jnp.asarray([[0.25, 0.75], [1.0, 0.0]])
    np.testing.assert_array_equal(as_distribution(soft, (2, 2), jnp.float32, None), soft)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.zeros((4, 1), np.int32), r"targets: shape \(4, 1\) came, \(4,\) was expected: a class for each; or, in fl"),
        (np.zeros((4, 3), np.int32), r"targets: shape \(4, 3\) came, \(4,\) was expected"),
        (
            np.zeros(4, np.float32),
            r"targets: float32 of shape \(4,\) came; expected .* integers, such as targets.astype\(jnp.int32\)",
        ),
        (np.zeros((4, 2), np.float32), r"targets: shape \(4, 2\) came, \(4, 3\) was expected"),
        (np.zeros(4, bool), "targets: bool came, floating point was expected"),
    ],
    ids=["column", "integer one-hot", "float labels", "classes", "booleans"],
)
def test_bad_labels(targets, message):
    with pytest.raises(ValueError, match=message):
        as_distribution(jnp.asarray(targets), (4, 3), jnp.float32, None)


def test_gradients_of_the_masked_are_zero():
    def total(array):
        where = jnp.asarray([True, False])
        return jnp.sum(masked(jnp.log(masked(array, where) + 1), where))

    np.testing.assert_array_equal(jax.grad(total)(jnp.asarray([1.0, jnp.nan])), [0.5, 0.0])
