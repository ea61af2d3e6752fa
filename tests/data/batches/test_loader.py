import numpy as np
import pytest
from PIL import Image

from cnnjax.data import ArraySource, Info, RandomCrop, ReadPictures
from cnnjax.data.batches.loader import Loaded, Loader, stack_examples
from tests.data.tiny_sources import NoColumns, encode

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
SOURCE = ArraySource({"image": PIXELS, "label": np.arange(3)})


class Files(NoColumns):
    """Encoded pictures with the names of their files; what is no bytes is torn."""

    info = Info("files", "train", {"image": (None, None, 1)}, ())

    def __init__(self, *data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return {"image": self.data[index]}

    def where(self, index):
        return f"{index}.png"


PNG = encode(Image.new("RGB", (6, 5), (9, 9, 9)), "PNG")


def test_pictures_are_decoded_to_the_channels_asked_for_and_brought_to_size():
    loaded = Loader(Files(PNG), ReadPictures((4, 3))).load(0, 0)
    assert (loaded.index, loaded.valid, loaded.faults) == (0, True, ())
    np.testing.assert_array_equal(loaded.example["image"], np.full((4, 3, 1), 9))


def test_an_array_is_left_alone_without_a_size():
    np.testing.assert_array_equal(Loader(SOURCE).load(2, 7).example["image"], PIXELS[2])


def test_a_crop_of_the_whole_area_and_aspect_is_the_picture():
    whole = RandomCrop(area=(1.0, 1.0), aspect=(1.25, 1.25))
    found = Loader(SOURCE, ReadPictures((40, 50), random_crop=whole)).load(1, 0).example["image"]
    np.testing.assert_array_equal(found, PIXELS[1])


def test_crops_follow_the_place_and_not_the_index():
    loader = Loader(SOURCE, ReadPictures(8, random_crop=RandomCrop(), seed=4))
    one, again, other = (loader.load(1, place).example["image"] for place in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_faults_name_the_file():
    with pytest.raises(ValueError, match=r"example 1 of files \(train\) cannot be read from 1\.png: 4 bytes do not"):
        Loader(Files(PNG, b"torn")).load(1, 0)
    skipped = Loader(Files(PNG, b"torn"), unreadable="skip").load(1, 0)
    assert (skipped.index, skipped.valid, skipped.example) == (1, False, None)
    assert "1.png" in skipped.faults[0].message
    taken = Loader(Files(PNG, b"torn", b"torn too"), unreadable="substitute").load(1, 0)
    assert (taken.index, taken.valid, [fault.index for fault in taken.faults]) == (0, True, [1, 2])
    with pytest.raises(ValueError, match=r"from 0\.png: .*; nor can the 1 after it"):
        Loader(Files(b"torn", b"torn too"), unreadable="substitute").load(0, 0)


def test_a_wrong_way_to_the_size_is_no_fault_of_the_example():
    with pytest.raises(ValueError, match=r"example 0 of files in 0\.png: an image of 5x6 does not fit into 4x4"):
        Loader(Files(PNG), ReadPictures(4, "pad"), unreadable="skip").load(0, 0)


def test_skipped_rows_hold_a_readable_example():
    rows = [Loaded(3, False, None), Loaded(4, True, {"number": np.int32(7)})]
    batch = stack_examples(rows, rows[1], Files(PNG))
    assert {name: values.tolist() for name, values in batch.items()} == {
        "number": [7, 7],
        "id": [3, 4],
        "valid": [False, True],
    }


@pytest.mark.parametrize(
    ("element", "shapes", "cure"),
    [
        ("image", [(4, 5, 3), (4, 6, 3)], r"pass image_size \(--image-size N\)"),
        ("image", [(4, 5, 3), (4, 5, 1)], "make them equal"),
        ("masks", [(4, 5), (5, 5)], "pass image_size"),
        ("masks", [(4, 5, 1), (4, 5, 2)], r"pad them by read=ReadPictures\(\.\.\., most=\{'masks': N\}\)"),
        ("boxes", [(2, 4), (0, 4)], r"pad them by .*most=\{'boxes': N\}"),
        ("kind", [(2,), (3,)], r"pad them by .*most=\{'kind': N\}"),
        ("kind", [(2,), ()], "make them equal"),
        ("table", [(2, 4), (2, 5)], "make them equal"),
    ],
)
def test_elements_of_unequal_shapes_are_told_their_cure(element, shapes, cure):
    rows = [Loaded(number, True, {element: np.zeros(shape)}) for number, shape in enumerate(shapes)]
    with pytest.raises(ValueError, match=rf"^{element} of example 1 of files .* one shape for all: {cure}"):
        stack_examples(rows, rows[0], Files(PNG, PNG))


def test_elements_of_a_group_and_other_names_are_not_to_be_padded():
    for examples in ([{"a": {"b": np.zeros(2)}}, {"a": {"b": np.zeros(3)}}], [{"a": 1, "c": 1}, {"b": 1, "c": 1}]):
        rows = [Loaded(number, True, example) for number, example in enumerate(examples)]
        with pytest.raises(ValueError, match=r"make them equal$"):
            stack_examples(rows, rows[0], Files(PNG, PNG))
