import numpy as np
import pytest

from cnnjax.data import ArraySource, Info, open_source, shared_examples, splits
from cnnjax.data.sources.opening import is_spelling
from cnnjax.settings import Objects
from tests.data.tiny_sources import NoColumns, images_of


def test_digits_are_scikit_learns_at_32():
    from sklearn.datasets import load_digits

    digits, source = load_digits(), open_source("digits", "all")
    assert (len(source), source.info.classes) == (1797, tuple("0123456789"))
    assert source.info.shapes == {"image": (32, 32, 1), "label": ()}
    example = source[5]
    assert (example["image"].dtype, example["label"].dtype) == (np.uint8, np.int32)
    assert [int(source[i]["label"]) for i in range(1797)] == digits.target.tolist()
    # Averaged over their 4x4 patches, the upsampled pictures are close to the small ones.
    small = np.stack([source[i]["image"][..., 0].reshape(8, 4, 8, 4).mean((1, 3)) for i in range(100)])
    assert np.corrcoef(small.ravel(), digits.images[:100].ravel())[0, 1] > 0.97
    assert max(source[i]["image"].max() for i in range(20)) == 255


def test_spellings_are_known_by_their_kind():
    assert all(map(is_spelling, ("digits", "folder:not/there", "npz:x.npz", "tfds:mnist")))
    assert not any(map(is_spelling, ("arrays", "my pictures", "", "folders:x")))


def test_the_fixed_split_covers_is_stratified_and_sorted():
    whole = open_source("digits", "all")
    parts = {name: open_source("digits", name) for name in ("train", "test")}
    taken = {name: part.indices.tolist() for name, part in parts.items()}
    assert sorted(taken["train"] + taken["test"]) == list(range(len(whole)))
    for indices in taken.values():
        assert indices == sorted(indices)
    labels = np.array([whole[i]["label"] for i in range(len(whole))])
    totals, tested = np.bincount(labels), np.bincount(labels[taken["test"]])
    np.testing.assert_array_less(np.abs(tested - totals / 5), 0.51)
    assert taken["test"] != [i for i in range(len(whole)) if i % 5 == 0]
    assert taken["test"] == open_source("digits", "test").indices.tolist()


def test_the_fixed_split_does_not_move():
    """Worked out once without cnnjax; a change would silently make old results incomparable."""
    indices = open_source("digits", "test").indices
    assert indices[:8].tolist() == [3, 6, 11, 14, 17, 20, 36, 39]
    assert (len(indices), indices.sum()) == (359, 303_911)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", range(20)),
        ("train[:]", range(20)),
        ("train[:90%]", range(18)),
        ("train[90%:]", range(18, 20)),
        ("train[25%:8]", range(5, 8)),
        ("train[-3:]", range(17, 20)),
        ("train[:-10%]", range(18)),
        ("test[2:4]", range(2, 4)),
    ],
)
def test_slices(idx_folder, split, expected):
    source = open_source(f"idx:{idx_folder}", split)
    assert images_of(source) == list(expected)
    assert source.info.split == split


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("train[", "not a split expression"),
        ("train[5]", "not a split expression"),
        ("train+test", "not a split expression"),
        ("train[1.5%:]", "not a split expression"),
        ("", "not a split expression"),
        ("train[:21]", "out of range or empty.*20 examples"),
        ("train[-21:]", "out of range or empty"),
        ("train[:101%]", "not a split expression"),
        ("train[4:4]", "out of range or empty"),
        ("all", "no split 'all'; it offers train, test"),
        ("validation[:5]", "no split 'validation'"),
    ],
)
def test_bad_splits(idx_folder, split, words):
    with pytest.raises(ValueError, match=words):
        open_source(f"idx:{idx_folder}", split)


@pytest.mark.parametrize(
    ("spelling", "words"),
    [
        ("digit", "did you mean 'digits'"),
        ("tdfs:cifar10", "did you mean 'tfds:cifar10'"),
        (
            "jpegs",
            r"unknown data 'jpegs'; expected digits, tfds:NAME.*, masks:PATH or scenes:",
        ),
        ("vocs:there", "did you mean 'voc:there'"),
        ("digits:8", "expected digits"),
    ],
)
def test_unknown_spellings(spelling, words):
    with pytest.raises(ValueError, match=words):
        open_source(spelling)
    with pytest.raises(ValueError, match=words):
        splits(spelling)


def test_options_of_objects_are_for_data_with_objects():
    words = r"Objects\(slots=3.* came, and digits has no objects to read; such options are for voc, coco, masks"
    with pytest.raises(ValueError, match=words):
        open_source("digits", objects=Objects(slots=3))
    with pytest.raises(ValueError, match="numbers has no objects to read"):
        open_source(Numbers(), objects=Objects(invalid="drop"))
    assert len(open_source("digits", "all", objects=Objects())) == 1797


def test_shared_examples_are_counted_within_one_data_set(idx_folder):
    spelling = f"idx:{idx_folder}"
    first, second = (open_source("digits", split) for split in ("all[:100]", "all[90:120]"))
    assert shared_examples(first, second) == 10
    assert shared_examples(open_source("digits", "train"), open_source("digits", "test")) == 0
    assert shared_examples(first, open_source(spelling, "train")) == 0
    assert shared_examples(open_source(spelling, "train"), open_source(spelling, "test")) == 0


class Numbers(NoColumns):
    """A source from a notebook: the numbers 0 to 99."""

    info = Info("numbers", "all", {"number": ()})

    def __len__(self):
        return 100

    def __getitem__(self, index):
        return {"number": np.int64(index)}


def test_a_ready_made_source_is_opened_like_a_spelling():
    numbers = Numbers()
    assert splits(numbers) == ("train", "test", "all")
    parts = {split: open_source(numbers, split) for split in ("train", "test", "all", "all[10:20]", "train[:50%]")}
    assert {split: len(part) for split, part in parts.items()} == {
        "train": 80,
        "test": 20,
        "all": 100,
        "all[10:20]": 10,
        "train[:50%]": 40,
    }
    assert [int(parts["all[10:20]"][i]["number"]) for i in range(10)] == list(range(10, 20))
    assert parts["test"].info == Info("numbers", "test", {"number": ()})
    assert shared_examples(parts["train"], parts["test"]) == 0
    assert shared_examples(parts["all"], parts["test"]) == 20
    assert shared_examples(parts["all"], open_source(Numbers(), "test")) == 0
    with pytest.raises(ValueError, match="numbers has no split 'val'; it offers train, test, all"):
        open_source(numbers, "val")


def test_a_ready_made_source_with_labels_is_split_by_them():
    labels = np.repeat([0, 1], [10, 30])
    test = open_source(ArraySource({"label": labels}), "test")
    assert np.bincount(labels[test.indices]).tolist() == [2, 6]
    assert test.column("label").tolist() == [0, 0, 1, 1, 1, 1, 1, 1]


def test_equal_data_shares_its_examples_whatever_it_is_called():
    arrays = {"image": np.arange(12, dtype=np.uint8).reshape(4, 3)}
    first, second = (open_source(ArraySource(arrays, Info(name, "all", {})), "all") for name in ("one", "two"))
    assert shared_examples(first, second) == 4


def test_what_is_no_source_is_an_error():
    class Nameless(Numbers):
        info = "numbers"

    with pytest.raises(TypeError, match=r"data is a Nameless; expected a spelling \(digits, .* of the type Info"):
        open_source(Nameless())
