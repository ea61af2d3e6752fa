"""Objects of many pictures: as rows of a metric, and as tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from cnnjax.tasks.metrics import Detections, Metric, coco_precision, merge
from cnnjax.tasks.metrics.objects import table
from cnnjax.train.parallel import make_mesh

generator = np.random.default_rng(3)
PICTURES, SLOTS, TRUE = 8, 5, 3


def batch():
    """Predictions and truths of eight pictures in padded slots; the padding holds what would be found."""
    corners = generator.uniform(0, 90, (PICTURES, SLOTS, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + 20], axis=-1)
    predictions = {
        "boxes": boxes,
        "scores": generator.random((PICTURES, SLOTS)).astype(np.float32),
        "classes": generator.integers(0, 2, (PICTURES, SLOTS)).astype(np.int32),
        "present": generator.random((PICTURES, SLOTS)) < 0.7,
    }
    given = {
        "boxes": boxes[:, :TRUE] + np.float32(2),
        "classes": predictions["classes"][:, :TRUE],
        "present": generator.random((PICTURES, TRUE)) < 0.7,
        "crowd": generator.random((PICTURES, TRUE)) < 0.2,
        "image": np.zeros((PICTURES, 4, 4, 3), np.uint8),
        "id": np.array([4, 0, 6, 2, 7, 1, 3, 5], np.int32),
        "valid": np.arange(PICTURES) != 6,
    }
    return predictions, given


def by_hand(predictions, given):
    """One dictionary a picture, in the order of their numbers."""
    truths, found = [], []
    for place in np.argsort(given["id"]):
        if given["valid"][place]:
            there = given["present"][place]
            truths.append({key: given[key][place][there] for key in ("boxes", "classes", "crowd")})
            there = predictions["present"][place]
            found.append({key: predictions[key][place][there] for key in ("boxes", "scores", "classes")})
    return truths, found


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            np.testing.assert_array_equal(value, other[key])


def test_pictures_lose_their_padding_and_are_sorted():
    predictions, given = batch()
    detections = jax.jit(Detections.of)(predictions, given)
    assert isinstance(detections, Metric)
    for found, expected in zip(detections.pictures(), by_hand(predictions, given), strict=True):
        assert_same(found, expected)


def test_batches_and_their_order_do_not_matter():
    predictions, given = batch()

    def part(rows):
        return {"detections": Detections.of(*jax.tree.map(lambda leaf: jnp.asarray(leaf[rows]), (predictions, given)))}

    merged = merge([part(slice(5, 8)), part(slice(0, 5))])["detections"]
    assert isinstance(merged, Detections)
    truths, found = merged.pictures()
    expected = by_hand(predictions, given)
    assert_same(truths, expected[0])
    assert_same(found, expected[1])
    numbers, of_these = (coco_precision(*sides, ["a", "b"]).numbers() for sides in ((truths, found), expected))
    np.testing.assert_array_equal(list(numbers.values()), list(of_these.values()))


def test_devices_are_put_together_in_the_compiled_step():
    predictions, given = batch()
    mesh = make_mesh(2)

    def each(predictions, given):
        return Detections.of(predictions, given).over("data")

    divided = PartitionSpec("data")
    step = jax.shard_map(each, mesh=mesh, in_specs=(divided, divided), out_specs=PartitionSpec(), check_vma=False)
    for found, expected in zip(jax.jit(step)(predictions, given).pictures(), by_hand(predictions, given), strict=True):
        assert_same(found, expected)


def test_pictures_may_have_numbers_of_their_own_and_no_padding():
    predictions, given = batch()
    del predictions["present"], given["present"]
    given["picture"] = given["id"][::-1].copy()
    truths, found = Detections.of(predictions, given).pictures()
    assert [len(one["classes"]) for one in truths] == [TRUE] * 7
    first = int(np.argmin(np.where(given["valid"], given["picture"], 99)))
    np.testing.assert_array_equal(found[0]["scores"], predictions["scores"][first])


def test_what_is_missing_is_named():
    predictions, given = batch()
    with pytest.raises(ValueError, match='predictions: "scores" is missing'):
        Detections.of({key: value for key, value in predictions.items() if key != "scores"}, given)
    with pytest.raises(ValueError, match='batch: "classes" is missing; boxes, present'):
        Detections.of(predictions, {key: value for key, value in given.items() if key != "classes"})


def test_a_table_leaves_out_padding_whatever_it_holds():
    one = {"boxes": np.full((2, 4), np.nan), "classes": np.array([9, 1]), "present": np.array([False, True])}
    one["boxes"][1] = 1
    found = table("truths", [one, {"boxes": [], "classes": []}, one], 2, crowd=False, area=np.nan)
    assert found.pictures.tolist() == [0, 2]
    assert found.classes.tolist() == [1, 1]
    assert found.columns["crowd"].tolist() == [False, False]
    assert np.isnan(found.columns["area"]).all()


GOOD = {"boxes": np.zeros((2, 4)), "classes": np.array([0, 1]), "scores": np.zeros(2)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": np.zeros((3, 4))}, r"detections of picture 1: boxes of shape \(3, 4\) came, \(2, 4\) was expected"),
        ({"boxes": np.zeros((2, 5))}, r"boxes of shape \(2, 5\) came"),
        ({"boxes": np.array([[0, 0, 1, 1], [0, np.nan, 1, 1]])}, "detections of picture 1: a box with a NaN"),
        ({"scores": np.array([0.5, np.nan])}, "picture 1: NaN among scores"),
        ({"scores": np.zeros(1)}, r"scores of shape \(1,\) came"),
        ({"classes": np.array([0, 2])}, "picture 1: a class out of range; expected 0 to 1"),
        ({"classes": np.array([0, -1])}, "picture 1: a class out of range"),
        ({"classes": np.array([0.0, 1.0])}, "classes of float64 came; expected whole numbers"),
        ({"masks": [{"size": [1, 1], "counts": "1"}]}, "1 masks came for 2 objects"),
        ({}, "0 masks came for 2 objects"),
    ],
)
def test_tables_of_what_does_not_fit(changes, message):
    good = GOOD | {"masks": 2 * [{"size": [1, 1], "counts": "1"}]}
    wrong = GOOD | changes
    with pytest.raises(ValueError, match=message):
        table("detections", [good, wrong], 2, masks="masks" in message, scores=None)


@pytest.mark.parametrize("key", ["boxes", "classes", "scores"])
def test_tables_without_what_is_needed(key):
    with pytest.raises(ValueError, match=f'detections of picture 0: "{key}" is missing'):
        table("detections", [{name: value for name, value in GOOD.items() if name != key}], 2, scores=None)
