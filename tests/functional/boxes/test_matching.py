"""Matching against torchvision's, and YOLO's cells against a loop."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.functional.boxes import match_by_thresholds, match_cells, match_with_forced
from tests.functional.boxes.torchvision_goldens import FILE, overlaps

GOLDENS = np.load(FILE)
CASES = list(enumerate([(1, 50), (5, 200), (30, 400)]))


def coded(matches):
    """As torchvision writes them: -1 for background, -2 for what is between."""
    return np.where(np.asarray(matches.ignored), -2, np.asarray(matches.objects))


@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize(("seed", "shape"), CASES, ids=str)
def test_two_thresholds_are_torchvisions(seed, shape, low_quality):
    values = jnp.asarray(overlaps(seed, *shape))
    # Two more objects that are not there, between the others and at the end.
    padded = jnp.pad(values, ((1, 1), (0, 0)), constant_values=0.9)
    present = jnp.asarray([False] + [True] * shape[0] + [False])
    alone = match_by_thresholds(values, jnp.ones(shape[0], bool), low_quality=low_quality)
    np.testing.assert_array_equal(coded(alone), GOLDENS[f"match/{seed}/{low_quality}"])
    found = jax.jit(match_by_thresholds, static_argnames="low_quality")(padded, present, low_quality=low_quality)
    np.testing.assert_array_equal(found.objects, np.where(alone.objects >= 0, alone.objects + 1, -1))
    np.testing.assert_array_equal(found.ignored, alone.ignored)


@pytest.mark.parametrize(("seed", "shape"), CASES, ids=str)
def test_forced_matches_are_torchvisions(seed, shape):
    values = jnp.asarray(overlaps(seed, *shape))
    found = match_with_forced(values, jnp.ones(shape[0], bool))
    np.testing.assert_array_equal(coded(found), GOLDENS[f"match/{seed}/forced"])


def test_pictures_without_objects_are_ordinary():
    for objects in (0, 3):
        values, present = jnp.full((objects, 5), 0.9), jnp.zeros(objects, bool)
        for match in (match_by_thresholds, match_with_forced):
            found = match(values, present)
            assert found.objects.tolist() == [-1] * 5
            assert not found.ignored.any()
        cells = match_cells(jnp.full((objects, 4), 2.0), present, cells=(2, 2), size=(8, 8))
        assert cells.tolist() == [[-1, -1], [-1, -1]]


def test_cells_are_the_loop():
    generator = np.random.default_rng(0)
    centre, half = generator.uniform(-10, 110, (60, 2)), generator.uniform(1, 20, (60, 2))
    boxes = np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
    present = generator.random(60) < 0.8
    expected = np.full((5, 7), -1)
    for index, (x, y) in enumerate((boxes[:, :2] + boxes[:, 2:]) / 2):
        row, column = int(np.floor(y * 5 / 90)), int(np.floor(x * 7 / 105))
        if present[index] and 0 <= row < 5 and 0 <= column < 7 and expected[row, column] < 0:
            expected[row, column] = index
    np.testing.assert_array_equal(
        match_cells(jnp.asarray(boxes), jnp.asarray(present), cells=(5, 7), size=(90, 105)), expected
    )
    assert (expected >= 0).sum() > 15


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f(match_by_thresholds)(jnp.ones((1, 2)), jnp.ones(1, bool), low=0.8), "low=0.8 and high=0.7"),
        (lambda f: f(match_by_thresholds)(jnp.ones((1, 2)), jnp.ones(2, bool)), r"where: shape \(2,\) came"),
        (lambda f: f(match_with_forced)(jnp.ones(2), jnp.ones(2, bool)), r"overlaps: shape \(2,\) came"),
        (lambda f: f(match_with_forced)(jnp.ones((1, 2)), jnp.ones(1, bool), threshold=2), "threshold=2"),
        (
            lambda f: f(match_cells)(jnp.ones((1, 4)), jnp.ones(1, bool), cells=(0, 2), size=(8, 8)),
            r"cells=\(0, 2\); expected two positive numbers",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(inspect.unwrap)


def test_double_precision_matches_alike():
    """Whole numbers are of 64 bits there by default, and none may meet one of 32."""
    random = np.random.default_rng(0)
    overlaps, present = random.uniform(0, 1, (3, 20)), np.array([True, True, False])
    boxes = np.sort(random.uniform(0, 40, (3, 2, 2)), axis=1).reshape(3, 4)

    def found():
        given = jnp.asarray(overlaps), jnp.asarray(present)
        cells = match_cells(jnp.asarray(boxes), jnp.asarray(present), cells=(3, 3), size=(40, 40))
        return *match_by_thresholds(*given), *match_with_forced(*given), cells

    single = found()
    with jax.enable_x64(True):
        double = found()
    for ours, theirs in zip(single, double, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
