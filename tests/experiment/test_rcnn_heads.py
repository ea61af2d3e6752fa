"""SVMs beside SciPy's minimum of their objective, hard negatives, and ridge regression by the normal equations."""

import numpy as np
import pytest
from scipy.optimize import minimize

from cnnjax.experiment.rcnn_heads import BIAS, Miner, fit_boxes, fit_svm

random = np.random.default_rng(0)


def test_svm_has_the_least_of_its_objective():
    """Each coordinate of the bias's feature is 10, and errors on positives count twice."""
    positive, negative = random.normal(0.6, 1, (15, 3)), random.normal(-0.4, 1, (40, 3))
    scale, cost = 0.7, 0.05
    features = np.concatenate([positive, negative]) * scale
    features = np.concatenate([features, np.full((55, 1), BIAS)], axis=1)
    signs = np.repeat([1.0, -1.0], [15, 40])
    weights = np.repeat([2.0, 1.0], [15, 40])

    def objective(w):
        return 0.5 * w @ w + cost * np.sum(weights * np.maximum(0, 1 - signs * (features @ w)))

    found = fit_svm(positive, negative, scale=scale, cost=cost)
    ours = objective(np.append(found.kernel / scale, found.bias / BIAS))
    best = min(minimize(objective, random.normal(0, 0.1, 4), method="Powell", tol=1e-12).fun for _ in range(5))
    assert ours == pytest.approx(best, rel=1e-3)
    np.testing.assert_allclose(found(positive), positive @ found.kernel + found.bias)


def test_without_objects_nothing_is_found():
    assert fit_svm(np.zeros((0, 3)), random.normal(size=(5, 3)), scale=1, cost=1)(np.ones((2, 3))).tolist() == [-1, -1]
    assert Miner(np.zeros((0, 3)), length=1.0, cost=1.0).svm().bias == -1


def test_hard_negatives_are_kept_and_easy_ones_are_not():
    positive = random.normal(3, 0.5, (20, 2))
    miner = Miner(positive, length=5.0, cost=1.0)
    miner.see(random.normal(-3, 0.5, (50, 2)))
    easy = random.normal(-5, 0.3, (30, 2))
    miner.see(easy)
    assert miner._new == 0, "none of them is near the margin"
    hard = positive[:4] - [0.8, 0.8]
    before = miner.svm()(hard)
    miner.see(hard)
    assert miner._new == 4
    after = miner.svm()
    assert after(hard).mean() < before.mean()
    assert miner._new == 0
    assert after(positive).mean() > 0
    assert (after(easy) < 0).all()


def test_boxes_are_regressed_by_the_normal_equations():
    pooled = random.normal(size=(30, 4))
    corners = random.uniform(0, 50, (30, 2))
    boxes = np.concatenate([corners, corners + random.uniform(10, 30, (30, 2))], axis=1)
    moved = boxes + random.uniform(-3, 3, (30, 4))
    kernel, bias = fit_boxes(pooled, boxes, moved, penalty=2.0)
    targets = []
    for (a, b, c, d), (e, f, g, h) in zip(boxes, moved, strict=True):
        wide, high = c - a, d - b
        targets.append(
            [
                ((e + g) - (a + c)) / 2 / wide,
                ((f + h) - (b + d)) / 2 / high,
                np.log((g - e) / wide),
                np.log((h - f) / high),
            ]
        )
    targets = np.array(targets)
    # With a free bias, ridge is that of centred features and targets.
    centred, wanted = pooled - pooled.mean(0), targets - targets.mean(0)
    expected = np.linalg.solve(centred.T @ centred + 2.0 * np.eye(4), centred.T @ wanted)
    np.testing.assert_allclose(kernel, expected, atol=1e-9)
    np.testing.assert_allclose(bias, targets.mean(0) - pooled.mean(0) @ expected, atol=1e-9)


def test_boxes_stay_where_nothing_teaches_them():
    kernel, bias = fit_boxes(np.zeros((0, 4)), np.zeros((0, 4)), np.zeros((0, 4)), penalty=1.0)
    assert not kernel.any()
    assert not bias.any()
