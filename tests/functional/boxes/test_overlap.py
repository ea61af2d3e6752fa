"""Boxes against counted cells of a grid, and against values by hand."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cnnjax.functional.boxes import (
    area,
    ciou,
    diou,
    giou,
    iou,
    pairwise_giou,
    pairwise_iou,
)
from tests.functional.boxes.torchvision_goldens import FILE, near_to
from tests.functional.boxes.torchvision_goldens import random_boxes as drawn

SIZE = 12
OVERLAPS = [iou, giou]
PAIRWISE = [pairwise_iou, pairwise_giou]
# Points, lines and inverted boxes, within, on the edge of, and away from the first.
DEGENERATE = [
    [0, 0, 4, 4],
    [1, 1, 1, 1],
    [1, 1, 3, 1],
    [4, 4, 4, 4],
    [9, 9, 9, 9],
    [3, 3, 1, 1],
    [3, 1, 1, 3],
    [9, 9, 7, 7],
    [1, 1, 1 + 1e-7, 1 + 1e-7],
]


def random_boxes(seed, number):
    corners = np.random.default_rng(seed).integers(0, SIZE, size=(number, 2, 2))
    return np.concatenate([corners.min(1), corners.max(1) + 1], axis=-1)


def cells(box):
    """The grid's cells that a box of whole coordinates covers."""
    grid = np.zeros((SIZE, SIZE), bool)
    grid[box[0] : box[2], box[1] : box[3]] = True
    return grid


def counted(box, other):
    """IoU and GIoU by counting."""
    common, union = (cells(box) & cells(other)).sum(), (cells(box) | cells(other)).sum()
    enclosing = cells(np.concatenate([np.minimum(box, other)[:2], np.maximum(box, other)[2:]])).sum()
    return common / union, common / union - (enclosing - union) / enclosing


def test_area_and_overlaps_are_counted_cells():
    first, second = random_boxes(0, 30), random_boxes(1, 30)
    expected = np.asarray([counted(*pair) for pair in zip(first, second, strict=True)])
    arrays = jnp.asarray(first, jnp.float32), jnp.asarray(second, jnp.float32)
    np.testing.assert_array_equal(area(arrays[0]), [cells(box).sum() for box in first])
    for column, overlap in enumerate(OVERLAPS):
        np.testing.assert_allclose(jax.jit(overlap)(*arrays), expected[:, column], rtol=1e-6, atol=1e-7)
        mapped = jax.vmap(overlap)(*(array.reshape(5, 6, 4) for array in arrays))
        np.testing.assert_allclose(mapped.ravel(), expected[:, column], rtol=1e-6, atol=1e-7)


def test_pairwise_is_every_pair():
    first, second = random_boxes(2, 5), random_boxes(3, 7)
    expected = np.asarray([[counted(box, other) for other in second] for box in first])
    for column, overlap in enumerate(PAIRWISE):
        found = jax.jit(overlap)(jnp.asarray(first, jnp.float32), jnp.asarray(second, jnp.float32))
        np.testing.assert_allclose(found, expected[..., column], rtol=1e-6, atol=1e-7)
    assert pairwise_iou(jnp.ones((0, 4)), jnp.ones((3, 4))).shape == (0, 3)


def test_empty_boxes_overlap_nothing():
    every = jnp.asarray(DEGENERATE, jnp.float32)
    np.testing.assert_array_equal(area(every)[1:8], np.zeros(7))
    overlaps = np.array(pairwise_iou(every, every))
    # 1e-7 rounds to 1.2e-7 beside 1, and so small an area still has a share.
    assert 0 < overlaps[0, 8] < 1e-14
    np.testing.assert_array_equal(overlaps[1:8], np.zeros((7, 9)))


def test_generalized_overlap_of_empty_boxes():
    whole = jnp.asarray([0.0, 0.0, 4.0, 4.0])
    # A point inside adds nothing to enclose; outside, at (9, 9), 81 cells are enclosed and 16 covered.
    for box, expected in [((1, 1, 1, 1), 0.0), ((9, 9, 9, 9), -65 / 81), ((9, 9, 7, 7), -65 / 81)]:
        found = giou(jnp.asarray(box, jnp.float32), whole)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    point, away = jnp.asarray([1.0, 1, 1, 1]), jnp.asarray([9.0, 9, 9, 9])
    assert giou(point, point) == 0
    assert giou(point, away) == -1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1.0, 1e4], ids=str)
@pytest.mark.parametrize("overlap", PAIRWISE, ids=["iou", "giou"])
def test_degenerate_boxes_have_finite_values_and_gradients(overlap, scale, dtype):
    every = (scale * jnp.asarray(DEGENERATE, jnp.float32)).astype(dtype)
    values = overlap(every, every)
    assert values.dtype == jnp.float32
    assert np.isfinite(values).all()
    gradients = jax.grad(lambda first, second: jnp.sum(overlap(first, second)), (0, 1))(every, every)
    assert np.isfinite(np.asarray(gradients, np.float32)).all()


@pytest.mark.parametrize("coordinate", range(4), ids=["x_min", "y_min", "x_max", "y_max"])
@pytest.mark.parametrize("overlap", PAIRWISE, ids=["iou", "giou"])
def test_a_coordinate_that_is_nan_makes_the_overlap_nan(overlap, coordinate):
    # Whether the other box is whole, empty, or NaN as well; no other pair is touched.
    every = jnp.asarray(DEGENERATE, jnp.float32).at[0, coordinate].set(jnp.nan)
    lost = np.zeros((9, 9), bool)
    lost[0], lost[:, 0] = True, True
    np.testing.assert_array_equal(np.isnan(jax.jit(overlap)(every, every)), lost)


@pytest.mark.parametrize("side", [1e-9, 1e9], ids=str)
@pytest.mark.parametrize("overlap", OVERLAPS, ids=["iou", "giou"])
def test_values_and_gradients_hold_over_the_range_of_sides(overlap, side):
    # By hand, for a square and itself moved by half its side to the right: I / U = 1 / 3, with I and U of the areas.
    box, other = side * jnp.asarray([0.0, 0, 1, 1]), side * jnp.asarray([0.5, 0.0, 1.5, 1.0])
    value, gradient = jax.value_and_grad(overlap)(box, other)
    np.testing.assert_allclose(value, 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(side * gradient[jnp.asarray([0, 2])], [2 / 9, 2 / 3], rtol=1e-5)


@pytest.mark.parametrize("side", [1e-9, 9e18], ids=str)
def test_values_hold_up_to_the_overflow_of_areas(side):
    box, other = side * jnp.asarray([0.0, 0, 1, 1]), side * jnp.asarray([0.5, 0.0, 1.5, 1.0])
    np.testing.assert_allclose([overlap(box, other) for overlap in OVERLAPS], [1 / 3, 1 / 3], rtol=1e-6)


def test_float64_stays_float64():
    # A difference that float32 loses beside 1.
    with jax.enable_x64(True):
        boxes_ = jnp.asarray([[0.0, 0.0, 1.0, 1.0]])
        others = jnp.asarray([[0.0, 0.0, 1.0, 1.0 - 1e-10]])
        found = [overlap(boxes_, others) for overlap in OVERLAPS]
    for values in found:
        assert values.dtype == np.float64
        np.testing.assert_allclose(1 - np.asarray(values), [1e-10], rtol=1e-5)


@pytest.mark.parametrize("overlap", OVERLAPS, ids=["iou", "giou"])
def test_gradients_are_finite_differences(overlap):
    # Edges lie apart, for where they meet the overlap has a kink.
    with jax.enable_x64(True):
        first = jnp.asarray([[0.0, 0.0, 4.0, 3.0], [1.0, 1.0, 2.0, 2.5], [5.0, 5.0, 7.0, 6.0]])
        second = jnp.asarray([[1.1, 0.7, 5.2, 2.2], [0.3, 0.2, 4.0, 4.1], [0.1, 0.4, 1.0, 2.0]])
        check_grads(jax.jit(overlap), (first, second), order=1, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inspect.unwrap(area)(jnp.ones((2, 3))), r"boxes: shape \(2, 3\) came, \(\*batch, 4\) was expected"),
        (lambda: inspect.unwrap(area)(jnp.ones(4, jnp.int32)), "boxes: int32 came, floating point was expected"),
    ],
    ids=["three numbers", "integers"],
)
def test_bad_area(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("overlap", OVERLAPS + PAIRWISE, ids=lambda overlap: overlap.__name__)
def test_bad_boxes(overlap):
    function = inspect.unwrap(overlap)
    good = jnp.ones((2, 4))
    with pytest.raises(ValueError, match=r"boxes: shape \(2, 5\) came, \(\*batch, 4\) was expected: x_min"):
        function(jnp.ones((2, 5)), good)
    with pytest.raises(ValueError, match="others: int32 came, floating point was expected; convert it first"):
        function(good, good.astype(jnp.int32))


@pytest.mark.parametrize("overlap", OVERLAPS, ids=["iou", "giou"])
def test_elementwise_does_not_broadcast(overlap):
    with pytest.raises(ValueError, match=r"others: shape \(1, 4\) came, \(3, 4\) was expected: that of boxes; for eve"):
        inspect.unwrap(overlap)(jnp.ones((3, 4)), jnp.ones((1, 4)))


@pytest.mark.parametrize("overlap", PAIRWISE, ids=["iou", "giou"])
def test_pairwise_takes_rows(overlap):
    with pytest.raises(ValueError, match=r"others: shape \(4,\) came, \(number, 4\) was expected; map over"):
        inspect.unwrap(overlap)(jnp.ones((3, 4)), jnp.ones(4))


@pytest.mark.parametrize("overlap", [diou, ciou])
def test_distances_of_degenerate_boxes_are_finite(overlap):
    every = jnp.asarray(DEGENERATE, jnp.float32)
    first, second = (array.reshape(-1, 4) for array in jnp.broadcast_arrays(every[:, None], every[None]))
    values = overlap(first, second)
    gradients = jax.grad(lambda first, second: jnp.sum(overlap(first, second)), (0, 1))(first, second)
    assert np.isfinite(values).all()
    assert np.isfinite(np.asarray(gradients)).all()


@pytest.mark.parametrize(("overlap", "name"), [(giou, "generalized"), (diou, "distance"), (ciou, "complete")])
def test_overlaps_are_torchvisions(overlap, name):
    with jax.enable_x64(True):
        first, second = (jnp.asarray(drawn(40, seed).astype(np.float64)) for seed in (1, 2))
        near = jnp.asarray(near_to(np.asarray(first)))
        # torchvision adds 1e-7 to what it divides by.
        found = 1 - overlap(jnp.concatenate([first, first]), jnp.concatenate([second, near]))
        np.testing.assert_allclose(found, np.load(FILE)[name], atol=1e-7)


def test_all_pairs_are_torchvisions():
    with jax.enable_x64(True):
        first, second = (jnp.asarray(drawn(40, seed).astype(np.float64)) for seed in (1, 2))
        np.testing.assert_allclose(pairwise_iou(first, second), np.load(FILE)["iou"], atol=1e-12)
