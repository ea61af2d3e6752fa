"""Which detection takes which object: equal to a loop over everything, in one piece or in many."""

import numpy as np
import pytest

from cnnjax.tasks.metrics import coco_matching
from cnnjax.tasks.metrics.coco_matching import match
from cnnjax.tasks.metrics.objects import Table

THRESHOLDS = np.array([0.3, 0.5, 0.75])


def overlap(ours, theirs, crowd):
    width = min(ours[2], theirs[2]) - max(ours[0], theirs[0])
    height = min(ours[3], theirs[3]) - max(ours[1], theirs[1])
    if width <= 0 or height <= 0:
        return 0.0
    own, other = ((box[2] - box[0]) * (box[3] - box[1]) for box in (ours, theirs))
    return width * height / (own if crowd else own + other - width * height)


def loop(found, true, ignored, outside):
    """COCO's rule, detection by detection, for each range of areas and threshold by itself."""
    shape = (ignored.shape[1], len(THRESHOLDS), len(found.classes))
    hits, false = np.zeros(shape, bool), np.zeros(shape, bool)
    for area in range(shape[0]):
        for place, threshold in enumerate(THRESHOLDS):
            taken = set()
            for one in range(shape[2]):
                best = None
                for other in range(len(true.classes)):
                    same = (found.pictures[one], found.classes[one]) == (true.pictures[other], true.classes[other])
                    crowd = true.columns["crowd"][other]
                    value = overlap(found.boxes[one], true.boxes[other], crowd)
                    if same and value >= threshold and (crowd or other not in taken):
                        best = max(best or (), (not ignored[other, area], value, other))
                if best:
                    taken.add(best[2])
                    hits[area, place, one] = best[0]
                else:
                    false[area, place, one] = not outside[one, area]
    return hits, false


def draw(seed):
    generator = np.random.default_rng(seed)

    def side(count):
        low = generator.integers(0, 5, (count, 2))
        boxes = np.concatenate([low, low + generator.integers(2, 6, (count, 2))], axis=1).astype(float)
        pictures, classes = np.sort(generator.integers(0, 3, count)), np.zeros(count, int)
        classes[count // 2 :] = 1
        pictures = np.concatenate([np.sort(part) for part in np.split(pictures, [count // 2])])
        return Table(pictures, classes, boxes, {"crowd": generator.random(count) < 0.2}, [])

    found, true = side(30), side(14)
    ignored = true.columns["crowd"][:, None] | (generator.random((14, 2)) < 0.3)
    return found, true, ignored, generator.random((30, 2)) < 0.3


@pytest.mark.parametrize("at_once", [2**20, 7])
def test_it_is_the_loop(monkeypatch, at_once):
    monkeypatch.setattr(coco_matching, "_AT_ONCE", at_once)
    shares = []
    for seed in range(12):
        found, true, ignored, outside = draw(seed)
        judged = match(found, true, ignored, outside, THRESHOLDS, None)
        hits, false = loop(found, true, ignored, outside)
        np.testing.assert_array_equal(judged.hits, hits)
        np.testing.assert_array_equal(judged.false, false)
        shares.append(hits.mean())
    assert 0.05 < np.mean(shares) < 0.95
