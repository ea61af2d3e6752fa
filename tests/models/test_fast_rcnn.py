"""Fast R-CNN: proposals that came, the grid that stands in for them, and its targets beside plain loops."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.models.parts.given_proposals import windows
from cnnjax.tasks.metrics.detection_errors import pairwise_overlaps
from tests.models.quick import drawn, run_unoptimised

SIDE = 64


@cache
def run():
    model = models.create("fast_rcnn_small", num_classes=2, hidden=8, drawn_regions=400, dropout=0.0)
    images = np.random.default_rng(0).standard_normal((1, SIDE, SIDE, 3)).astype(np.float32)
    corners = np.random.default_rng(1).uniform(0, 40, (1, 30, 2))
    boxes = np.concatenate([corners, corners + np.random.default_rng(2).uniform(4, 24, (1, 30, 2))], axis=-1)
    boxes[0, -5:] = 0
    objects = models.Objects(
        jnp.asarray([[[5.0, 5, 25, 30], [30.0, 20, 55, 60]]]), jnp.asarray([[1, 0]]), jnp.asarray([[True, True]])
    )
    variables = drawn(model, images)
    proposals = jnp.asarray(boxes, jnp.float32)

    def both(variables, images, proposals, objects):
        rngs = {"sampling": jax.random.key(0)}
        inputs = models.PicturesWithProposals(images, proposals, objects)
        trained, _ = model.apply(variables, inputs, train=True, rngs=rngs, mutable=["batch_stats"])
        return trained, model.apply(variables, models.PicturesWithProposals(images, proposals))

    trained, found = run_unoptimised(both, variables, images, proposals, objects)
    return trained, found, np.asarray(proposals), objects


@pytest.mark.usefixtures("unchecked_types")
def test_it_looks_where_proposals_are():
    _, found, proposals, _ = run()
    np.testing.assert_array_equal(found.regions.boxes, proposals)
    assert found.regions.present[0].tolist() == [True] * 25 + [False] * 5
    assert np.isfinite(found.logits).all()


@pytest.mark.usefixtures("unchecked_types")
def test_labels_and_targets_are_those_of_plain_loops():
    """Positive from a half on, background from a tenth to a half; the true boxes are proposals too."""
    trained, _, proposals, objects = run()
    true = np.asarray(objects.boxes[0])
    boxes = np.concatenate([proposals[0, :25], true])
    overlaps = pairwise_overlaps(boxes.astype(np.float64), true.astype(np.float64))
    expected = []
    for box, row in zip(boxes, overlaps, strict=True):
        best = int(row.argmax())
        if row[best] >= 0.5:
            (x, y), (wide, high) = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
            (u, v), (w, h) = (true[best][:2] + true[best][2:]) / 2, true[best][2:] - true[best][:2]
            shift = [10 * (u - x) / wide, 10 * (v - y) / high, 5 * np.log(w / wide), 5 * np.log(h / high)]
            expected.append([int(objects.classes[0, best]) + 1, *shift])
        elif row[best] >= 0.1:
            expected.append([0, 0, 0, 0, 0])
    drawn_ = trained.regions
    present = drawn_.present[0]
    found = np.concatenate([drawn_.labels[0][present][:, None], drawn_.targets[0][present]], axis=1)
    assert len(found) == len(expected) > 10
    order = [np.lexsort(np.round(np.asarray(rows), 3).T) for rows in (found, expected)]
    np.testing.assert_allclose(found[order[0]], np.asarray(expected)[order[1]], atol=1e-4)
    assert trained.anchors is None


def test_windows_stand_in_for_proposals():
    boxes = windows((40, 80))
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (boxes >= 0).all()
    assert boxes.max(axis=0).tolist() == pytest.approx([boxes[:, 0].max(), boxes[:, 1].max(), 80, 40], abs=1e-4)
    assert (sides > 0).all()
    assert len(np.unique(boxes, axis=0)) > 300
