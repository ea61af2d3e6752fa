import pickle

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from cnnjax.data import RandomCrop, ReadPictures, decode_example, pad
from cnnjax.data import place as place_picture
from cnnjax.data.pictures.decode import decode_image, open_picture
from cnnjax.data.pictures.place import SettingError
from cnnjax.data.pictures.random_crop import draw_box
from tests.data.tiny_sources import encode


def cropped(picture, size, *, place, channels=None):
    image = open_picture(picture, channels=channels) if isinstance(picture, bytes) else picture
    return ReadPictures(size, random_crop=RandomCrop(), seed=5)({"image": image}, place)["image"]


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
        np.testing.assert_array_equal(cropped(data, size, place=place), expected)
        np.testing.assert_array_equal(cropped(decode_image(data), size, place=place), expected)


def test_a_reduced_jpeg_gives_nearly_the_same_crop():
    data, size = encode(Image.fromarray(load_sample_image("flower.jpg")), "JPEG", quality=90), (64, 64)
    pixels = decode_image(data)
    differences = [cropped(data, size, place=place).astype(int) - plain(pixels, place, size) for place in range(8)]
    assert max(np.abs(difference).mean() for difference in differences) < 2
    assert max(abs(difference.mean()) for difference in differences) < 0.3


def test_a_picture_on_its_side_is_cropped_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(np.rot90(picture())), "PNG", exif=exif)
    for place in range(4):
        found = cropped(data, (30, 40), place=place).astype(int)
        assert np.abs(found - plain(picture(), place, (30, 40))).max() <= 1


def test_channels_of_bytes_are_as_asked_and_those_of_arrays_as_they_are():
    colour, grey = picture(20, 30), picture(20, 30)[..., 2:]
    for pixels in (colour, grey):
        data = encode(Image.fromarray(np.squeeze(pixels)), "PNG")
        for channels in (1, 3, None):
            expected = plain(decode_image(data, channels=channels), 3, (8, 9))
            np.testing.assert_array_equal(cropped(data, (8, 9), place=3, channels=channels), expected)
        np.testing.assert_array_equal(cropped(pixels, (8, 9), place=3), plain(pixels, 3, (8, 9)))
    five = cropped(np.repeat(grey, 5, axis=2), (8, 9), place=3)
    np.testing.assert_array_equal(five, np.repeat(plain(grey, 3, (8, 9)), 5, axis=2))


@pytest.mark.parametrize("how", ["resize", "cover", "letterbox", "pad", "crop"])
def test_bytes_and_arrays_are_brought_to_an_oblong_size_alike(how):
    size = {"pad": (100, 140), "crop": (30, 64)}.get(how, (40, 64))
    data = encode(Image.fromarray(picture()), "PNG")
    found = ReadPictures(size, how)({"image": open_picture(data)}, 0)["image"]
    assert found.shape == (*size, 3)
    np.testing.assert_array_equal(found, ReadPictures(size, how)({"image": picture()}, 0)["image"])


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("how", ["resize", "cover", "letterbox"])
def test_a_jpeg_that_is_decoded_at_a_part_of_its_size_is_not_shifted(orientation, how):
    """At an eighth, of 121 columns the last of 16 is filled by one in eight, wherever it comes to lie."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(picture()), "JPEG", quality=95, exif=exif)
    whole = {"image": decode_image(data)}
    found = place_picture({"image": open_picture(data)}, (5, 7), how)["image"].astype(int)
    # Columns differ by 2 grey levels a pixel: what is shifted by half a pixel of the result differs by 9 or more.
    differences = np.abs(found - place_picture(whole, (5, 7), how)["image"])
    assert differences[1:-1, 1:-1, :2].max() <= 5
    assert differences[..., :2].mean() < 3


def test_a_reader_goes_to_workers_as_it_is_and_reads_pictures_as_they_come_without_a_size():
    reader = ReadPictures((4, 6), "cover", RandomCrop((0.5, 1.0)), 3, {"boxes": 4})
    assert pickle.loads(pickle.dumps(reader)) == reader
    example = {"image": open_picture(encode(Image.new("RGB", (3, 2), (1, 2, 3)), "PNG")), "label": 5}
    found = ReadPictures()(example, 0)
    assert (found["image"].shape, found["label"], found.keys()) == ((2, 3, 3), 5, {"image", "label"})
    np.testing.assert_array_equal(found["image"], decode_example(example)["image"])
    assert decode_example({"point": 1}) == {"point": 1}
    assert ReadPictures(7).image_size == (7, 7)


def test_elements_are_filled_up_to_a_number_and_too_many_are_an_error():
    example = {
        "boxes": np.ones((2, 4), np.float32),
        "kind": np.array([3, 1], np.int32),
        "masks": np.ones((5, 6, 2), np.uint8),
        "keypoints": np.zeros((0, 2), np.float32),
    }
    found = pad(example, {"boxes": 3, "kind": 3, "masks": 3, "keypoints": 1})
    assert {name: (value.shape, value.dtype) for name, value in found.items()} == {
        "boxes": ((3, 4), np.float32),
        "kind": ((3,), np.int32),
        "masks": ((5, 6, 3), np.uint8),
        "keypoints": ((1, 2), np.float32),
    }
    assert (found["boxes"][2].tolist(), found["kind"].tolist(), found["masks"][0, 0].tolist()) == (
        [0, 0, 0, 0],
        [3, 1, 0],
        [1, 1, 0],
    )
    with pytest.raises(
        SettingError, match=r"'boxes' has 2 entries, more than most=\{'boxes': 1\}; pass a larger number"
    ):
        pad(example, {"boxes": 1})
    with pytest.raises(SettingError, match="no element 'box' to pad, only boxes, kind"):
        pad(example, {"box": 1})
    with pytest.raises(SettingError, match=r"'masks' has the shape \(5, 6\), without an axis of entries"):
        pad({"masks": np.ones((5, 6))}, {"masks": 1})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": (0, 4)}, r"image_size=\(0, 4\); expected a number of pixels above 0, or height and width"),
        ({"image_size": (1, 2, 3)}, r"image_size=\(1, 2, 3\)"),
        (
            {"image_size": 4, "resize_by": "fit"},
            "resize_by is 'fit'; expected one of resize, cover, letterbox, pad, crop",
        ),
        ({"random_crop": RandomCrop()}, "random_crop needs the size of the crops"),
        ({"seed": -1}, "seed is -1"),
        ({"most": {"boxes": -1}}, "most of 'boxes' is -1"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_bad_options_of_a_reader_are_errors(options, words):
    with pytest.raises(ValueError, match=words):
        ReadPictures(**options)


def test_an_example_without_a_picture_has_no_size():
    with pytest.raises(SettingError, match='no "image" to bring to image_size'):
        ReadPictures(4)({"point": np.zeros(2)}, 0)
