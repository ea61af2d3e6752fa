"""Scenes against what their key points say, drawn again in NumPy, and by their distribution."""

import jax
import jaxtyping
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from cnnjax.data.scenes import scene
from tests.models.quick import run_unoptimised

KEY = jax.random.key(0)
HEIGHT, WIDTH = 48, 64
CENTRES = np.stack(np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5), -1)
COLOURS = np.asarray([[217, 31, 31], [242, 217, 26], [26, 166, 51], [31, 64, 217], [153, 38, 191], [245, 245, 245]])


@pytest.fixture(scope="module")
def scenes():
    draw = jax.vmap(lambda key: scene(key, size=(HEIGHT, WIDTH), objects=5))
    return run_unoptimised(draw, jax.random.split(KEY, 60))


def each(scenes):
    """Every scene, with the numbers of its slots that hold an object."""
    for number in range(len(scenes["image"])):
        one = {name: array[number] for name, array in scenes.items()}
        yield one, np.flatnonzero(one["present"])


def inside(points, kind, keypoints):
    """Which points lie in a shape, by where its five key points are."""
    (x, y), (_, top), (right, _), (_, bottom), (left, _) = keypoints.astype(float)
    across, down = points[..., 0], points[..., 1]
    if kind == 0:
        return np.hypot(across - x, down - y) <= (bottom - top) / 2
    if kind == 1:
        return (across >= left) & (across <= right) & (down >= top) & (down <= bottom)
    return (down <= bottom) & (np.abs(across - x) <= (right - left) / 2 * (down - top) / (bottom - top))


def close(masks, others, *, pixels):
    """Whether but for so many pixels, which lie on an edge, masks are the same."""
    return (masks != others).sum() <= pixels


def test_masks_are_shapes_laid_over_one_another(scenes):
    for one, slots in each(scenes):
        laid = np.zeros((HEIGHT, WIDTH), int)
        for slot in slots:
            laid[inside(CENTRES, one["classes"][slot], one["keypoints"][slot])] = slot + 1
        assert close(one["masks"], laid, pixels=2)
        for slot in slots:
            whole = inside(CENTRES, one["classes"][slot], one["keypoints"][slot]).sum()
            assert one["area"][slot] >= 0.25 * (whole - 2)


def test_boxes_areas_and_positions_are_those_of_the_masks(scenes):
    for one, slots in each(scenes):
        assert set(np.unique(one["masks"])) - {0} == set(slots + 1)
        for slot in slots:
            rows, columns = np.nonzero(one["masks"] == slot + 1)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_array_equal(one["boxes"][slot], box)
            assert one["area"][slot] == len(rows)
            third = [min(2, int(3 * (box[i] + box[i + 2]) / 2 / (WIDTH, HEIGHT)[i])) for i in (0, 1)]
            assert one["positions"][slot] == 3 * third[1] + third[0]


def test_points_are_covered_where_a_later_object_lies(scenes):
    wrong = total = hidden = 0
    for one, slots in each(scenes):
        for slot in slots:
            for point, visibility in zip(one["keypoints"][slot], one["visibility"][slot], strict=True):
                later = [inside(point, one["classes"][k], one["keypoints"][k]) for k in slots if k > slot]
                wrong += visibility != (1 if any(later) else 2)
                hidden += visibility == 1
                total += 1
    assert wrong <= 1  # on an edge
    assert hidden > 0.03 * total


def test_objects_are_within_the_picture_of_their_colour_and_size(scenes):
    for one, slots in each(scenes):
        points = one["keypoints"][slots]
        assert (points >= -1e-3).all()
        assert (points <= np.asarray([WIDTH, HEIGHT]) + 1e-3).all()
        longest = (points[:, [2, 3], [0, 1]] - points[:, [4, 1], [0, 1]]).max(1) / HEIGHT
        np.testing.assert_array_equal(longest > 0.3, one["sizes"][slots] == 1)
        assert (longest > 0.159).all()
        assert (longest < 0.501).all()
        for slot in slots:
            shown = np.median(one["image"][one["masks"] == slot + 1], 0)
            assert np.abs(shown - COLOURS[one["colours"][slot]]).max() < 20 or one["area"][slot] < 40


def test_empty_slots_hold_nothing_and_come_last(scenes):
    present = scenes["present"]
    assert (np.diff(present.astype(int), axis=1) <= 0).all()
    assert present[:, 0].all()
    for name in ("boxes", "classes", "area", "keypoints", "visibility", "colours", "sizes", "positions"):
        assert not scenes[name][~present].any(), name
    types = {name: array.dtype for name, array in scenes.items()}
    assert types["image"] == np.uint8
    assert types["boxes"] == types["area"] == types["keypoints"] == np.float32
    assert {types[name] for name in ("classes", "masks", "visibility", "colours", "sizes", "positions")} == {
        np.dtype(np.int32)
    }


def test_all_there_is_is_drawn(scenes):
    present = scenes["present"]
    assert set(present.sum(1)) == {1, 2, 3, 4, 5}
    for name, count in (("classes", 3), ("colours", 6), ("sizes", 2), ("positions", 9)):
        values, numbers = np.unique(scenes[name][present], return_counts=True)
        np.testing.assert_array_equal(values, np.arange(count))
        assert numbers.min() > 0.25 * numbers.max() or name == "positions"


def test_a_key_decides_alone(scenes):
    one = run_unoptimised(lambda key: scene(key, size=(HEIGHT, WIDTH), objects=5), jax.random.split(KEY, 60)[7])
    for name, array in one.items():
        # Compiled for one, numbers may round apart.
        np.testing.assert_allclose(array.astype(float), scenes[name][7].astype(float), atol=1.0, err_msg=name)
    assert (scenes["image"][0] != scenes["image"][1]).any()


def test_digits_are_those_of_scikit_learn():
    draw = jax.vmap(lambda key: scene(key, size=(64, 64), objects=4, digits=True, seen=1.0))
    found = run_unoptimised(draw, jax.random.split(KEY, 60))
    pictures, labels = load_digits(return_X_y=True)
    known = np.stack([small(picture.reshape(8, 8) >= 8) for picture in pictures])
    right, points = [], 0
    for one, slots in each(found):
        for slot in slots[one["classes"][slots] >= 3]:
            box = one["boxes"][slot]
            left, top, low_right, bottom = box.astype(int)
            # Nothing covers it, so its points are about the box.
            middle = (box[:2] + box[2:]) / 2
            around = [middle, [middle[0], box[1]], [box[2], middle[1]], [middle[0], box[3]], [box[0], middle[1]]]
            np.testing.assert_allclose(one["keypoints"][slot], around, atol=1e-3)
            points += 1
            if one["sizes"][slot] == 1:
                ink = small(one["masks"][top:bottom, left:low_right] == slot + 1)
                right.append(labels[((known - ink) ** 2).sum((1, 2)).argmin()] == one["classes"][slot] - 3)
    assert len(right) >= 8
    assert np.mean(right) > 0.8
    assert points > 20


def small(mask):
    """A mask without its empty border, as 8x8 shares."""
    rows, columns = np.nonzero(mask)
    part = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return np.asarray(Image.fromarray(part.astype(np.float32)).resize((8, 8), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (8, 32)}, r"size=\(8, 32\)"),
        ({"fewest": 0}, "fewest=0 and objects=6"),
        ({"objects": 2, "fewest": 3}, "fewest=3 and objects=2"),
        ({"seen": 0.0}, "seen=0.0"),
    ],
)
def test_what_is_no_scene(monkeypatch, options, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        scene(KEY, **options)
