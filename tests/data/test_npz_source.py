import io
import zipfile

import numpy as np
import pytest

from cnnjax.data import open_source, splits
from tests.data.tiny_sources import images_of

GREY = np.broadcast_to(np.arange(6, dtype=np.uint8)[:, None, None], (6, 4, 3))
LABELS = np.array([0, 1, 2, 0, 1, 2])


@pytest.fixture
def save(tmp_path):
    def write(**arrays) -> str:
        np.savez(tmp_path / "data.npz", **arrays)
        return f"npz:{tmp_path / 'data.npz'}"

    return write


@pytest.mark.parametrize(("image", "label"), [("image", "label"), ("images", "labels"), ("x", "y")])
def test_images_and_labels(save, tmp_path, image, label):
    spelling = save(**{image: GREY, label: LABELS, "other": np.zeros(3)})
    assert splits(spelling) == ("train", "test", "all")
    source = open_source("npz:data.npz", "all", data_dir=tmp_path)
    assert source.info.shapes == {"image": (4, 3, 1), "label": ()}
    assert source.info.classes == ("0", "1", "2")
    assert (images_of(source), source.labels().tolist()) == (list(range(6)), LABELS.tolist())
    assert source[0]["label"].dtype == np.int32


def test_kerass_splits(save):
    colour = np.repeat(GREY[..., None], 3, axis=-1)
    spelling = save(x_train=colour[:4], y_train=LABELS[:4, None].astype(np.uint8), x_test=colour[4:], y_test=LABELS[4:])
    assert splits(spelling) == ("train", "test")
    train, test = (open_source(spelling, split) for split in ("train", "test"))
    assert (images_of(train), images_of(test)) == ([0, 1, 2, 3], [4, 5])
    assert train.info.shapes["image"] == (4, 3, 3)
    assert test.labels().tolist() == [1, 2]
    assert train.info.classes == test.info.classes == ("0", "1", "2")


def test_names_of_classes_allow_labels_with_gaps(save):
    source = open_source(save(x=GREY, y=2 * LABELS, classes=np.array(["a", "b", "c", "d", "e"])), "all")
    assert source.info.classes == tuple("abcde")
    with pytest.raises(ValueError, match=r"example 2 of npz:.* has the label 2; expected 0 to 1"):
        open_source(save(x=GREY, y=LABELS, classes=np.array(["a", "b"])), "all")
    with pytest.raises(ValueError, match=r"classes of .* are a, a; expected at least two different names"):
        open_source(save(x=GREY, y=LABELS, classes=np.array(["a", "a"])), "all")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": GREY, "label": LABELS}, "holds the arrays a, label; expected image and label"),
        ({"x": GREY / 5, "y": LABELS}, r"x of .* is float64; expected uint8: save np\.rint\(255 \* x\)"),
        ({"x": GREY.astype(np.int32), "y": LABELS}, "is int32; expected uint8"),
        ({"x": GREY[:, 0], "y": LABELS}, r"shape \(6, 3\); expected examples x height x width"),
        ({"x": np.zeros((6, 3, 8, 8), np.uint8), "y": LABELS}, r"channels before .*save x\.transpose\(0, 2, 3, 1\)"),
        ({"x": GREY[:5], "y": LABELS}, r"lengths \{'image': 5, 'label': 6\}"),
        ({"x": GREY, "y": LABELS.astype(float)}, r"dtype float64; expected one integer .*y\.astype"),
        ({"x": GREY, "y": np.eye(6)}, r"shape \(6, 6\) .*save y\.argmax\(1\)"),
        ({"x": GREY, "y": LABELS + 1}, r"y of .* has the label 1 at index 0, but .* 3 different .*0 to 2 .*inverse"),
        ({"x": GREY, "y": LABELS * 2}, "has the label 2 at index 1, but there are 3"),
        ({"x": GREY, "y": LABELS - 1}, "has the label -1 at index 0"),
        ({"x": GREY, "y": LABELS * 0}, r"one class only, or none: its labels are \[0\]"),
        ({"x": GREY, "y": np.array([None] * 6)}, "y of .* cannot be read .*save y as numbers or text"),
        (
            {"x_train": GREY, "y_train": LABELS % 2, "x_test": GREY, "y_test": LABELS * 3},
            "y_test .* label 3 at index 1",
        ),
    ],
)
def test_unfit_arrays(save, arrays, words):
    with pytest.raises(ValueError, match=words):
        open_source(save(**arrays))


def test_damaged_files(save, tmp_path):
    spelling, file = save(x=GREY, y=LABELS), tmp_path / "data.npz"
    whole = file.read_bytes()
    for data in (b"", b"hello", whole[:-40], whole[:10]):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=r"data\.npz is no intact \.npz file .*save or download it again"):
            open_source(spelling)
    at = whole.index(GREY.tobytes())
    file.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
    with pytest.raises(ValueError, match=r"x of .*data\.npz cannot be read .*CRC"):
        open_source(spelling)
    np.save(tmp_path / "single.npy", GREY)
    with pytest.raises(ValueError, match=r"single\.npy is a single array; expected a \.npz file with image and label"):
        open_source(f"npz:{tmp_path / 'single.npy'}")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        open_source(f"npz:{tmp_path / 'absent.npz'}")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: b"no array" + data[8:],
        lambda data: data.replace(b"'|u1'", b"'|u1 "),
        lambda data: data.replace(b"(4, 3, 3)", b"(4, 3, 3 "),
        lambda data: data.replace(b"(4, 3, 3)", b"(4, 3, -3"),
        lambda data: data.replace(b"(4, 3, 3)", b"'4, 3, 3'"),
        lambda data: data.replace(b"'shape'", b"'sharp'"),
        lambda data: data.replace(b"'|u1'", b"'|u\0'"),
        lambda data: data[:8] + b"\xff\xff" + data[10:],
        lambda data: data[:40],
    ],
    ids=range(10),
)
def test_damaged_headers(tmp_path, change):
    image, label = io.BytesIO(), io.BytesIO()
    np.save(image, np.zeros((4, 3, 3), np.uint8))
    np.save(label, np.array([0, 1, 0, 1]))
    changed = change(image.getvalue())
    assert changed != image.getvalue()
    with zipfile.ZipFile(tmp_path / "file.npz", "w") as file:
        file.writestr("image.npy", changed)
        file.writestr("label.npy", label.getvalue())
    with pytest.raises(ValueError, match=r"image of .*file.npz cannot be read \(.*\); save "):
        open_source(f"npz:{tmp_path / 'file.npz'}", "all")


def test_compressed_files_that_are_damaged_inside(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in (("x", GREY), ("y", LABELS)):
            member = io.BytesIO()
            np.save(member, array)
            archive.writestr(f"{name}.npy", member.getvalue())
    data = bytearray(buffer.getvalue())
    data[45:60] = bytes(15)
    (tmp_path / "data.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"x of .* cannot be read"):
        open_source(f"npz:{tmp_path / 'data.npz'}")
