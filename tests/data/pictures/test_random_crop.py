import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from cnnjax.data.pictures.decode import decode_image
from cnnjax.data.pictures.random_crop import RandomCrop, crop_picture, draw_box
from tests.data.tiny_sources import encode


def boxes(height, width, count, rule=None):
    return np.array([draw_box(height, width, seed=0, place=place, rule=rule) for place in range(count)])


def test_a_box_is_the_same_on_every_machine():
    # BLAKE2b of "7 13 0" as four little-endian words over 2**64 is 0.425115, 0.873972, 0.245487, 0.792999; a share of
    # 0.08 + 0.92 * 0.425115 at an aspect of 3/4 * (16/9)**0.873972 is 266.89 by 330.97, and so on.
    assert draw_box(375, 500, seed=7, place=13) == (26, 134, 267, 331)
    # Here two boxes, 396 and 388 high, do not fit, and the third does.
    assert draw_box(375, 500, seed=7, place=12) == (83, 5, 272, 325)
    assert draw_box(375, 500, seed=2**200, place=2**70) == draw_box(375, 500, seed=2**200, place=2**70)
    drawn = {draw_box(375, 500, seed=seed, place=place) for seed in range(20) for place in range(20)}
    assert len(drawn) == 400


def test_boxes_lie_within_the_picture_with_area_and_aspect_as_asked():
    rule = RandomCrop(area=(0.2, 0.5), aspect=(0.5, 1.5))
    top, left, height, width = boxes(300, 400, 2000, rule).T
    assert min(top.min(), left.min()) >= 0
    assert (top + height).max() <= 300
    assert (left + width).max() <= 400
    # Sides are rounded to whole pixels, here of at least 109.
    assert 0.2 * 0.99 <= (height * width / 120_000).min() < 0.21
    assert 0.49 < (height * width / 120_000).max() <= 0.5 * 1.01
    assert 0.5 * 0.99 <= (width / height).min() < 0.52
    assert 1.45 < (width / height).max() <= 1.5 * 1.01


def test_area_logarithm_of_aspect_and_position_are_uniform():
    # Boxes this small always fit, so nothing is drawn twice.
    count = 4000
    top, left, height, width = boxes(4000, 5000, count, RandomCrop(area=(0.05, 0.25), aspect=(0.5, 2.0))).T
    uniforms = (
        (height * width / 2e7 - 0.05) / 0.2,
        (np.log(width / height) / math.log(2) + 1) / 2,
        top / (4000 - height),
        left / (5000 - width),
    )
    for values in uniforms:
        # Five standard deviations of a mean and of a tenth's count.
        assert abs(values.mean() - 0.5) < 5 * math.sqrt(1 / 12 / count)
        tenths = np.histogram(values, bins=10, range=(-0.001, 1.001))[0]
        assert np.abs(tenths - count / 10).max() < 5 * math.sqrt(count * 0.09)
    assert np.abs(np.corrcoef(uniforms) - np.eye(4)).max() < 5 / math.sqrt(count)


def test_every_position_is_drawn_to_the_last():
    tops = Counter(boxes(4, 4, 600, RandomCrop(area=(0.25, 0.25), aspect=(1.0, 1.0)))[:, 0].tolist())
    assert tops.keys() == {0, 1, 2}
    assert min(tops.values()) > 140


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(100, 1000, (0, 433, 100, 133)), (1000, 100, (433, 0, 133, 100)), (1, 9, (0, 4, 1, 1)), (9, 1, (4, 0, 1, 1))],
)
def test_where_nothing_fits_it_is_the_largest_centred_box(height, width, expected):
    rule = RandomCrop(area=(1.0, 1.0))
    assert draw_box(height, width, seed=0, place=0, rule=rule) == expected


def test_a_whole_picture_may_be_the_box():
    rule = RandomCrop(area=(1.0, 1.0), aspect=(1.25, 1.25))
    assert draw_box(4, 5, seed=0, place=0, rule=rule) == (0, 0, 4, 5)


def picture(height=90, width=121):
    rows, columns = np.mgrid[:height, :width]
    waves = 120 + 100 * np.sin((rows + 2 * columns) / 30)
    return np.stack([rows * 2.5, columns * 2, waves], axis=-1).astype(np.uint8)


def plain(pixels, place, size):
    top, left, height, width = draw_box(*pixels.shape[:2], seed=5, place=place)
    part = Image.fromarray(np.squeeze(pixels[top : top + height, left : left + width]))
    return np.asarray(part.resize(size[::-1], Image.Resampling.BILINEAR)).reshape(*size, -1)


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("JPEG", {"quality": 90})])
def test_a_crop_is_the_plain_way_by_bytes_and_by_array(form, options):
    data, size = encode(Image.fromarray(picture()), form, **options), (64, 80)
    for place in range(8):
        expected = plain(decode_image(data), place, size)
        np.testing.assert_array_equal(crop_picture(data, size, seed=5, place=place), expected)
        np.testing.assert_array_equal(crop_picture(decode_image(data), size, seed=5, place=place), expected)


def test_a_reduced_jpeg_gives_nearly_the_same_crop():
    data, size = encode(Image.fromarray(load_sample_image("flower.jpg")), "JPEG", quality=90), (64, 64)
    pixels = decode_image(data)
    differences = [
        crop_picture(data, size, seed=5, place=place).astype(int) - plain(pixels, place, size) for place in range(8)
    ]
    assert max(np.abs(difference).mean() for difference in differences) < 2
    assert max(abs(difference.mean()) for difference in differences) < 0.3


def test_a_picture_on_its_side_is_cropped_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(np.rot90(picture())), "PNG", exif=exif)
    for place in range(4):
        cropped = crop_picture(data, (30, 40), seed=5, place=place).astype(int)
        assert np.abs(cropped - plain(picture(), place, (30, 40))).max() <= 1


def test_channels_are_as_asked_of_bytes_and_of_arrays():
    colour, grey = picture(20, 30), picture(20, 30)[..., 2:]
    for pixels in (colour, grey):
        data = encode(Image.fromarray(np.squeeze(pixels)), "PNG")
        for channels in (1, 3, None):
            expected = plain(decode_image(data, channels=channels), 3, (8, 9))
            for given in (data, pixels):
                cropped = crop_picture(given, (8, 9), seed=5, place=3, channels=channels)
                np.testing.assert_array_equal(cropped, expected)
    five = crop_picture(np.repeat(grey, 5, axis=2), (8, 9), seed=5, place=3)
    np.testing.assert_array_equal(five, np.repeat(plain(grey, 3, (8, 9)), 5, axis=2))


def test_bad_arguments_are_errors():
    with pytest.raises(ValueError, match=r"area is \(0\.5, 0\.1\)"):
        RandomCrop(area=(0.5, 0.1))
    with pytest.raises(ValueError, match=r"area is \(0\.5, 1\.1\)"):
        RandomCrop(area=(0.5, 1.1))
    with pytest.raises(ValueError, match=r"aspect is \(0\.0, 1\.0\)"):
        RandomCrop(aspect=(0.0, 1.0))
    with pytest.raises(ValueError, match="seed is -1"):
        draw_box(4, 4, seed=-1, place=0)
    with pytest.raises(ValueError, match="place is -1"):
        draw_box(4, 4, seed=0, place=-1)
    with pytest.raises(ValueError, match="the picture is 0x4"):
        draw_box(0, 4, seed=0, place=0)
    pixels = np.zeros((4, 4, 2), np.uint8)
    with pytest.raises(ValueError, match="channels is 3 and the image has 2"):
        crop_picture(pixels, (2, 2), seed=0, place=0, channels=3)
    with pytest.raises(ValueError, match=r"size is \(0, 2\)"):
        crop_picture(encode(Image.fromarray(pixels[..., 0]), "PNG"), (0, 2), seed=0, place=0)
    with pytest.raises(ValueError, match="do not decode as an image"):
        crop_picture(b"no picture", (2, 2), seed=0, place=0)
    with pytest.raises(ValueError, match="larger than max_pixels=15"):
        crop_picture(encode(Image.fromarray(pixels[..., 0]), "PNG"), (2, 2), seed=0, place=0, max_pixels=15)
