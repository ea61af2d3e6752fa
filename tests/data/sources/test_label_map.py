import io

import numpy as np
import pytest
from PIL import Image

from cnnjax.data.sources.label_map import decode_labels, objects_in, renumber
from tests.data.tiny_sources import encode

LABELS = np.array([[0, 1, 2], [3, 1, 0]])


def pillow(dtype, mode=None, form="PNG", factor=1):
    image = Image.fromarray((LABELS * factor).astype(dtype))
    return encode(image if mode is None else image.convert(mode), form)


def of_palette(bits=8):
    image = Image.fromarray(LABELS.astype(np.uint8))
    image.putpalette([9, 8, 7, 200, 0, 0, 200, 0, 0, 1, 1, 1])
    return encode(image, "PNG", bits=bits)


def of_bits(bits):
    """A grey PNG of few bits, which Pillow does not write: made by hand."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b""
    for row in LABELS:
        packed = "".join(format(value, f"0{bits}b") for value in row).ljust(-(-3 * bits // 8) * 8, "0")
        rows += b"\0" + int(packed, 2).to_bytes(len(packed) // 8, "big")
    header = struct.pack(">IIBBBBB", 3, 2, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [
        pillow(np.uint8),
        pillow(np.uint16),
        pillow(np.int32, form="TIFF"),
        pillow(np.uint16, form="TIFF"),
        pillow(np.uint8, form="BMP"),
        pillow(np.uint8, "RGB"),
        pillow(np.uint8, "RGBA"),
        of_palette(),
        of_palette(2),
        of_bits(2),
        of_bits(4),
    ],
    ids=range(11),
)
def test_labels_are_read_as_numbers(data):
    found = decode_labels(data)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, LABELS)


def test_sixteen_bits_are_kept_and_one_bit_is_0_and_1():
    np.testing.assert_array_equal(decode_labels(pillow(np.uint16, factor=20_000)), LABELS * 20_000)
    np.testing.assert_array_equal(decode_labels(encode(Image.fromarray(LABELS > 1), "PNG")), LABELS > 1)


def colours():
    return encode(Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)), "PNG")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes are no label map"),
        (pillow(np.uint8)[:40], "40 bytes are no label map"),
        (pillow(np.uint8, form="JPEG"), "bytes are no label map .*expected PNG, TIFF, BMP, GIF"),
        (colours(), "it is a picture of Pillow's mode 'RGB'; expected one whole number for each pixel"),
        (encode(Image.new("RGBA", (2, 2), (5, 5, 5, 9)), "PNG"), "mode 'RGBA'"),
        (pillow(np.float32, form="TIFF"), "mode 'F'"),
        (pillow(np.int32, form="TIFF", factor=-1), "its labels run from -3 to 0; expected 0 to"),
    ],
)
def test_what_is_no_label_map(data, words):
    with pytest.raises(ValueError, match=words):
        decode_labels(data)


def test_a_picture_of_too_many_pixels_is_refused(monkeypatch):
    monkeypatch.setattr("cnnjax.data.sources.label_map.MAX_PIXELS", 5)
    with pytest.raises(ValueError, match="3 x 2 pixels, more than 5"):
        decode_labels(pillow(np.uint8))


@pytest.mark.parametrize("large", [7, 2**21])
def test_gaps_are_closed_in_order(large):
    labels = np.array([[0, large, 3], [large, 3, 5]], np.int32)
    found = renumber(labels)
    assert (found.tolist(), found.dtype) == ([[0, 3, 1], [3, 1, 2]], np.int32)
    assert renumber(np.full((1, 2), large, np.int32)).tolist() == [[1, 1]]
    assert renumber(np.zeros((1, 2), np.int32)).tolist() == [[0, 0]]


def test_boxes_and_areas_are_those_of_a_loop():
    labels = renumber(
        np.random.default_rng(0).integers(0, 40, (20, 30)) * (np.random.default_rng(1).random((20, 30)) < 0.2)
    )
    found = objects_in(labels)
    assert len(found["boxes"]) == labels.max() > 20
    for number, (box, area) in enumerate(zip(found["boxes"], found["area"], strict=True), 1):
        rows, columns = np.nonzero(labels == number)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert area == len(rows)
    assert (found["classes"] == 1).all()
    none = objects_in(np.zeros((3, 3), np.int32))
    assert {name: (values.shape, values.dtype.name) for name, values in none.items()} == {
        "boxes": ((0, 4), "float32"),
        "classes": ((0,), "int32"),
        "area": ((0,), "float32"),
    }


def test_what_pillow_writes_is_what_it_reads():
    """The hand-made files are what Pillow takes them for."""
    assert Image.open(io.BytesIO(of_bits(2))).size == (3, 2)
