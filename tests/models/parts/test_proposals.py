"""Region proposals: which are made and which are drawn, beside hand computation and plain loops."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.models.parts.detector import Objects
from cnnjax.models.parts.proposals import (
    Drawn,
    ProposalRule,
    RegionProposalHead,
    Regions,
    draw_anchors,
    draw_regions,
    propose,
)


def test_losses_of_both_stages_by_hand():
    """Two of three are filled, one with an object: smooth L1 of (0.5, 2) at beta 1 is 0.125 + 1.5."""
    offsets, targets = jnp.asarray([[[0.5, 2.0, 0, 0], [9.0] * 4, [9.0] * 4]]), jnp.zeros((1, 3, 4))
    labels, present = jnp.asarray([[1, 0, 0]]), jnp.asarray([[True, True, False]])
    of_class, of_box = Drawn(jnp.asarray([[0.0, 0.0, 5.0]]), offsets, targets, labels, present, 1.0).losses()
    np.testing.assert_allclose(of_class.total, 2 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(of_box.total, 1.625, rtol=1e-6)
    assert (of_class.count.item(), of_box.count.item()) == (2.0, 2.0)
    logits = jnp.asarray([[[0.0, np.log(3.0)], [np.log(3.0), 0.0], [7.0, 7.0]]])
    of_class, _ = Drawn(logits, offsets, targets, labels, present, 1.0).losses()
    np.testing.assert_allclose(of_class.total, 2 * -np.log(0.75), rtol=1e-6)


def test_the_surest_boxes_of_each_level_after_suppression():
    anchors = [
        np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 50, 50]], np.float32),
        np.array([[0, 0, 10, 10]], np.float32),
    ]
    logits = [jnp.asarray([[3.0, 2.0, 1.0]]), jnp.asarray([[0.5]])]
    offsets = [jnp.zeros((1, 3, 4)), jnp.zeros((1, 1, 4))]
    regions = propose(logits, offsets, anchors, (40, 45), ProposalRule(before=3, after=5, overlap=0.5))
    # The second overlaps the first by 9 / 11; the one of the other level stays; the third is cut at the border.
    assert regions.present.tolist() == [[True, True, True, False, False]]
    assert regions.boxes[0, :3].tolist() == [[0, 0, 10, 10], [30, 30, 45, 40], [0, 0, 10, 10]]
    first = propose(logits, offsets, anchors, (40, 45), ProposalRule(before=1, after=5, overlap=0.5))
    assert first.boxes[0, :2].tolist() == [[0, 0, 10, 10], [0, 0, 10, 10]]
    large = propose(logits, offsets, anchors, (40, 45), ProposalRule(before=3, after=5, overlap=0.5, smallest=10.5))
    assert not np.asarray(large.present).any()


OBJECTS = Objects(
    jnp.asarray([[[0.0, 0, 10, 10], [0.0, 0, 0, 0]], [[0.0, 0, 0, 0], [0.0, 0, 0, 0]]]),
    jnp.asarray([[2, 0], [0, 0]]),
    jnp.asarray([[True, False], [False, False]]),
)


def test_anchors_for_the_loss():
    """One fits, one is near, one is far, and one crosses the border; the second picture has no object."""
    anchors = [np.array([[0, 0, 10, 10], [0, 0, 10, 20], [20, 20, 30, 30], [25, 25, 60, 60]], np.float32)]
    logits, offsets = [jnp.zeros((2, 4))], [jnp.zeros((2, 4, 4))]
    drawn = draw_anchors(jax.random.key(0), logits, offsets, anchors, OBJECTS, count=8)
    assert drawn.present.sum(axis=1).tolist() == [3, 4]  # the near one overlaps by a half: neither
    assert drawn.labels.sum(axis=1).tolist() == [1, 0]
    assert not np.asarray(drawn.targets).any()  # the one with an object fits it
    inside = draw_anchors(jax.random.key(0), logits, offsets, anchors, OBJECTS, count=8, inside=(40, 40))
    assert inside.present.sum(axis=1).tolist() == [2, 3]
    few = draw_anchors(jax.random.key(0), logits, offsets, anchors, OBJECTS, count=2)
    assert few.present.sum(axis=1).tolist() == [2, 2]


def test_regions_for_the_loss():
    boxes = jnp.asarray([[[0.0, 0, 10, 12], [0.0, 0, 40, 40], [50.0, 50, 60, 60], [0.0, 0, 0, 0]]] * 2)
    regions = Regions(boxes, jnp.asarray([[True, True, True, False]] * 2))
    drawn = draw_regions(jax.random.key(0), regions, OBJECTS, count=8, positives=4)
    # The true box is a region too; of the empty slot nothing comes.
    assert drawn.present.sum(axis=1).tolist() == [4, 3]
    assert sorted(drawn.labels[0].tolist()) == [0] * 6 + [3, 3]
    assert not np.asarray(drawn.labels[1]).any()
    with_object = np.asarray(drawn.labels[0]) > 0
    wanted = np.sort(np.asarray(drawn.targets[0])[with_object], axis=0)
    np.testing.assert_allclose(wanted[:, 1], np.sort([0.0, 10 * -1 / 12]), atol=1e-6)
    np.testing.assert_allclose(wanted[:, 3], np.sort([0.0, 5 * np.log(10 / 12)]), atol=1e-6)
    assert np.isfinite(np.asarray(drawn.targets)).all()
    # Those that overlap nothing by a tenth are left out: 1/16 is less.
    near = draw_regions(jax.random.key(0), regions, OBJECTS, count=8, positives=4, low=0.1)
    assert near.present.sum(axis=1).tolist() == [2, 0]


def test_objectness_of_two_logits_is_their_difference():
    maps = [jnp.asarray(np.random.default_rng(0).standard_normal((1, 2, 3, 4)), jnp.float32)]
    head = RegionProposalHead(5, 2, True, {})
    variables = head.init(jax.random.key(0), maps)
    (logits,), (offsets,) = head.apply(variables, maps)
    assert (logits.shape, offsets.shape) == ((1, 12), (1, 12, 4))
    kernel, bias = (np.asarray(variables["params"]["conv"][name]) for name in ("kernel", "bias"))
    hidden = np.maximum(np.asarray(jax.lax.conv_general_dilated(maps[0], kernel, (1, 1), "SAME",
                        dimension_numbers=("NHWC", "HWIO", "NHWC"))) + bias, 0)  # fmt: skip
    both = hidden @ np.asarray(variables["params"]["objectness"]["kernel"])[0, 0]
    np.testing.assert_allclose(logits, (both[..., 2:] - both[..., :2]).reshape(1, -1), atol=1e-6)
