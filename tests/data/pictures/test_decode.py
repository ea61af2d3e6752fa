import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cnnjax.data.pictures.decode import Box, decode_image, open_picture
from tests.data.tiny_sources import encode

RED, BLUE = (255, 0, 0), (0, 0, 255)


def in_blocks(values):
    """Every value as 8 x 8 pixels, so that JPEG's blocks are flat."""
    return np.kron(values, np.ones((8, 8))).astype(np.uint8)


GREYS = in_blocks([[0, 60, 255], [200, 128, 17]])
ALPHA = in_blocks([[255, 0, 255], [0, 255, 51]])
COLOURS = np.stack([GREYS, 255 - GREYS, GREYS // 2], axis=-1)


def three(grey):
    return np.repeat(np.asarray(grey)[..., None], 3, axis=-1)


def of_palette(**info):
    """Colours by index 0 to 5."""
    picture = Image.fromarray(in_blocks(np.arange(6).reshape(2, 3)))
    picture.putpalette(COLOURS[::8, ::8].ravel().tolist())
    picture.info |= info
    return picture


def on_white(colours, alpha=ALPHA):
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


CLEAR_FIRST = in_blocks([[0, 255, 255], [255, 255, 255]])
ALPHAS = in_blocks([[0, 51, 255], [255, 102, 255]])
CMYK = np.stack([GREYS, 255 - GREYS, GREYS // 2, 255 - ALPHA], axis=-1)

# A picture of every mode, and what it shows as RGB.
MODES = {
    "1": (Image.fromarray(GREYS > 100), three(255 * (GREYS > 100))),
    "L": (Image.fromarray(GREYS), three(GREYS)),
    "LA": (Image.fromarray(np.stack([GREYS, ALPHA], axis=-1)), on_white(three(GREYS))),
    "I;16": (Image.fromarray((GREYS.astype(int) * 257 + 100 * (GREYS < 255)).astype(np.uint16)), three(GREYS)),
    "P": (of_palette(), COLOURS),
    "P, one clear": (of_palette(transparency=0), on_white(COLOURS, CLEAR_FIRST)),
    "P, alphas": (of_palette(transparency=bytes([0, 51, 255, 255, 102])), on_white(COLOURS, ALPHAS)),
    "RGB": (Image.fromarray(COLOURS), COLOURS),
    "RGBA": (Image.fromarray(np.dstack([COLOURS, ALPHA])), on_white(COLOURS)),
    "CMYK": (Image.frombytes("CMYK", (24, 16), CMYK.tobytes()), (255 - CMYK[..., :3]) * ((255 - CMYK[..., 3:]) / 255)),
}

# What Pillow can write of these without loss of its own, beside the roundings of JPEG: every such pair.
GREY_MODES = ("1", "L", "LA", "I;16")
WRITTEN = {
    "JPEG": ("1", "L", "RGB", "CMYK"),
    "PNG": (*GREY_MODES, "P", "P, one clear", "P, alphas", "RGB", "RGBA"),
    "WEBP": ("1", "L", "LA", "P", "P, one clear", "P, alphas", "RGB", "RGBA", "CMYK"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("1", "L", "P", "P, one clear", "RGB"),
    "TIFF": (*GREY_MODES, "P", "RGB", "RGBA", "CMYK"),
}
OPTIONS = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True, "exact": True}}


def write(mode, form):
    clear = {"transparency": 0} if (mode, form) == ("P, one clear", "GIF") else {}
    # A copy, because Pillow writes the transparency into the palette of the picture it saves.
    return encode(MODES[mode][0].copy(), form, **OPTIONS.get(form, {}), **clear)


@pytest.mark.parametrize(("form", "mode"), [(form, mode) for form, modes in WRITTEN.items() for mode in modes])
def test_a_picture_of_any_mode_in_any_format_shows_what_it_means(form, mode):
    data, expected = write(mode, form), MODES[mode][1]
    decoded = decode_image(data)
    assert decoded.dtype == np.uint8
    # WEBP knows colours only, and a GIF's greys are in a palette.
    grey = mode in GREY_MODES and form != "WEBP" and (form, mode) != ("GIF", "L")
    assert decoded.shape == (16, 24, 1 if grey else 3)
    np.testing.assert_allclose(
        decoded.astype(float), expected[..., : decoded.shape[2]], atol=1 if form == "JPEG" else 0.5
    )
    np.testing.assert_array_equal(decode_image(data, channels=3), np.broadcast_to(decoded, (16, 24, 3)))
    # Rec. 601's luma, which Pillow rounds to 16 bits.
    luma = decode_image(data, channels=3) @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(decode_image(data, channels=1)[..., 0], luma, atol=0.51)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_noise_comes_back_exactly_where_nothing_is_lost(form):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    data = encode(Image.fromarray(pixels), form, **({"lossless": True} if form == "WEBP" else {}))
    if form == "JPEG":
        with Image.open(io.BytesIO(data)) as picture:
            pixels = np.asarray(picture)
    np.testing.assert_array_equal(decode_image(data), pixels)


def test_a_jpeg_of_adobes_luma_chroma_and_black_is_read():
    # Cyan's luma and chroma and no ink of black, as Photoshop stores the inks of red; Pillow inverts what it writes.
    stored = [255 - value for value in (179, 171, 1, 255)]
    data = encode(Image.new("CMYK", (16, 16), tuple(stored)), "JPEG", quality=100)
    transform = data.index(b"Adobe") + 11
    ycck = data[:transform] + b"\x02" + data[transform + 1 :]
    np.testing.assert_allclose(decode_image(ycck), np.broadcast_to(RED, (16, 16, 3)), atol=3)


def png(depth, kind, rows, *chunks):
    """A PNG by the specification: bit depth, colour type, packed rows, and chunks before the pixels."""
    height, width = len(rows), len(rows[0]) * 8 // (depth * {0: 1, 2: 3, 4: 2}[kind])
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(
    ("depth", "row", "clear", "expected"),
    [
        (1, b"\x40", 1, [0, 255, 0, 0, 0, 0, 0, 0]),
        (1, b"\x40", 0, [255] * 8),
        (2, b"\x1b", 2, [0, 85, 255, 255]),
        (4, b"\x0f\x3c", 3, [0, 255, 255, 204]),
        (8, b"\x07\x08", 7, [255, 8]),
        (16, b"\x01\x01\x01\x02\xff\xff", 0x0101, [255, 1, 255]),
        (16, b"\x00\x07\x07\x07", 7, [255, 7]),
    ],
)
def test_the_transparent_grey_of_a_png_is_white_at_any_depth(depth, row, clear, expected):
    data = png(depth, 0, [row], (b"tRNS", struct.pack(">H", clear)))
    np.testing.assert_array_equal(decode_image(data)[0, :, 0], expected)


def test_sixteen_bit_colours_give_their_upper_bits():
    row = struct.pack(">6H", 0, 0x12FF, 0xFFFF, 0x8000, 1, 0x7FFF)
    np.testing.assert_array_equal(decode_image(png(16, 2, [row])), [[[0, 0x12, 255], [128, 0, 0x7F]]])
    with pytest.raises(ValueError, match="transparent colour is of 16 bits"):
        decode_image(png(16, 2, [row], (b"tRNS", row[:6])))
    grey_and_alpha = struct.pack(">4H", 0x1234, 0xFFFF, 0x1234, 0)
    assert decode_image(png(16, 4, [grey_and_alpha])).tolist() == [[[0x12], [255]]]


def test_the_alpha_of_a_bmp_is_composited():
    # A header of version 4, whose masks say where blue, green, red and alpha are.
    header = struct.pack("<IiiHHIIiiII", 108, 1, 1, 1, 32, 3, 4, 0, 0, 0, 0)
    header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    data = b"BM" + struct.pack("<IHHI", 126, 0, 0, 122) + header + bytes([10, 20, 30, 51])
    np.testing.assert_array_equal(decode_image(data), [[[210, 208, 206]]])


def test_sixteen_bit_grey_is_rounded():
    picture = Image.fromarray(np.array([[0, 128, 129, 32768, 65535]], np.uint16))
    for form in ("PNG", "TIFF"):
        assert decode_image(encode(picture, form))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


# By the EXIF specification: on which sides the stored picture's first row and first column are seen.
ORIENTATIONS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def upright(stored, orientation):
    first_row, first_column = ORIENTATIONS[orientation]
    height, width = stored.shape[:2]
    turned = first_row in ("left", "right")
    seen = np.empty((width, height) if turned else (height, width), stored.dtype)
    for row in range(height):
        for column in range(width):
            along_rows = row if first_row in ("top", "left") else height - 1 - row
            along_columns = column if first_column in ("top", "left") else width - 1 - column
            seen[(along_columns, along_rows) if turned else (along_rows, along_columns)] = stored[row, column]
    return seen


def turned(pixels, form, orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(Image.fromarray(pixels), form, exif=exif, **options)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_exif_orientation_is_applied(form, orientation):
    pixels = np.kron([[0, 40, 80], [120, 160, 250]], np.ones((8, 8))).astype(np.uint8)
    decoded = decode_image(turned(pixels, form, orientation, **OPTIONS.get(form, {})))
    np.testing.assert_allclose(decoded[..., 0], upright(pixels, orientation), atol=1)


def test_sixteen_bit_grey_is_turned_too_and_exif_may_follow_the_pixels():
    pixels = np.array([[0, 257, 514]], np.uint16)
    data = turned(pixels, "PNG", 6)
    assert decode_image(data)[..., 0].tolist() == [[0], [1], [2]]
    start = data.index(b"eXIf") - 4
    chunk = data[start : start + 12 + struct.unpack(">I", data[start : start + 4])[0]]
    late = data.replace(chunk, b"").replace(data[-12:], chunk + data[-12:])
    assert late.index(b"eXIf") > late.index(b"IDAT")
    assert decode_image(late)[..., 0].tolist() == [[0], [1], [2]]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_that_cannot_be_read_turns_nothing(form):
    picture = Image.new("L", (16, 8), 9)
    assert decode_image(encode(picture, form, exif=b"Exif\0\0no such thing")).shape[:2] == (8, 16)
    assert decode_image(encode(picture, form, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")).shape[:2] == (8, 16)


@pytest.mark.parametrize(
    ("form", "options"),
    [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {}), ("MPO", {"quality": 100})],
)
def test_of_several_frames_the_first_is_taken(form, options):
    first, second = Image.new("RGB", (16, 16), RED), Image.new("RGB", (16, 16), BLUE)
    data = encode(first, form, save_all=True, append_images=[second], **options)
    np.testing.assert_allclose(decode_image(data), np.broadcast_to(RED, (16, 16, 3)), atol=2)


def photograph(form="JPEG", **options):
    """Smooth, but no side like another: 90 rows, 121 columns."""
    rows, columns = np.mgrid[:90, :121]
    pixels = np.stack([rows * 2.5, columns * 2, 120 + 100 * np.sin((rows + 2 * columns) / 30)], axis=-1)
    return encode(Image.fromarray(pixels.astype(np.uint8)), form, **options)


@pytest.mark.parametrize(
    ("at_least", "expected"),
    [((90, 121), (90, 121)), ((46, 61), (90, 121)), ((45, 60), (45, 61)), ((22, 30), (23, 31)), ((1, 1), (12, 16))],
)
def test_a_jpeg_is_decoded_no_larger_than_needed(at_least, expected):
    data = photograph(quality=95)
    decoded = decode_image(data, at_least=at_least)
    assert decoded.shape == (*expected, 3)
    # Every pixel is the mean of its square; those at the lower and right edge may have too little of it.
    factor = round(90 / expected[0])
    rows, columns = 90 // factor, 121 // factor
    squares = decode_image(data)[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, 3)
    np.testing.assert_allclose(decoded[:rows, :columns], squares.mean(axis=(1, 3)), atol=4)
    assert decode_image(photograph("PNG"), at_least=at_least).shape == (90, 121, 3)


def test_a_reduced_jpeg_keeps_its_colours_and_stands_upright():
    data = encode(MODES["CMYK"][0].resize((48, 32), Image.Resampling.NEAREST), "JPEG", **OPTIONS["JPEG"])
    np.testing.assert_allclose(decode_image(data, at_least=(16, 24)), MODES["CMYK"][1], atol=2)
    for channels in (1, 3):
        whole, half = (decode_image(photograph(), channels=channels, at_least=size) for size in (None, (45, 60)))
        assert half.shape[2] == channels
        assert abs(half.mean() - whole.mean()) < 1
    pixels = np.kron([[0, 40, 80], [120, 160, 250]], np.ones((16, 16))).astype(np.uint8)
    for orientation in ORIENTATIONS:
        expected = upright(pixels[::2, ::2], orientation)
        decoded = decode_image(turned(pixels, "JPEG", orientation, quality=100), at_least=expected.shape)
        np.testing.assert_allclose(decoded[..., 0], expected, atol=2)
    with pytest.raises(ValueError, match=r"at_least is \(0, 5\)"):
        decode_image(data, at_least=(0, 5))


def plain(data, box, size, channels=None):
    """All pixels decoded, a part cut out, and this resized."""
    top, left, height, width = box
    pixels = decode_image(data, channels=channels)[top : top + height, left : left + width]
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    resized = np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR))
    return resized.reshape(*size, -1)


@pytest.mark.parametrize(("form", "mode"), [(form, mode) for form, modes in WRITTEN.items() for mode in modes])
def test_a_box_of_any_picture_is_what_the_plain_way_gives(form, mode):
    data, box, size = write(mode, form), Box(2, 5, 11, 14), (9, 10)
    assert open_picture(data).sides == (16, 24)
    decoded = open_picture(data).part(box, size)
    np.testing.assert_array_equal(decoded, plain(data, box, size))
    for channels in (1, 3):
        boxed = open_picture(data, channels=channels).part(box, size)
        np.testing.assert_array_equal(boxed, plain(data, box, size, channels))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("size", [(50, 60), (12, 14), (5, 6)])
def test_a_box_is_of_the_upright_picture_at_any_reduction(orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data, box = photograph(quality=95, exif=exif), Box(7, 3, 51, 61)
    picture = open_picture(data)
    assert picture.sides == ((90, 121) if orientation < 5 else (121, 90))
    decoded = picture.part(box, size).astype(int)
    # Rows and columns are rounded in the other order when a picture lies on its side.
    differences = np.abs(decoded - plain(data, box, size)).max(axis=(0, 1))
    assert (differences <= (1 if size == (50, 60) else (5, 5, 10))).all(), differences


@pytest.mark.parametrize("box", [(0, 0, 17, 3), (0, 20, 3, 5), (-1, 0, 3, 3), (2, 2, 0, 3), (16, 0, 1, 1)])
def test_a_box_that_is_no_part_of_the_picture_is_an_error(box):
    with pytest.raises(ValueError, match="chosen of a picture of 16x24"):
        open_picture(write("RGB", "PNG")).part(Box(*box), (4, 4))


def test_channels_are_as_asked():
    grey, colour = Image.new("L", (2, 2), 9), Image.new("RGB", (2, 2), (9, 9, 9))
    for picture in (grey, colour):
        assert (decode_image(encode(picture, "PNG"), channels=3) == np.full((2, 2, 3), 9)).all()
        assert (decode_image(encode(picture, "PNG"), channels=1) == np.full((2, 2, 1), 9)).all()
    assert decode_image(encode(grey, "PNG")).shape == (2, 2, 1)
    with pytest.raises(ValueError, match="channels is 4"):
        decode_image(encode(grey, "PNG"), channels=4)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_damaged_bytes_are_an_error(form):
    data = encode(Image.radial_gradient("L").convert("RGB"), form)
    for damaged in (b"", data[:5], data[: len(data) // 2], b"hello " * 50):
        with pytest.raises(ValueError, match="do not decode as an image"):
            decode_image(damaged)


@pytest.mark.parametrize("form", ["PPM", "ICO"])
def test_other_formats_are_refused(form):
    with pytest.raises(ValueError, match="expected an undamaged JPEG"):
        decode_image(encode(Image.new("RGB", (16, 16)), form))


@pytest.mark.parametrize(("mode", "dtype"), [("F", np.float32), ("I", np.int32)])
def test_greys_of_no_known_range_are_refused_instead_of_cut_off(mode, dtype):
    with pytest.raises(ValueError, match=f"mode '{mode}'"):
        decode_image(encode(Image.fromarray(np.array([[1]], dtype)), "TIFF"))


def test_the_pixel_cap_is_an_error_and_not_pillows_global():
    before = Image.MAX_IMAGE_PIXELS
    data = encode(Image.new("L", (20, 10)), "PNG")
    assert decode_image(data, max_pixels=200).shape == (10, 20, 1)
    with pytest.raises(ValueError, match=r"larger than max_pixels=199.*20 x 10"):
        decode_image(data, max_pixels=199)
    huge = encode(Image.new("1", (20_000, 10_000)), "PNG")
    with pytest.raises(ValueError, match="larger than max_pixels"):
        decode_image(huge)
    assert before == Image.MAX_IMAGE_PIXELS
