"""COCO's numbers, equal to pycocotools': boxes and masks, crowds, ties, areas, limits and empty classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.functional import masks
from cnnjax.tasks.metrics import coco_precision
from tests.tasks.metrics.coco_oracle import evaluate

CLASSES = ["cat", "dog", "bird"]


@st.composite
def sets(draw, unit, most=(5, 8)):
    """Pictures with objects on a grid of `unit` pixels, so that overlaps reach thresholds exactly and scores tie.

    Detections lie near objects, for else few would take any.
    """
    truths, detections = [], []
    for _ in range(draw(st.integers(1, 4))):
        seed, count, guesses = draw(st.tuples(st.integers(0, 2**32 - 1), *(st.integers(0, number) for number in most)))
        generator = np.random.default_rng(seed)
        corners = generator.integers(0, 6, (count, 2))
        boxes = np.concatenate([corners, corners + generator.integers(1, 11, (count, 2))], axis=1)
        classes = generator.integers(0, 2 + (seed % 2), count)
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) * unit**2
        truths.append(
            {
                "boxes": np.float64(boxes * unit),
                "classes": classes,
                "crowd": generator.random(count) < 0.2,
                "area": np.round(areas * generator.uniform(0.7, 1.0, count)),
            }
        )
        near = generator.integers(0, max(count, 1), guesses if count else 0)
        moved = boxes[near] + generator.integers(-1, 2, (len(near), 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        scores = generator.integers(1, 5, len(near)) / 4
        detections.append({"boxes": np.float64(moved * unit), "classes": classes[near], "scores": scores})
    return truths, detections


def assert_equal(truths, detections, *, limits=(1, 10, 100), **options):
    found = coco_precision(
        truths, detections, CLASSES, limits=limits, **{key: options[key] for key in ("masks",) if key in options}
    )
    numbers, precision, recall = evaluate(truths, detections, len(CLASSES), limits=limits, **options)
    if limits[-1] != 100:
        # The first of its numbers is always that of a limit of 100.
        known = precision[..., 0][~np.isnan(precision[..., 0])]
        numbers[0] = known.mean() if known.size else np.nan
    np.testing.assert_allclose(list(found.numbers().values()), numbers, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.precision, precision)
    np.testing.assert_array_equal(found.recall, recall)
    return found


@given(st.sampled_from([3.0, 10.0, 12.5]).flatmap(sets))
@settings(deadline=None, max_examples=80)
def test_boxes_are_pycocotools(drawn):
    assert_equal(*drawn)


@given(sets(10.0, (3, 12)), st.sampled_from([(1, 2, 3), (1, 3, 5)]))
@settings(deadline=None, max_examples=30)
def test_limits_are_pycocotools(drawn, limits):
    found = assert_equal(*drawn, limits=limits)
    assert f"ar{limits[1]}" in found.numbers()


@given(sets(8.0, (4, 6)), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_masks_are_pycocotools(drawn, seed):
    size, generator = (130, 140), np.random.default_rng(seed)
    for picture in (one for side in drawn for one in side):
        picture["masks"] = []
        for left, top, right, bottom in np.maximum(picture["boxes"], 0).astype(int):
            mask = np.zeros(size, bool)
            mask[top:bottom, left:right] = True
            mask[top : top + int(generator.integers(0, 9)), left : left + 8] = False
            picture["masks"].append(masks.encode_rle(mask))
    assert_equal(*drawn, masks=True, size=size)


def test_real_scores_many_pictures():
    generator = np.random.default_rng(5)
    truths, detections = [], []
    for _ in range(40):
        count, guesses = int(generator.integers(0, 9)), 130
        low = generator.uniform(0, 300, (count, 2))
        boxes = np.concatenate([low, low + np.exp(generator.uniform(2, 5.3, (count, 2)))], axis=1).astype(np.float32)
        truths.append({"boxes": boxes, "classes": generator.integers(0, 2, count)})
        near = boxes[generator.integers(0, count, guesses)] if count else np.zeros((0, 4), np.float32)
        moved = near + generator.normal(0, 4, near.shape).astype(np.float32)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        classes = generator.integers(0, 2, len(near))
        detections.append({"boxes": moved, "classes": classes, "scores": generator.random(len(near))})
    assert 0.05 < assert_equal(truths, detections).numbers()["ap"] < 0.9


def square(*corners, side=40.0, **others):
    low = np.array(corners, float).reshape(-1, 2)
    return {"boxes": np.concatenate([low, low + side], axis=1), "classes": np.zeros(len(low), int)} | others


def test_by_hand():
    # Of two objects one is found and one is not: recall 0.5, so that 51 of 101 recalls are reached, with precision 1.
    truths, found = [square((0, 0), (100, 0))], [square((0, 0), scores=[0.5])]
    result = coco_precision(truths, found, ["cat", "dog"])
    numbers = result.numbers()
    assert list(numbers) == (
        "ap ap50 ap75 ap_small ap_medium ap_large ar1 ar10 ar100 ar_small ar_medium ar_large".split()
    )
    assert numbers["ap"] == numbers["ap50"] == numbers["ap_medium"] == pytest.approx(51 / 101)
    assert numbers["ar1"] == numbers["ar100"] == 0.5
    assert np.isnan([numbers["ap_small"], numbers["ap_large"], numbers["ar_large"]]).all()
    of_classes = result.of_classes()
    assert of_classes["cat"] == pytest.approx(51 / 101)
    assert np.isnan(of_classes["dog"])


def test_a_crowd_takes_any_number_and_counts_for_nothing():
    crowd = {"boxes": [[0, 0, 200, 200]], "classes": [0], "crowd": [True]}
    truths = [crowd, square((0, 0))]
    inside = square((0, 0), (50, 50), (100, 100), scores=[0.9, 0.8, 0.7])
    numbers = coco_precision(truths, [inside, square((0, 0), scores=[0.6])], ["cat"]).numbers()
    assert numbers["ap"] == pytest.approx(1)
    # Without the flag they are false, and surer than the one that is right.
    uncrowded = [crowd | {"crowd": [False]}, truths[1]]
    assert coco_precision(uncrowded, [inside, square((0, 0), scores=[0.6])], ["cat"]).numbers()["ap"] < 0.2


def test_padding_and_pictures_without_anything():
    nothing = {"boxes": [], "classes": [], "scores": []}
    truths = [square((0, 0), (70, 70), present=[True, False]), nothing]
    found = [square((70, 70), (0, 0), scores=[0.9, 0.1], present=[False, True]), nothing]
    assert coco_precision(truths, found, ["cat"]).numbers()["ap"] == pytest.approx(1)
    for sides in (([], []), ([nothing], [nothing]), ([nothing], [square((0, 0), scores=[1.0])])):
        assert np.isnan(list(coco_precision(*sides, ["cat"]).numbers().values())).all()
    assert coco_precision([square((0, 0))], [nothing], ["cat"]).numbers()["ap"] == 0


def test_objects_without_an_area_have_that_of_their_mask_or_box():
    mask = np.zeros((60, 60), bool)
    mask[:20, :20] = True
    one = square((0, 0), scores=[1.0], masks=[masks.encode_rle(mask)])
    by_box, by_mask = (coco_precision([one], [one], ["cat"], masks=way).numbers() for way in (False, True))
    assert (by_box["ap_medium"], by_mask["ap_small"]) == pytest.approx((1, 1))
    assert np.isnan([by_box["ap_small"], by_mask["ap_medium"]]).all()


def test_bad_input_is_told():
    truth, found = square((0, 0)), square((0, 0), scores=[1.0])
    with pytest.raises(ValueError, match="truths of 1 and detections of 2 pictures"):
        coco_precision([truth], [found, found], ["cat"])
    for limits in ((), (0, 10), (10, 10), (100, 1)):
        with pytest.raises(ValueError, match="expected rising numbers of detections"):
            coco_precision([truth], [found], ["cat"], limits=limits)
    codes = [masks.encode_rle(np.ones(shape, bool)) for shape in ((60, 60), (60, 61))]
    with pytest.raises(ValueError, match=r"masks of picture 1: sizes \[60, 61\] and \[60, 60\] came"):
        coco_precision(
            [truth | {"masks": codes[:1]}, truth | {"masks": codes[1:]}],
            [found | {"masks": codes[:1]}, found | {"masks": codes[:1]}],
            ["cat"],
            masks=True,
        )
    with pytest.raises(ValueError, match="masks of detections 0: runs of 3600 pixels"):
        coco_precision(
            [truth | {"masks": codes[:1]}], [found | {"masks": [codes[0] | {"size": [9, 9]}]}], ["cat"], masks=True
        )
