"""What detectors share: which boxes are told, beside plain NumPy; trunks, and what cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.models.parts.detector import Detector, Selection, pictures_and_objects, select
from cnnjax.models.weights import from_torch, to_torch
from cnnjax.tasks.metrics.detection_errors import pairwise_overlaps


def chosen_plainly(boxes, scores, selection):
    """Class by class: the surest first, each suppressing those that overlap it; then the surest of all classes."""
    kept = []
    for number in range(scores.shape[1]):
        own = boxes if boxes.ndim == 2 else boxes[:, number]
        order = [at for at in np.argsort(-scores[:, number], kind="stable") if scores[at, number] > selection.score]
        order = [at for at in order if (own[at, 2:] - own[at, :2] >= selection.smallest).all()][: selection.each]
        while order:
            best, *rest = order
            kept.append((scores[best, number], number, own[best]))
            order = [at for at in rest if pairwise_overlaps(own[best][None], own[at][None])[0, 0] <= selection.overlap]
    kept.sort(key=lambda one: -one[0])
    return kept[: selection.most]


@pytest.mark.parametrize("by_class", [False, True], ids=["one box for all classes", "a box for each class"])
def test_selection_is_that_of_plain_loops(by_class):
    random = np.random.default_rng(0)
    corners = random.uniform(0, 60, (2, 40, 3, 2) if by_class else (2, 40, 2))
    boxes = np.concatenate([corners, corners + random.uniform(0.5, 40, corners.shape)], axis=-1).astype(np.float32)
    scores = random.uniform(0, 1, (2, 40, 3)).astype(np.float32)
    selection = Selection(score=0.2, overlap=0.4, most=20, each=15, smallest=2.0)
    found = select(jnp.asarray(boxes), jnp.asarray(scores), selection)
    for picture in range(2):
        expected = chosen_plainly(boxes[picture], scores[picture], selection)
        assert int(found.present[picture].sum()) == len(expected) > 10
        for at, (score, number, box) in enumerate(expected):
            assert int(found.classes[picture, at]) == number
            np.testing.assert_array_equal(found.scores[picture, at], score)
            np.testing.assert_array_equal(found.boxes[picture, at], box)
        assert not np.asarray(found.boxes[picture, len(expected) :]).any()


def test_nothing_is_found_where_nothing_is_sure_enough_or_whole():
    boxes = jnp.asarray([[[0.0, 0.0, 5.0, 5.0], [2.0, 2.0, 2.0, 9.0], [0.0, 0.0, jnp.nan, 4.0]]])
    scores = jnp.asarray([[[0.1], [0.9], [0.9]]])
    found = select(boxes, scores, Selection(score=0.5, overlap=0.5, most=4))
    assert not np.asarray(found.present).any()
    assert not np.asarray(found.scores).any()
    assert found.boxes.shape == (1, 4, 4)


def test_objects_come_along_or_not():
    images = jnp.zeros((1, 4, 4, 3))
    objects = models.Objects(jnp.zeros((1, 1, 4)), jnp.zeros((1, 1), jnp.int32), jnp.zeros((1, 1), bool))
    assert pictures_and_objects(images)[1] is None
    assert pictures_and_objects(models.PicturesWithObjects(images, objects))[1] is objects
    assert pictures_and_objects(models.PicturesWithProposals(images, jnp.zeros((1, 2, 4))))[0] is images


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": 1.5}, r"score=1.5; expected a number from 0 to 1"),
        ({"overlap": -0.1}, r"overlap=-0.1; expected a number from 0 to 1"),
        ({"most": 0}, r"most=0.*expected most and each of 1 or more"),
    ],
    ids=["score", "overlap", "most"],
)
def test_a_selection_is_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Selection(**{"score": 0.1, "overlap": 0.5, "most": 5, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "ssd300"}, r"backbone='ssd300'; expected a net with stages, such as 'resnet50' or 'vgg16'"),
        ({"backbone": "vgg12"}, r"unknown model 'vgg12'; did you mean"),
        ({"backbone": "vgg11", "frozen_norm": True}, r"frozen_norm with backbone='vgg11'; expected a ResNet"),
        ({"backbone_options": {"widht": 8}}, r"backbone_options: vgg16 has no option 'widht'"),
    ],
    ids=["detector", "unknown", "frozen", "option"],
)
def test_a_trunk_is_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Detector(**options).trunk(parent=None)


def test_a_trunk_without_the_stages_is_told():
    with pytest.raises(
        ValueError,
        match=r"backbone='resnet20' has no stage of stride 8, which Detector needs; it has stage1 \(1\), stage2",
    ):
        Detector(backbone="resnet20").trunk_stages_of([4, 8])


def test_weights_that_start_anew_and_those_of_the_trunk_alone():
    """A classifier's file gives the trunk; all else starts anew, and what the detector has not is left out."""
    shape = (1, 128, 128, 3)
    classifier = models.create("vgg11", num_classes=3, width=16, batch_norm=True, hidden=8)
    detector = models.create("ssd_small", num_classes=2)
    variables = models.initialize(jax.random.key(1), classifier, jax.ShapeDtypeStruct(shape, jnp.float32))
    tensors = to_torch(classifier, variables, shape=shape)
    with pytest.raises(ValueError, match="does not hold the weights of SSD: missing"):
        from_torch(detector, tensors, shape=shape)
    with pytest.warns(UserWarning, match="start anew; left out classifier"):
        found = from_torch(detector, tensors, shape=shape, fresh_head=jax.random.key(0))
    for stage in ("stage1", "stage5"):
        ours, theirs = found["params"]["backbone"][stage], variables["params"][stage]
        jax.tree.map(np.testing.assert_array_equal, dict(ours), dict(theirs))
    del tensors["features.0.weight"]
    with pytest.raises(ValueError, match=r"missing features.0.weight \(here backbone/stage1/conv1\)"):
        from_torch(detector, tensors, shape=shape, fresh_head=jax.random.key(0))


def test_thresholds_are_called_by_their_names():
    for options, message in (
        ({"score_threshold": 2.0}, r"score_threshold=2.0; expected a number from 0 to 1"),
        ({"nms_threshold": -1.0}, r"nms_threshold=-1.0; expected a number from 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Detector(**options).selection()
    assert Detector().selection(smallest=2.0) == Selection(0.05, 0.5, 100, smallest=2.0)
