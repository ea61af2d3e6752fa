import io
import tracemalloc
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
    assert (images_of(source), source.column("label").tolist()) == (list(range(6)), LABELS.tolist())
    assert source[0]["label"].dtype == np.int32


def test_kerass_splits(save):
    colour = np.repeat(GREY[..., None], 3, axis=-1)
    spelling = save(x_train=colour[:4], y_train=LABELS[:4, None].astype(np.uint8), x_test=colour[4:], y_test=LABELS[4:])
    assert splits(spelling) == ("train", "test")
    train, test = (open_source(spelling, split) for split in ("train", "test"))
    assert (images_of(train), images_of(test)) == ([0, 1, 2, 3], [4, 5])
    assert train.info.shapes["image"] == (4, 3, 3)
    assert test.column("label").tolist() == [1, 2]
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
        ({"x": GREY[:5], "y": LABELS}, r"data\.npz has 5 examples in x and 6 in y; expected as many"),
        ({"x": GREY, "y": LABELS.astype(float)}, r"dtype float64; expected one integer .*y\.astype"),
        ({"x": GREY, "y": np.eye(6)}, r"shape \(6, 6\) .*save y\.argmax\(1\)"),
        ({"x": GREY, "y": LABELS + 1}, r"y of .* has the label 1 at index 0, but .* 3 different .*0 to 2 .*inverse"),
        ({"x": GREY, "y": LABELS * 2}, "has the label 2 at index 1, but there are 3"),
        ({"x": GREY, "y": LABELS - 1}, "has the label -1 at index 0"),
        ({"x": GREY, "y": LABELS * 0}, r"one class only, or none: its labels are \[0\]"),
        (
            {"x": GREY, "y": np.array([None] * 6)},
            "y of .* dtype object; expected one integer .*save y as numbers, which need no pickle",
        ),
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
    with pytest.raises(ValueError, match=r"data\.npz is no intact \.npz file .*CRC"):
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
    with pytest.raises(
        ValueError, match=r"file.npz is no intact .npz file \(the header of image is damaged: .*\); save "
    ):
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
    with pytest.raises(ValueError, match=r"data\.npz is no intact \.npz file"):
        open_source(f"npz:{tmp_path / 'data.npz'}")


@pytest.mark.parametrize(
    ("names", "offered"),
    [
        (("x_train", "y_train", "x_val", "y_val"), ("train", "val", "test")),
        (("X_train", "y_train", "X_test", "y_test"), ("train", "test")),
        (("train_images", "train_labels", "dev_images", "dev_labels"), ("train", "val", "test")),
    ],
)
def test_splits_by_their_usual_names(save, names, offered):
    spelling = save(**{name: (GREY, LABELS)[place % 2] for place, name in enumerate(names)})
    assert splits(spelling) == offered
    assert len(open_source(spelling, offered[1])) == 6


def test_arrays_that_are_not_read_are_said(save):
    source = open_source(save(x=GREY, y=LABELS, weights=LABELS, x_val=GREY), "all")
    assert source.info.remarks == ("the arrays weights, x_val are not read",)


@pytest.mark.parametrize("names", [["cat", "cafe\u0301", "eel"], [b"cat", "caf\u00e9".encode(), b"eel"]])
def test_names_of_classes_are_text_in_one_form(save, names):
    assert open_source(save(x=GREY, y=LABELS, classes=np.array(names)), "all").info.classes == (
        "cat",
        "caf\u00e9",
        "eel",
    )
    with pytest.raises(ValueError, match=r"classes of .* are not UTF-8"):
        open_source(save(x=GREY, y=LABELS, classes=np.array([b"caf\xe9", b"x", b"y"])))


def test_a_class_that_training_lacks_is_an_error(save):
    with pytest.raises(
        ValueError, match="the split test has the classes 2, of which train has no examples, only of 0, 1"
    ):
        open_source(save(x_train=GREY, y_train=LABELS % 2, x_test=GREY, y_test=LABELS))


def test_the_cure_for_labels_as_text_works(save):
    label = np.array(list("baabba"))
    with pytest.raises(ValueError, match="return_inverse=True") as error:
        open_source(save(image=GREY, label=label))
    cure = str(error.value).partition("expected one integer per example: save ")[2].partition(", both of them")[0]
    scope = {"np": np, "label": label}
    exec(cure, scope)
    source = open_source(save(image=GREY, label=scope["label"], classes=scope["classes"]), "all")
    assert (source.info.classes, source.column("label").tolist()) == (("a", "b"), [1, 0, 0, 1, 1, 0])


def bomb(path, header, zeros, **others):
    """A ZIP whose array x has this header and so many bytes of zeros, which take a thousandth of that."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as member:
            member.write(header)
            for _ in range(zeros >> 20):
                member.write(bytes(2**20))
        for name, array in others.items():
            member = io.BytesIO()
            np.save(member, array)
            archive.writestr(f"{name}.npy", member.getvalue())


def npy_header(shape, descr="|u1", version=1):
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text


LARGE = 2**24


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (npy_header((4, 2, 2)), "x is of .* bytes by its header, and of 16,777,... here"),
        (npy_header((LARGE // 4, 2, 2)), "has 4,194,304 examples in x and 6 in y"),
        (npy_header((2**9, 2, 2, 2**10), "<f8"), "x of .* is float64"),
        (npy_header((2**60, 2, 2)), "no intact"),
        # A header that says it is as long as the array.
        (b"\x93NUMPY\x02\x00" + (LARGE).to_bytes(4, "little"), "no intact"),
    ],
    ids=["longer than its header", "other length", "other type", "huge header", "endless header"],
)
def test_a_small_file_of_many_zeros_is_refused_before_it_is_unpacked(tmp_path, header, words):
    bomb(tmp_path / "x.npz", header, LARGE, y=LABELS)
    assert (tmp_path / "x.npz").stat().st_size < 40_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=words):
            open_source(f"npz:{tmp_path / 'x.npz'}")
        assert tracemalloc.get_traced_memory()[1] < LARGE // 4
    finally:
        tracemalloc.stop()


def test_classes_that_are_no_names_are_not_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in (("x", GREY), ("y", LABELS), ("classes", np.zeros(2**24 + 1, "S1"))):
            member = io.BytesIO()
            np.save(member, array)
            archive.writestr(f"{name}.npy", member.getvalue())
    with pytest.raises(ValueError, match=r"classes of .* has the shape \(16777217,\); expected a name per class"):
        open_source(f"npz:{tmp_path / 'x.npz'}")
