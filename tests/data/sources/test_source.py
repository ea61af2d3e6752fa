import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnjax.data import ArraySource, Info
from cnnjax.data.pictures.pixels import Pixels
from cnnjax.data.pictures.place import SettingError
from cnnjax.data.pictures.statistics import channel_statistics
from cnnjax.data.sources.source import Subset, check_source, labels_of, local_path, permutation, read_example
from tests.data.tiny_sources import NoColumns, encode


def test_permutation_sorts_raw_words():
    words = np.random.PCG64(np.random.SeedSequence(3, spawn_key=(2,))).random_raw(50).tolist()
    assert permutation(50, seed=3, stream=2).tolist() == sorted(range(50), key=words.__getitem__)


def test_arrays_from_a_notebook():
    source = ArraySource({"image": np.zeros((3, 8, 8, 3), np.uint8), "label": np.array([0, 1, 1])})
    assert len(source) == 3
    assert source.info.shapes == {"image": (8, 8, 3), "label": ()}
    assert source[1]["label"].dtype == np.int32
    with pytest.raises(ValueError, match=r"lengths \{'a': 2, 'b': 3\}"):
        ArraySource({"a": np.zeros(2), "b": np.zeros(3)})
    for arrays in ({}, {"a": np.array(1)}):
        with pytest.raises(ValueError, match="at least one array"):
            ArraySource(arrays)
    with pytest.raises(ValueError, match=r"example 1 of mine .*label -1"):
        ArraySource({"label": np.array([0, -1])}, Info("mine", "all", {}, ("a", "b")))
    with pytest.raises(IndexError):
        source[3]


def test_the_fingerprint_of_arrays_is_that_of_what_they_hold():
    images, labels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3, 1), np.array([0, 1])

    def mark(classes=(), **arrays):
        return ArraySource(arrays, Info("arrays", "all", {}, classes)).info.fingerprint

    first = mark(image=images, label=labels)
    assert len(first) == 64
    # The order, the type of the labels, and how the memory is laid out are no part of the data.
    assert first == mark(label=labels.astype(np.uint8), image=np.asfortranarray(images))
    others = [
        mark(image=images[::-1], label=labels),
        mark(image=images.reshape(2, 3, 4, 1), label=labels),
        mark(image=images, label=labels[::-1]),
        mark(picture=images, label=labels),
        mark(("a", "b"), image=images, label=labels),
        mark(image=images),
    ]
    assert len({first, *others}) == 7
    assert mark(image=np.array([b"a", "b"], object)) == ""


def test_a_changed_source_does_not_keep_its_fingerprint():
    whole = ArraySource({"image": np.arange(6).reshape(2, 3)})
    assert ArraySource({"image": whole.arrays["image"][:, :2]}, whole.info).info.fingerprint != whole.info.fingerprint


class Files(NoColumns):
    """A source of encoded pictures that says where they are."""

    def __init__(self, pictures, channels=None):
        self.pictures = pictures
        self.info = Info("files", "all", {"image": (None, None, channels)} if channels else {})

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        return {"image": self.pictures[index], "label": np.int32(index)}

    def where(self, index):
        return f"/there/{index}.png"


def test_a_subset_passes_on_what_its_source_tells():
    whole = ArraySource({"image": np.zeros((5, 2, 2, 1), np.uint8), "label": np.array([3, 1, 4, 1, 5])})
    part, other = (Subset(whole, np.array(order), whole.info) for order in ([4, 0], [0, 4]))
    assert part.column("label").tolist() == [5, 3]
    assert (part.column("tags"), part.where(0)) == (None, "")
    assert len({whole.info.fingerprint, part.info.fingerprint, other.info.fingerprint}) == 3
    assert part.info.fingerprint == Subset(whole, np.array([4, 0], np.int32), whole.info).info.fingerprint
    files = Subset(Files([b"", b""]), np.array([1]), Info("files", "all[1:]", {}))
    assert (files.where(0), files.column("label"), files.info.fingerprint) == ("/there/1.png", None, "")


@pytest.mark.parametrize(("channels", "expected"), [(None, (2, 3, 1)), (1, (2, 3, 1)), (3, (2, 3, 3))])
def test_encoded_pictures_are_decoded_to_the_channels_asked_for(channels, expected):
    grey = encode(Image.new("L", (3, 2), 7), "PNG")
    example = read_example(Files([grey], channels), -1)
    np.testing.assert_array_equal(example["image"], np.full(expected, 7))
    assert example["label"] == 0


def test_arrays_are_read_as_they_are_and_the_reader_can_be_chosen():
    image = np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(read_example(ArraySource({"image": image}), 0)["image"], image[0])
    png = encode(Image.new("RGB", (3, 2), (7, 7, 7)), "PNG")
    found = read_example(
        Files([png], 1), 0, read=lambda example, position: {"sides": example["image"].sides, "at": position}, position=5
    )
    assert found == {"sides": (2, 3), "at": 5}
    with pytest.raises(ValueError, match=r"example 0 of arrays \(all\) cannot be read: its picture holds NaN"):
        read_example(ArraySource({"image": image}), 0, read=lambda example, _: {"image": example["image"] * np.nan})


def test_what_is_asked_for_in_vain_of_a_sound_example_is_told_apart():
    def read(example, position):
        raise SettingError("ask for less")

    with pytest.raises(SettingError, match=r"example 0 of files in /there/0\.png: ask for less"):
        read_example(Files([encode(Image.new("L", (3, 2)), "PNG")]), 0, read=read)


def test_what_cannot_be_read_is_named():
    source = Subset(Files([b"", b"damaged"]), np.array([1, 0]), Info("files", "all[:]", {}))
    words = r"example 0 of files \(all\[:\]\) cannot be read from /there/1\.png: 7 bytes do not decode"
    with pytest.raises(ValueError, match=words):
        read_example(source, 0)
    with pytest.raises(IndexError, match=r"index 2 of files .*which has 2 examples"):
        read_example(source, 2)

    class Broken(NoColumns):
        info = Info("broken", "all", {})

        def __len__(self):
            return 2

        def __getitem__(self, index):
            if index == 0:
                raise KeyError
            return [index]

    with pytest.raises(ValueError, match=r"example 0 of broken \(all\) cannot be read: KeyError"):
        read_example(Broken(), 0)
    with pytest.raises(ValueError, match=r"example 1 of broken .* it is a list; expected a dict"):
        read_example(Broken(), 1)


def test_paths_start_from_the_data_dir(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    assert local_path("npz:there/file", "there/file", tmp_path, kind="file") == tmp_path / "there" / "file"
    for argument, kind, more in (("there", "file", ", only a folder"), ("there/file", "folder", ", only a file")):
        with pytest.raises(
            FileNotFoundError, match=f"there is no {kind} '{tmp_path}/{argument}'{more}; a relative path"
        ):
            local_path(f"x:{argument}", argument, tmp_path, kind=kind)
    with pytest.raises(FileNotFoundError, match="'x:' names no folder; expected digits, "):
        local_path("x:", "", tmp_path, kind="folder")


def test_a_relative_path_from_another_folder_names_the_place_and_the_cure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = (
        rf"'folder:pets': there is no folder '{tmp_path}/pets'; a relative path starts from data_dir \(--data-dir\), or"
    )
    with pytest.raises(FileNotFoundError, match=words):
        local_path("folder:pets", "pets", None, kind="folder")
    with pytest.raises(FileNotFoundError, match=rf"'{tmp_path}/pets'; check the path"):
        local_path("folder:/pets", f"{tmp_path}/pets", None, kind="folder")


def test_reasons_hold_no_address():
    class Odd(Files):
        def __getitem__(self, index):
            raise ValueError(f"no picture in {object()!r}")

    with pytest.raises(ValueError, match=r"cannot be read from /there/0\.png: no picture in <object object>$"):
        read_example(Odd([b""]), 0)
    for data, reason in (
        (b"<html>no picture", "no format is recognised; they begin with b'<html>no pic'"),
        (b"", "is empty"),
    ):
        with pytest.raises(ValueError, match=reason) as error:
            read_example(Files([data]), 0)
        assert "BytesIO" not in str(error.value)


@pytest.mark.parametrize("data", [(np.zeros(3), np.zeros(3)), {"image": np.zeros(3)}, None])
def test_what_is_no_source_is_told_how_arrays_become_one(data):
    with pytest.raises(TypeError, match=rf"data is a {type(data).__name__}; expected .*of arrays, ArraySource\(\{{"):
        check_source(data)


def test_sources_say_in_a_line_what_they_are():
    info = Info("pets", "all", {}, ("cat", "dog"), remarks=("passed over: 2 .txt",))
    whole = ArraySource({"image": np.zeros((1200, 2, 2, 1), np.uint8), "label": np.zeros(1200, int)}, info)
    told = "examples of 2 classes, image 2x2x1, label scalar; passed over: 2 .txt"
    assert repr(whole) == f"pets (all): 1,200 {told}"
    assert (
        repr(Subset(whole, np.arange(3), dataclasses.replace(whole.info, split="all[:3]")))
        == f"pets (all[:3]): 3 {told}"
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0.0, 1.0]), "came as float64, the first is 0.0; expected .* integers: pass label.astype"),
        (
            np.array([1.5, np.nan]),
            r"came as float64, the first is 1.5; expected .* np.unique\(label, return_inverse=True\)\[1\] numbers them",
        ),
        (np.array(["cat", "dog"]), r"came as <U3, the first is 'cat'; .* np.unique\(label, return_inverse=True\)\[1\]"),
        (np.array([True, False]), "came as bool, the first is True; .* pass label.astype"),
    ],
    ids=["whole", "fractions", "text", "flags"],
)
def test_labels_that_are_no_integers_are_refused(labels, message):
    with pytest.raises(ValueError, match=f"labels of mine .all. {message}"):
        ArraySource({"label": labels}, Info("mine", "all", {}, ("a", "b")))
    # Without classes they may be what a task of its own makes of them.
    assert labels_of(ArraySource({"label": labels})) is None


def test_pictures_with_their_channels_first_are_refused():
    with pytest.raises(ValueError, match=r"mine have the shape \(2, 3, 8, 8\), with their channels first; .*moveaxis"):
        ArraySource({"image": np.zeros((2, 3, 8, 8), np.uint8)}, Info("mine", "all", {}))
    with pytest.raises(ValueError, match=r"mine have the shape \(2, 3, 40, 64\), with their channels first"):
        ArraySource({"image": np.zeros((2, 3, 40, 64), np.uint8)}, Info("mine", "all", {}))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_a_picture_with_numbers_that_are_none_is_named(value, dtype):
    pictures = np.zeros((4, 3, 3, 1), jnp.dtype(dtype))
    pictures[2, 1, 1] = value
    source = ArraySource({"image": pictures, "label": np.arange(4)}, Info("mine", "train", {}, tuple("abcd")))
    with pytest.raises(ValueError, match=r"example 2 of mine \(train\) cannot be read: its picture holds NaN or inf"):
        read_example(source, 2)
    assert read_example(source, 1)["image"].dtype == jnp.dtype(dtype)
    with pytest.raises(ValueError, match=r"example 2 of mine"):
        channel_statistics(source)
    expected = Pixels("float32", 0.0, 0.0, (0.0,), (1.0,))
    assert channel_statistics(source, skip_unreadable=True) == expected
