"""Expansion and scale jitter against plain loops, and by the distribution of their windows."""

from functools import partial

import jax
import jaxtyping
import numpy as np
import pytest

from cnnjax.data.augment import Targets, expand, scale_jitter
from tests.data.augment.loops import boxed, corners, nearest, resized, windows_of
from tests.models.quick import run_unoptimised

KEY = jax.random.key(5)
generator = np.random.default_rng(0)
SHAPE, SIZE, FILL = (9, 12), (8, 10), (0.2, 0.4, 0.6)
IMAGES = generator.uniform(size=(6, *SHAPE, 3)).astype(np.float32)
TARGETS = Targets(
    boxes=np.tile(np.float32([[1, 2, 6, 8], [0, 0, 0, 0], [7, 5, 12, 9]]), (6, 1, 1)),
    masks=generator.integers(0, 5, (6, *SHAPE)).astype(np.int32),
    keypoints=corners(6, SHAPE),
)


@pytest.mark.parametrize(
    "transform",
    [
        partial(expand, size=SIZE, fill=FILL, probability=1.0),
        partial(scale_jitter, size=SIZE, fill=FILL, factors=(0.4, 2.0)),
    ],
    ids=["expand", "scale_jitter"],
)
def test_pictures_and_targets_are_those_of_plain_loops(transform):
    found, targets = run_unoptimised(transform, KEY, IMAGES, TARGETS)
    windows = windows_of(targets.keypoints, SHAPE, SIZE)
    assert len(np.unique(windows.round(3), axis=0)) == 6
    for number, window in enumerate(windows):
        np.testing.assert_allclose(found[number], resized(IMAGES[number], window, SIZE, FILL), atol=2e-4)
        expected = [boxed(box, window, SIZE) for box in TARGETS.boxes[number]]
        np.testing.assert_allclose(targets.boxes[number], expected, atol=1e-4)
        np.testing.assert_array_equal(targets.masks[number], nearest(TARGETS.masks[number], window, SIZE))
    again, _ = run_unoptimised(
        transform, jax.random.split(KEY, 6)[3:], IMAGES[3:], jax.tree.map(lambda x: x[3:], TARGETS)
    )
    np.testing.assert_allclose(again, found[3:], atol=1e-6)
    levels = run_unoptimised(transform, KEY, np.round(IMAGES * 255).astype(np.uint8))
    assert np.abs(levels / 255 - found).max() < 1.6 / 255


def test_half_of_the_canvases_are_up_to_four_times_as_long():
    transform = partial(expand, size=(1, 1), fill=0.5)
    blank = np.zeros((600, *SHAPE, 1), np.float32)
    _, targets = run_unoptimised(transform, KEY, blank, Targets(keypoints=corners(600, SHAPE)))
    windows = windows_of(targets.keypoints, SHAPE, (1, 1))
    ratios = (windows[:, 2] - windows[:, 0]) / 12
    np.testing.assert_allclose(ratios, (windows[:, 3] - windows[:, 1]) / 9, rtol=1e-4)
    expanded = ratios > 1.0001
    assert 0.43 < expanded.mean() < 0.57
    np.testing.assert_allclose(windows[~expanded], np.tile([0, 0, 12, 9], ((~expanded).sum(), 1)), atol=1e-3)
    assert 1 < ratios[expanded].min() < 1.1
    assert 3.9 < ratios[expanded].max() <= 4.0001
    assert abs(ratios[expanded].mean() - 2.5) < 0.15
    # The picture lies within the canvas, anywhere in it.
    share = -windows[expanded, :2] / (ratios[expanded, None] - 1) / [12, 9]
    assert share.min() > -1e-3
    assert share.max() < 1.001
    np.testing.assert_allclose(share.mean(0), 0.5, atol=0.06)


def test_jitter_keeps_the_aspect_and_pads_at_the_right_and_below():
    blank = np.zeros((600, *SHAPE, 1), np.float32)
    transform = partial(scale_jitter, size=(9, 24), factors=(0.5, 2.0))
    _, targets = run_unoptimised(transform, KEY, blank, Targets(keypoints=corners(600, SHAPE)))
    windows = windows_of(targets.keypoints, SHAPE, (9, 24))
    # At factor 1 the picture, 9 high, fits; it is 12 wide, and 12 are padded.
    factors = 9 / (windows[:, 3] - windows[:, 1])
    np.testing.assert_allclose(factors, 24 / (windows[:, 2] - windows[:, 0]), rtol=1e-4)
    assert 0.5 <= factors.min() < 0.52
    assert 1.98 < factors.max() <= 2.0001
    assert abs(np.median(factors) - 1.25) < 0.08
    np.testing.assert_allclose(windows[:, 0], 0, atol=1e-4)  # never longer than 24
    np.testing.assert_allclose(windows[factors < 1, 1], 0, atol=1e-4)
    room = 9 - 9 / factors[factors > 1.2]
    share = windows[factors > 1.2, 1] / room
    assert share.min() > -1e-3
    assert share.max() < 1.001
    assert abs(share.mean() - 0.5) < 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: expand(KEY, x, size=(3, 3), ratio=(0.5, 2.0)), "ratio=.* within 1 to inf"),
        (lambda x: expand(KEY, x, size=(3, 3), probability=1.5), "probability=1.5"),
        (lambda x: expand(KEY, x, size=(3, 0)), r"size=\(3, 0\)"),
        (lambda x: expand(KEY, x[..., :1], size=(3, 3)), "fill="),
        (lambda x: scale_jitter(KEY, x, size=(3, 3), factors=(0.0, 2.0)), "factors="),
    ],
)
def test_what_is_no_option(monkeypatch, call, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        call(IMAGES)
