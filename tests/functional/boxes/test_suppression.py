"""Suppression against torchvision's indices, and against a loop of a few lines."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.functional.boxes import class_nms, nms, soft_nms
from tests.functional.boxes import torchvision_goldens
from tests.functional.boxes.torchvision_goldens import FILE, NUMBERS, THRESHOLDS

GOLDENS = np.load(FILE)


def clustered(number, seed):
    return tuple(map(jnp.asarray, torchvision_goldens.clustered(number, seed)))


def adversarial(number, seed):
    return tuple(map(jnp.asarray, torchvision_goldens.adversarial(number, seed)))


DRAWS = {"clustered": clustered, "adversarial": adversarial}


def iou(box, other):
    """In the type of the boxes, rounded after every operation."""
    width = np.maximum(np.minimum(box[2], other[2]) - np.maximum(box[0], other[0]), np.float32(0))
    height = np.maximum(np.minimum(box[3], other[3]) - np.maximum(box[1], other[1]), np.float32(0))
    common = width * height
    union = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1]) - common
    return common / union if union > 0 else np.float32(0)


def by_loop(boxes, scores, threshold, classes=None):
    """Greedy suppression as it is told."""
    boxes, scores, kept = np.asarray(boxes), np.asarray(scores), []
    for index in np.argsort(-scores, kind="stable"):
        if all(
            (classes is not None and classes[index] != classes[other])
            or not float(iou(boxes[index], boxes[other])) > threshold
            for other in kept
        ):
            kept.append(index)
    return kept


def listed(kept):
    return np.asarray(kept.indices)[: int(kept.count)].tolist()


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("number", NUMBERS)
def test_indices_are_torchvisions(name, number):
    boxes, scores = DRAWS[name](number, number)
    for threshold in THRESHOLDS:
        expected = GOLDENS[f"nms/{name}/{number}/{threshold}"].tolist()
        kept = nms(boxes, scores, threshold=threshold)
        assert listed(kept) == expected
        assert (np.asarray(kept.indices)[len(expected) :] == -1).all()


def test_the_first_ones_of_many():
    boxes, scores = clustered(3000, 3000)
    expected = GOLDENS["nms/clustered/3000/0.5"]
    kept = nms(boxes, scores, threshold=0.5, most=100)
    assert kept.indices.shape == (100,)
    assert listed(kept) == expected[:100].tolist()
    roomy = nms(boxes[:5], scores[:5], threshold=0.5, most=9)
    assert roomy.indices.shape == (9,)
    assert listed(roomy) == by_loop(boxes[:5], scores[:5], 0.5)


def test_classes_are_apart():
    boxes, scores = clustered(2000, 5)
    classes = np.random.default_rng(6).integers(0, 5, 2000)
    kept = class_nms(boxes, scores, jnp.asarray(classes), threshold=0.5)
    assert listed(kept) == GOLDENS["class_nms"].tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.booleans())
def test_any_threshold_is_exact(seed, threshold, by_class):
    generator = np.random.default_rng(seed)
    boxes, scores = adversarial(24, seed)
    classes = generator.integers(0, 3, 24)
    if by_class:
        kept = class_nms(boxes, scores, jnp.asarray(classes), threshold=threshold)
    else:
        kept = nms(boxes, scores, threshold=threshold)
    assert listed(kept) == by_loop(boxes, scores, threshold, classes if by_class else None)


def test_thresholds_that_no_float32_is_are_compared_exactly():
    # An IoU of 3/10 rounds in float32 to more than 0.3, as torchvision sees it, and one of 1/10 likewise.
    boxes = jnp.asarray([[0.0, 0.0, 10.0, 1.0], [0.0, 0.0, 3.0, 1.0]])
    for threshold, count in ((0.3, 1), (0.30000002, 2), (0.29, 1)):
        assert nms(boxes, jnp.asarray([1.0, 0.5]), threshold=threshold).count == count


def test_float64_boxes_are_compared_in_float64():
    with jax.enable_x64(True):
        boxes = jnp.asarray([[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 1.0 + 1e-12, 1.0]])
        assert nms(boxes, jnp.asarray([1.0, 0.5]), threshold=0.5).count == 1
        assert nms(boxes, jnp.asarray([1.0, 0.5]), threshold=0.5 + 1e-11).count == 2


def test_batches_and_jit():
    draws = [clustered(300, seed) for seed in range(3)]
    boxes, scores = (jnp.stack(part) for part in zip(*draws, strict=True))
    kept = jax.jit(jax.vmap(lambda boxes, scores: nms(boxes, scores, threshold=0.5, most=40)))(boxes, scores)
    for row, (one, score) in enumerate(draws):
        expected = by_loop(one, score, 0.5)[:40]
        assert kept.indices[row, : int(kept.count[row])].tolist() == expected


def test_what_is_left_out_neither_stays_nor_suppresses():
    boxes = jnp.asarray([[0.0, 0.0, 4.0, 4.0]] * 3)
    scores = jnp.asarray([jnp.nan, -jnp.inf, 0.1])
    assert listed(nms(boxes, scores, threshold=0.5)) == [2]
    assert nms(jnp.zeros((0, 4)), jnp.zeros(0), threshold=0.5, most=3).indices.tolist() == [-1, -1, -1]


def soft_by_loop(boxes, scores, decay, least):
    boxes, scores, left, kept = np.asarray(boxes, float), np.array(scores, float), list(range(len(boxes))), []
    while left:
        best = max(left, key=lambda index: (scores[index], -index))
        if not scores[best] > least:
            break
        kept.append((best, scores[best]))
        left.remove(best)
        for index in left:
            scores[index] *= decay(iou(boxes[best], boxes[index]))
    return kept


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_soft_suppression_is_the_loop(threshold):
    boxes, _ = clustered(60, 11)
    scores = jnp.asarray(np.random.default_rng(1).uniform(0.05, 1, 60), jnp.float32)

    def decay(overlap):
        if threshold is None:
            return np.exp(-(overlap**2) / 0.5)
        return 1 - overlap if overlap > threshold else 1.0

    expected = soft_by_loop(boxes, scores, decay, 0.1)
    kept = soft_nms(boxes, scores, threshold=threshold, least=0.1)
    assert listed(kept) == [index for index, _ in expected]
    np.testing.assert_allclose(kept.scores[: len(expected)], [score for _, score in expected], rtol=1e-5)
    assert not np.asarray(kept.scores)[len(expected) :].any()
    few = soft_nms(boxes, scores, threshold=threshold, least=0.1, most=5)
    assert listed(few) == [index for index, _ in expected][:5]
    assert soft_nms(jnp.zeros((0, 4)), jnp.zeros(0), most=2).count == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, r"threshold=1.5; expected an IoU from 0 to 1"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"threshold": 0.5, "most": 0}, "most=0; expected the number of boxes to keep"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(nms)(jnp.zeros((2, 4)), jnp.zeros(2), **options)


def test_bad_shapes():
    with pytest.raises(ValueError, match=r"scores: shape \(3,\) came, \(2,\) was expected: a score for each box"):
        inspect.unwrap(nms)(jnp.zeros((2, 4)), jnp.zeros(3), threshold=0.5)
    with pytest.raises(ValueError, match=r"classes: shape \(3,\) came, \(2,\) was expected: a class for each score"):
        inspect.unwrap(class_nms)(jnp.zeros((2, 4)), jnp.zeros(2), jnp.zeros(3, int), threshold=0.5)
    with pytest.raises(ValueError, match="sigma=0; expected a positive number"):
        inspect.unwrap(soft_nms)(jnp.zeros((2, 4)), jnp.zeros(2), sigma=0)
