import pytest

from cnnjax.data.sources.split_names import names_by_split, resembles_split, split_name, with_test


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["train", "Training", "TRAIN"]),
        ("val", ["val", "Valid", "VALIDATION", "dev"]),
        ("test", ["Test", "testing"]),
        ("fold 1", ["fold 1"]),
        ("Trainee", ["Trainee"]),
    ],
)
def test_usual_names_of_splits_in_any_case(split, names):
    assert [split_name(name) for name in names] == [split] * len(names)


def test_two_names_of_one_split_are_an_error():
    assert names_by_split(["Training", "dev", "x"], "it") == {"train": "Training", "val": "dev", "x": "x"}
    with pytest.raises(
        ValueError, match=r"^pets has 'val' and 'Validation', which both stand for the split 'val'; rename"
    ):
        names_by_split(["val", "train", "Validation"], "pets")


@pytest.mark.parametrize(
    ("name", "resembles"),
    [("seg_train", True), ("test-set", True), ("Training set", True), ("trainers", False), ("contest", False)],
)
def test_names_that_resemble_those_of_splits(name, resembles):
    assert resembles_split(name) is resembles


@pytest.mark.parametrize(
    ("splits", "offered", "test"),
    [
        (("test", "train"), ("train", "test"), "test"),
        (("val", "train"), ("train", "val", "test"), "val"),
        (("validation", "val", "train"), ("train", "val", "validation", "test"), "val"),
        (("validation", "train"), ("train", "validation", "test"), "validation"),
        (("Training", "dev"), ("Training", "dev", "test"), "dev"),
        (("Testing", "train", "val"), ("train", "val", "Testing"), None),
        (("val",), ("val",), None),
        (("b", "train", "a"), ("train", "a", "b"), None),
    ],
)
def test_what_is_held_out_serves_as_test(splits, offered, test):
    parts = with_test({split: lambda split=split: split for split in splits})
    assert tuple(parts) == offered
    assert test is None or parts["test"]() == test
