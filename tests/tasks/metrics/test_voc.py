"""VOC's average precision: the published sample, a loop as in the development kit, and by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.tasks.metrics import voc_precision

SAMPLE = Path(__file__).parents[4] / "shared" / "data" / "voc_sample"


def read_sample(folder, columns):
    """Boxes (x, y, width, height) after `columns` others, in the order of the files."""
    pictures = []
    for path in sorted((SAMPLE / folder).glob("*.txt")):
        rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
        boxes = np.array([row[columns:] for row in rows], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        one = {"boxes": boxes, "classes": np.zeros(len(rows), np.int64)}
        pictures.append(one | {"scores": np.array([float(row[1]) for row in rows])} if columns == 2 else one)
    return pictures


@pytest.mark.parametrize(
    ("rule", "pixel_rule", "expected"),
    [
        ("11 points", True, 0.26839826839826836),
        ("area", True, 0.24568668046928915),
        ("area", False, 0.22539682539682537),
    ],
)
def test_the_sample(rule, pixel_rule, expected):
    if not SAMPLE.is_dir():
        pytest.skip("the sample of seven pictures is not there")
    truths, detections = read_sample("groundtruths", 1), read_sample("detections", 2)
    assert (sum(len(one["classes"]) for one in truths), sum(len(one["classes"]) for one in detections)) == (15, 24)
    found = voc_precision(
        truths, detections, ["person"], rule=rule, threshold=0.3, reaching=True, pixel_rule=pixel_rule
    )
    assert found.mean == pytest.approx(expected, abs=1e-15)


def of_one_class(truths, detections, threshold, extra):
    """Average precision by 11 points and by area, object by object, as the development kit does it."""
    order = sorted(
        (
            (one["scores"][slot], picture, slot)
            for picture, one in enumerate(detections)
            for slot in range(len(one["scores"]))
        ),
        key=lambda entry: -entry[0],
    )
    count = sum(int((~one["difficult"]).sum()) for one in truths)
    used = [[False] * len(one["boxes"]) for one in truths]
    hits, false = [0], [0]
    for _, picture, slot in order:
        x0, y0, x1, y1 = detections[picture]["boxes"][slot]
        best, largest = -1, -np.inf
        for place, (a0, b0, a1, b1) in enumerate(truths[picture]["boxes"]):
            width, height = min(x1, a1) - max(x0, a0) + extra, min(y1, b1) - max(y0, b0) + extra
            common = max(width, 0.0) * max(height, 0.0)
            union = (x1 - x0 + extra) * (y1 - y0 + extra) + (a1 - a0 + extra) * (b1 - b0 + extra) - common
            if common / union > largest:
                best, largest = place, common / union
        hit = wrong = 0
        if largest > threshold:
            if not truths[picture]["difficult"][best]:
                hit, wrong = (0, 1) if used[picture][best] else (1, 0)
                used[picture][best] = True
        else:
            wrong = 1
        hits.append(hits[-1] + hit)
        false.append(false[-1] + wrong)
    right, wrong = np.array(hits[1:], float), np.array(false[1:], float)
    precision = right / np.maximum(right + wrong, np.finfo(float).eps)
    recall = right / count if count else right
    points = np.mean([precision[recall >= point].max(initial=0.0) for point in np.arange(0.0, 1.1, 0.1)])
    area, before = 0.0, 0.0
    for place, reached in enumerate(recall):
        area += (reached - before) * precision[place:].max()
        before = reached
    return (points, area) if count else (np.nan, np.nan)


@st.composite
def sets(draw):
    """Pictures with boxes on a small grid, so that overlaps and scores tie."""
    truths, detections = [], []
    for _ in range(draw(st.integers(1, 4))):
        sides = []
        for most in (3, 6):
            count = draw(st.integers(0, most))
            corners = np.array(draw(st.lists(st.integers(0, 4), min_size=2 * count, max_size=2 * count)), float)
            spans = np.array(draw(st.lists(st.integers(1, 4), min_size=2 * count, max_size=2 * count)), float)
            corners, spans = corners.reshape(-1, 2), spans.reshape(-1, 2)
            classes = np.array(draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)), np.int64)
            sides.append({"boxes": np.concatenate([corners, corners + spans], axis=1), "classes": classes})
        truths.append(sides[0] | {"difficult": np.array([draw(st.booleans()) for _ in sides[0]["classes"]], bool)})
        detections.append(sides[1] | {"scores": np.array([draw(st.integers(1, 4)) / 4 for _ in sides[1]["classes"]])})
    return truths, detections


@given(sets(), st.sampled_from([0.3, 0.5]), st.booleans())
@settings(deadline=None, max_examples=150)
def test_it_is_the_loop(drawn, threshold, pixel_rule):
    truths, detections = drawn
    options = {"threshold": threshold, "pixel_rule": pixel_rule}
    points, area = (
        voc_precision(truths, detections, ["a", "b", "c"], rule=rule, **options) for rule in ("11 points", "area")
    )
    for number in range(3):
        sides = [
            [{key: np.asarray(array)[one["classes"] == number] for key, array in one.items()} for one in side]
            for side in drawn
        ]
        expected = of_one_class(*sides, threshold, 1.0 if pixel_rule else 0.0)
        found = points.average_precision[number], area.average_precision[number]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    known = area.average_precision[~np.isnan(area.average_precision)]
    np.testing.assert_equal(area.mean, known.mean() if known.size else np.nan)


def one_picture(*boxes, **others):
    return {"boxes": np.array(boxes, float).reshape(-1, 4), "classes": np.zeros(len(boxes), int)} | others


def test_by_hand():
    # Two objects, of which one is found at once and one never; a second detection of the first is false.
    truths = [one_picture((0, 0, 10, 10), (20, 0, 30, 10))]
    found = [one_picture((0, 0, 10, 9), (0, 0, 10, 10), (50, 50, 60, 60), scores=[0.9, 0.8, 0.7])]
    area = voc_precision(truths, found, ["cat"])
    assert area.average_precision.tolist() == [0.5]
    np.testing.assert_allclose(area.precisions[0], [1, 1 / 2, 1 / 3])
    np.testing.assert_array_equal(area.recalls[0], [0.5, 0.5, 0.5])
    # The recalls 0, 0.1, ..., 0.5 are reached.
    assert voc_precision(truths, found, ["cat"], rule="11 points").mean == pytest.approx(6 / 11)


def test_a_recall_of_three_tenths_misses_its_point():
    # As in the development kit, whose fourth point is 0.30000000000000004.
    truths = [one_picture(*((20 * place, 0, 20 * place + 10, 10) for place in range(10)))]
    found = [one_picture(*((20 * place, 0, 20 * place + 10, 10) for place in range(3)), scores=[0.9, 0.8, 0.7])]
    assert voc_precision(truths, found, ["cat"], rule="11 points").mean == pytest.approx(3 / 11)


def test_an_overlap_of_exactly_the_threshold():
    truths, found = [one_picture((0, 0, 10, 10))], [one_picture((0, 0, 10, 5), scores=[1.0])]
    assert voc_precision(truths, found, ["cat"]).mean == 0
    assert voc_precision(truths, found, ["cat"], reaching=True).mean == 1


def test_pixels_of_vocs_files_need_no_pixel_rule_once_they_are_continuous():
    inclusive = [one_picture((1, 1, 10, 10)), one_picture((1, 1, 10, 5), scores=[1.0])]
    continuous = [one_picture((0, 0, 10, 10)), one_picture((0, 0, 10, 5), scores=[1.0])]
    for threshold in (0.49, 0.51):
        means = [
            voc_precision([truth], [found], ["cat"], threshold=threshold, pixel_rule=rule).mean
            for (truth, found), rule in ((inclusive, True), (continuous, False))
        ]
        assert means == [float(threshold < 0.5)] * 2


def test_classes_and_pictures_without_anything():
    nothing = one_picture()
    found = voc_precision([nothing], [nothing | {"scores": []}], ["a", "b"])
    assert np.isnan(found.average_precision).all()
    assert np.isnan(found.mean)
    assert voc_precision([], [], ["a"]).average_precision.shape == (1,)
    assert voc_precision([one_picture((0, 0, 9, 9))], [nothing | {"scores": []}], ["a"]).mean == 0


def test_bad_input_is_told():
    truth, found = one_picture((0, 0, 9, 9)), one_picture((0, 0, 9, 9), scores=[1.0])
    with pytest.raises(ValueError, match="truths of 2 and detections of 1 pictures came"):
        voc_precision([truth, truth], [found], ["cat"])
    with pytest.raises(ValueError, match="threshold=0; expected an overlap"):
        voc_precision([truth], [found], ["cat"], threshold=0)
    with pytest.raises(ValueError, match='detections of picture 0: "scores" is missing'):
        voc_precision([truth], [truth], ["cat"])
    with pytest.raises(ValueError, match="a class out of range"):
        voc_precision([truth], [found], [])


@pytest.mark.usefixtures("unchecked_types")
def test_an_unknown_rule_is_told():
    with pytest.raises(ValueError, match="rule='2007'; expected 'area' or '11 points'"):
        voc_precision([], [], ["cat"], rule="2007")
