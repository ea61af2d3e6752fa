import numpy as np
import pytest

from cnnjax.data import ArraySource, Info, open_source
from cnnjax.data.sources.class_names import class_name, compare_sources, remarks_on_splits


def source(labels, classes=("cat", "dog"), split="train", **more):
    arrays = {"image": np.zeros((len(labels), 2, 2, 1), np.uint8), "label": np.array(labels), **more}
    return ArraySource(arrays, Info("pets", split, {}, classes))


def test_composed_and_decomposed_names_are_one():
    assert class_name("cafe\u0301") == "caf\u00e9"


def test_classes_that_a_split_lacks():
    labels = {"train": np.array([0, 1, 2]), "val": np.array([2, 0]), "test": np.array([], int)}
    assert remarks_on_splits("pets", "abc", labels) == {
        "train": (),
        "val": ("the split val has no examples of b",),
        "test": (),
    }
    folds = {"fold 1": np.array([0]), "fold 2": np.array([1, 0])}
    assert remarks_on_splits("pets", "ab", folds)["fold 1"] == ("the split fold 1 has no examples of b",)
    with pytest.raises(ValueError, match=r"pets: the split val has the classes c, of which train .* only of a, b; "):
        remarks_on_splits("pets", "abc", {"train": np.array([0, 1]), "val": np.array([2])})


def test_a_tag_that_training_lacks_is_said():
    tags = {"train": np.array([[1, 0.0]]), "val": np.array([[0, 1.0]])}
    assert remarks_on_splits("pets", "ab", tags) == {
        "train": ("the split train has no examples of b",),
        "val": ("the split val has no examples of a",),
    }


def test_sources_of_the_same_classes_agree():
    assert compare_sources(source([0, 1]), source([1, 0, 1], split="test")) == ()
    assert compare_sources(source([0, 1]), source([1], split="test")) == ("the split test has no examples of cat",)
    tags = [source([0, 1], tags=np.array([[1.0, 0], [0, rare]]), label=np.zeros((2, 1))) for rare in (1, 0)]
    assert compare_sources(*tags) == ("the split train has no examples of dog",)
    # Sources without names, such as those of another task, are not compared.
    assert compare_sources(source([0, 7], ()), source([9], ())) == ()


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (source([0, 1], ("dog", "cat")), "the same classes in another order, dog, cat, than the training data pets"),
        (source([0, 1], ("cat", "dog", "eel")), "other classes, cat, dog, eel, than .* cat, dog; expected the same"),
        (source([0, 1, 2], ()), "example 2 of pets .* has the label 2; expected 0 to 1"),
    ],
)
def test_labels_that_mean_other_classes_are_refused(test, words):
    with pytest.raises(ValueError, match=words):
        compare_sources(source([0, 1]), test)


def test_slices_without_a_class_in_common_are_refused():
    whole = source([0] * 8 + [1] * 2)
    first, last = (open_source(whole, split) for split in ("all[:80%]", "all[80%:]"))
    with pytest.raises(
        ValueError, match=r"has examples of dog only, of which the training data \(all\[:80%\]\) has none"
    ):
        compare_sources(first, last)
