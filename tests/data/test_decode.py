import io

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import decode_image, fit_image
from tests.data.tiny_sources import encode

RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_png_bmp_and_webp_come_back_exactly():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    for form, options in (("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        decoded = decode_image(encode(Image.fromarray(pixels), form, **options))
        assert decoded.dtype == np.uint8
        np.testing.assert_array_equal(decoded, pixels)


def test_a_plain_jpeg_is_what_pillow_decodes():
    data = encode(Image.linear_gradient("L").convert("RGB"), "JPEG")
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(decode_image(data), np.asarray(picture))


def test_palettes_are_looked_up():
    picture = Image.new("RGB", (2, 1), RED)
    picture.putpixel((1, 0), BLUE)
    for form in ("PNG", "GIF"):
        np.testing.assert_array_equal(decode_image(encode(picture.quantize(2), form)), [[RED, BLUE]])


def test_one_bit_pictures_become_0_and_255():
    picture = Image.fromarray(np.array([[False, True]]))
    np.testing.assert_array_equal(decode_image(encode(picture, "PNG")), [[[0], [255]]])


def test_cmyk_becomes_rgb():
    decoded = decode_image(encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100))
    assert decoded.shape == (8, 8, 3)
    np.testing.assert_allclose(decoded, np.broadcast_to(RED, (8, 8, 3)), atol=3)


def test_sixteen_bit_grey_is_scaled_and_rounded():
    picture = Image.fromarray(np.array([[0, 128, 129, 32768, 65535]], np.uint16))
    for form in ("PNG", "TIFF"):
        assert decode_image(encode(picture, form))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_transparency_is_composited_onto_white():
    clear_half_full = np.array([[[255, 0, 0, 0], [0, 0, 0, 127], [1, 2, 3, 255]]], np.uint8)
    decoded = decode_image(encode(Image.fromarray(clear_half_full), "PNG"))
    np.testing.assert_array_equal(decoded, [[[255, 255, 255], [128, 128, 128], [1, 2, 3]]])


def test_grey_with_alpha_stays_grey_on_white():
    picture = Image.merge("LA", (Image.new("L", (2, 1), 7), Image.fromarray(np.array([[0, 255]], np.uint8))))
    np.testing.assert_array_equal(decode_image(encode(picture, "PNG")), [[[255], [7]]])


def test_a_transparent_palette_entry_is_white():
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([*RED, *BLUE])
    picture.putpixel((1, 0), 1)
    np.testing.assert_array_equal(decode_image(encode(picture, "PNG", transparency=0)), [[(255,) * 3, BLUE]])


@pytest.mark.parametrize(("orientation", "expected"), [(1, [[0, 1, 2]]), (3, [[2, 1, 0]]), (6, [[0], [1], [2]])])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_exif_orientation_is_applied(orientation, expected, dtype):
    exif = Image.Exif()
    exif[0x0112] = orientation
    scale = np.iinfo(dtype).max // 255
    data = encode(Image.fromarray((np.array([[0, 1, 2]]) * scale).astype(dtype)), "PNG", exif=exif)
    assert decode_image(data)[..., 0].tolist() == expected


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


def test_float_pictures_are_refused_instead_of_cut_off():
    with pytest.raises(ValueError, match="mode 'F'"):
        decode_image(encode(Image.fromarray(np.array([[0.5]], np.float32)), "TIFF"))


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


def test_resize_is_pillows_antialiased_bilinear():
    image = np.random.default_rng(1).integers(0, 256, (9, 13, 3), np.uint8)
    for size in ((4, 5), (20, 30)):
        expected = np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(fit_image(image, size), expected)
    five = np.repeat(image[..., :1], 5, axis=2)
    assert fit_image(five, (4, 5)).shape == (4, 5, 5)


def test_halving_averages_instead_of_skipping():
    stripes = np.tile(np.array([[0, 0, 200, 200]], np.uint8), (4, 2))[..., None]
    assert 0 < fit_image(stripes, (1, 1))[0, 0, 0] < 200


def test_pad_centres_on_zeros_and_crop_takes_the_centre():
    image = np.arange(1, 7, dtype=np.uint8).reshape(2, 3, 1)
    padded = fit_image(image, (3, 5), "pad")[..., 0]
    assert padded.tolist() == [[0, 1, 2, 3, 0], [0, 4, 5, 6, 0], [0, 0, 0, 0, 0]]
    assert fit_image(np.arange(20).reshape(4, 5, 1), (2, 2), "crop")[..., 0].tolist() == [[6, 7], [11, 12]]
    assert fit_image(image, (2, 3), "crop") is image


def test_bad_fits_are_errors():
    image = np.zeros((4, 6, 1), np.uint8)
    with pytest.raises(ValueError, match="4x6 does not fit into 5x5"):
        fit_image(image, (5, 5), "pad")
    with pytest.raises(ValueError, match="4x6 is too small to crop 5x5"):
        fit_image(image, (5, 5), "crop")
    with pytest.raises(ValueError, match="float32"):
        fit_image(image.astype(np.float32), (2, 2))
    with pytest.raises(ValueError, match="at least 1"):
        fit_image(image, (0, 5))
