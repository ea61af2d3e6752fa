"""The two sides of the comparison of COCO's numbers."""

import pytest

from experiments.benchmarks import coco_metrics


@pytest.mark.parametrize("name", ["boxes, 10 classes", "masks, 10 classes"])
def test_the_sides_agree_and_are_timed(name):
    row = coco_metrics.measure(coco_metrics.CASES[name], coco_metrics.Options(pictures=10, rounds=1))
    assert row["detections"] == 50 * row["pictures"]
    assert row["largest_difference"]["pycocotools"] <= coco_metrics.AGREEMENT
    assert 0 < row["ap"] < 1
    assert row["processor_seconds"].keys() >= {"cnnjax", "pycocotools"}
    assert row["times_faster_than_pycocotools"] > 0


def test_options_out_of_range_are_told():
    with pytest.raises(ValueError, match="rounds=0"):
        coco_metrics.main(coco_metrics.Options(rounds=0))
