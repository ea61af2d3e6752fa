"""Mosaic against plain loops, quarter by quarter."""

import jax
import jaxtyping
import numpy as np
import pytest

from cnnjax.data.augment import mosaic
from tests.data.augment.loops import corners, nearest, resized, windows_of
from tests.models.quick import run_unoptimised

KEY = jax.random.key(6)
generator = np.random.default_rng(0)
SHAPE, SIZE, FILL = (9, 12), (10, 14), 0.25
BATCH = {
    "image": generator.uniform(size=(5, *SHAPE, 3)).astype(np.float32),
    "id": np.arange(5, dtype=np.int32) + 3,
    "boxes": np.tile(np.float32([[1, 2, 10, 8], [0, 0, 0, 0], [0, 0, 2, 2], [9, 6, 12, 9]]), (5, 1, 1)),
    "classes": generator.integers(0, 9, (5, 4)).astype(np.int32),
    "present": np.tile([True, False, True, True], (5, 1)),
    "masks": generator.integers(0, 5, (5, *SHAPE)).astype(np.int32),
    "keypoints": corners(5, SHAPE),
    "picture": np.arange(5, dtype=np.int32),
}


def test_each_quarter_is_a_window_of_its_picture():
    layers = np.stack([BATCH["masks"], BATCH["masks"] > 2], -1)
    found = run_unoptimised(lambda key, batch: mosaic(key, batch, size=SIZE, fill=FILL), KEY, BATCH)
    stacked = run_unoptimised(
        lambda key, batch: mosaic(key, batch, size=SIZE, fill=FILL), KEY, {**BATCH, "masks": layers}
    )
    assert found["boxes"].shape == (5, 16, 4)
    assert stacked["masks"].shape == (5, *SIZE, 8)
    np.testing.assert_array_equal(found["picture"], BATCH["picture"])
    points = []
    for number in range(5):
        # Both corners of each of the four, where they have gone; one of each lies on the point.
        four = found["keypoints"][number].reshape(4, 2, 2)
        point = four[0, 1]
        points.append(point)
        np.testing.assert_allclose(
            [[four[1, 0, 0], four[1, 1, 1]], [four[2, 1, 0], four[2, 0, 1]], four[3, 0]], [point] * 3, atol=1e-3
        )
        windows = windows_of(four, SHAPE, SIZE)
        for quarter, window in enumerate(windows):
            other = (number + quarter) % 5
            right, down = quarter % 2, quarter // 2
            rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
            here = ((columns > point[0]) == right) & ((rows > point[1]) == down)
            scale = 14 / (window[2] - window[0]) * 12 / 14
            assert 0.499 < scale < 1.001
            expected = resized(BATCH["image"][other], window, SIZE, FILL)
            np.testing.assert_allclose(found["image"][number][here], expected[here], atol=1e-3)
            mask = nearest(BATCH["masks"][other], window, SIZE)[here]
            np.testing.assert_array_equal(found["masks"][number][here], np.where(mask > 0, mask + 4 * quarter, 0))
            layer = np.where(here[..., None], nearest(layers[other], window, SIZE), 0)
            np.testing.assert_array_equal(stacked["masks"][number][..., 2 * quarter : 2 * quarter + 2], layer)
            start, end = np.where([right, down], point, 0), np.where([right, down], SIZE[::-1], point)
            for slot, box in enumerate(BATCH["boxes"][other]):
                place = 4 * quarter + slot
                ends = ((box.reshape(2, 2) - window[:2]) * SIZE[::-1] / (window[2:] - window[:2])).clip(start, end)
                empty = (ends[1] <= ends[0]).any()
                moved = np.zeros(4) if empty else ends.ravel()
                np.testing.assert_allclose(found["boxes"][number, place], moved, atol=1e-3)
                assert found["present"][number, place] == (BATCH["present"][other, slot] and not empty)
                assert found["classes"][number, place] == BATCH["classes"][other, slot]
    shares = np.asarray(points) / SIZE[::-1]
    assert len(np.unique(shares.round(4), axis=0)) == 5
    assert (shares > 0.249).all()
    assert (shares < 0.751).all()


def test_a_draw_belongs_to_the_id():
    moved = run_unoptimised(lambda key, batch: mosaic(key, batch, size=SIZE), KEY, BATCH)
    rolled = {name: np.roll(array, 2, 0) for name, array in BATCH.items()}
    again = run_unoptimised(lambda key, batch: mosaic(key, batch, size=SIZE), KEY, rolled)
    for name, array in moved.items():
        np.testing.assert_allclose(np.roll(again[name], -2, 0), array, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("batch", "options", "message"),
    [
        ({"image": BATCH["image"]}, {}, "expected 'boxes' too"),
        (BATCH, {"centre": (0.5, 1.5)}, "centre=.* within 0 to 1"),
        (BATCH, {"factors": (0.0, 1.0)}, "factors="),
    ],
)
def test_what_is_no_mosaic(monkeypatch, batch, options, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        mosaic(KEY, batch, size=SIZE, **options)
