import numpy as np
import pytest

from cnnjax.data.sources.object_table import Table, choose_slots, fill, sound_boxes

# Three pictures with two, no and one object.
TABLE = Table.of(
    np.array([0, 0, 2]),
    3,
    {"classes": np.array([4, 5, 6], np.int32), "boxes": np.arange(12, dtype=np.float32).reshape(3, 4)},
)


def test_objects_of_a_picture_and_of_all():
    assert TABLE.counts.tolist() == [2, 0, 1]
    assert [TABLE.columns["classes"][TABLE.rows(index)].tolist() for index in range(3)] == [[4, 5], [], [6]]
    found = TABLE.filled(2)
    assert found["classes"].tolist() == [[4, 5], [0, 0], [6, 0]]
    assert found["present"].tolist() == [[True, True], [False, False], [True, False]]
    assert found["boxes"][2].tolist() == [[8, 9, 10, 11], [0, 0, 0, 0]]
    for index in range(3):
        one = fill({name: values[TABLE.rows(index)] for name, values in TABLE.columns.items()}, 2)
        for name, values in one.items():
            np.testing.assert_array_equal(values, found[name][index])
            assert values.dtype == found[name].dtype


def test_a_table_without_columns_has_pictures_without_objects():
    assert Table.of(np.zeros(0, np.int64), 3, {}).counts.tolist() == [0, 0, 0]


def test_slots_are_the_largest_number_of_any_split():
    counts = {"train": np.array([1, 4, 2]), "test": np.array([5, 7])}
    assert choose_slots(counts, None, str) == 7
    assert choose_slots(counts, 9, str) == 9
    assert choose_slots({"all": np.array([0, 0])}, None, str) == 1
    with pytest.raises(
        ValueError, match=r"train 1 has 4 objects, and there are slots=3; pass slots=7 \(--objects.slots 7\)"
    ):
        choose_slots(counts, 3, lambda split, index: f"{split} {index}")


# A picture 10 wide and 6 high. What is said of a box; whether dropping and cutting keep it; the cut box.
BOXES = {
    (0, 0, 10, 6): ("", True, True, (0, 0, 10, 6)),
    (-0.5, -0.25, 10.5, 6.5): ("", True, True, (0, 0, 10, 6)),
    (2, 3, 2, 5): ("is empty", False, False, None),
    (2, 3, 4, 3): ("is empty", False, False, None),
    (4, 3, 2, 5): ("is inverted", False, False, None),
    (-1, 0, 4, 5): ("reaches out of its picture, which is 10 wide and 6 high", False, True, (0, 0, 4, 5)),
    (8, 2, 12, 4): ("reaches out of", False, True, (8, 2, 10, 4)),
    (11, 2, 14, 4): ("lies outside of", False, False, None),
    (10, 2, 10.4, 4): ("lies outside of", False, False, None),
    (float("nan"), 0, 4, 5): ("is not finite", False, False, None),
    (0, 0, float("inf"), 5): ("is not finite", False, False, None),
}


@pytest.mark.parametrize("box", BOXES, ids=str)
def test_boxes_are_refused_dropped_or_cut(box):
    problem, dropping, cutting, cut = BOXES[box]
    boxes, sides = np.array([(1, 1, 3, 3), box], np.float64), np.array([(6, 10), (6, 10)])

    def check(invalid):
        return sound_boxes(boxes, sides, invalid, lambda number: f"a.xml, object {number}")

    if not problem:
        assert check("refuse").boxes[1].tolist() == list(cut)
        assert (check("refuse").remarks, check("drop").remarks) == ((), ())
    else:
        with pytest.raises(ValueError, match=rf'a\.xml, object 1 {problem}.*invalid="drop"\) \(--objects.invalid drop'):
            check("refuse")
    for invalid, stays in (("drop", dropping), ("cut", cutting)):
        found = check(invalid)
        assert found.kept.tolist() == [True, stays]
        assert found.boxes.dtype == np.float32
        if stays:
            assert found.boxes[1].tolist() == list(cut)
        if problem:
            said = "cut at the border" if stays else "left out"
            assert found.remarks[0].startswith(f"{said} 1 object: a.xml, object 1 {problem}")


def test_many_boxes_are_counted_and_a_few_told():
    found = sound_boxes(np.zeros((9, 4)), np.full((9, 2), 5), "drop", str)
    assert (len(found.boxes), found.remarks) == (
        0,
        ("left out 9 objects: 0 is empty; 1 is empty; 2 is empty; 3 is empty; 4 is empty; and 4 more",),
    )
    with pytest.raises(ValueError, match=r"0 is empty \(8 more boxes are wrong\)"):
        sound_boxes(np.zeros((9, 4)), np.full((9, 2), 5), "refuse", str)
