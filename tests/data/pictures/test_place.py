import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnjax.data import augment
from cnnjax.data.pictures.decode import Box
from cnnjax.data.pictures.place import SettingError, crop, fit_image, place
from tests.data.tiny_sources import encode


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


def torchvision_way(image, size, shorter):
    """Resize of the shorter side, the longer cut down to a whole number, and the centre."""
    height, width = image.shape[:2]
    sides = (shorter * width // height, shorter) if height <= width else (shorter, shorter * height // width)
    whole = np.asarray(Image.fromarray(image).resize(sides, Image.Resampling.BILINEAR))
    top, left = (whole.shape[0] - size) // 2, (whole.shape[1] - size) // 2
    return whole[top : top + size, left : left + size]


@pytest.mark.parametrize("shape", [(30, 47), (47, 30), (16, 16), (9, 40), (28, 29)])
def test_cover_scales_the_shorter_side_and_takes_the_centre(shape):
    image = np.random.default_rng(2).integers(0, 256, (*shape, 3), np.uint8)
    covered = fit_image(image, (14, 14), "cover").astype(int)
    assert np.abs(covered - torchvision_way(image, 14, 14)).max() <= 1
    evaluated = fit_image(image, (14, 14), "cover", share=0.875).astype(int)
    assert np.abs(evaluated - torchvision_way(image, 14, 16)).max() <= 1
    five = fit_image(np.repeat(image[..., :1], 5, axis=2), (14, 14), "cover")
    np.testing.assert_array_equal(five, np.repeat(covered[..., :1], 5, axis=2))


def test_cover_keeps_the_aspect_for_any_size():
    image = np.kron([[10, 20], [30, 40]], np.ones((8, 8)))[..., None].astype(np.uint8)
    assert fit_image(image, (16, 16), "cover") is image
    # Twice as wide as the picture: all columns, and the middle half of the rows, which is 10 over 30.
    wide = fit_image(image, (8, 16), "cover")
    assert wide[:4, :8].ravel().tolist() == [10] * 32
    assert wide[4:, 8:].ravel().tolist() == [40] * 32
    assert fit_image(image, (5, 3), "cover", share=0.3).shape == (5, 3, 1)


def test_bad_fits_are_errors():
    image = np.zeros((4, 6, 1), np.uint8)
    with pytest.raises(ValueError, match=r"share is 0\.0"):
        fit_image(image, (2, 2), "cover", share=0.0)
    with pytest.raises(ValueError, match=r'share is 0\.9 with "resize"'):
        fit_image(image, (2, 2), share=0.9)
    with pytest.raises(ValueError, match="only uint8 images are scaled, and this one is int32"):
        fit_image(image.astype(np.int32), (2, 2), "cover")
    with pytest.raises(ValueError, match="4x6 does not fit into 5x5"):
        fit_image(image, (5, 5), "pad")
    with pytest.raises(ValueError, match="4x6 is too small to crop 5x5"):
        fit_image(image, (5, 5), "crop")
    with pytest.raises(ValueError, match="float32"):
        fit_image(image.astype(np.float32), (2, 2))
    with pytest.raises(ValueError, match="at least 1"):
        fit_image(image, (0, 5))


def test_letterbox_scales_both_sides_alike_until_the_picture_fits():
    image = np.kron([[10, 20], [30, 40]], np.ones((8, 8)))[..., None].astype(np.uint8)
    # 16 x 16 into 8 x 20: half the size, 6 columns of zeros at each side.
    found = fit_image(image, (8, 20), "letterbox")[..., 0]
    assert found.shape == (8, 20)
    assert (found[:, :6].max(), found[:, 14:].max()) == (0, 0)
    np.testing.assert_array_equal(found[:, 6:14], np.asarray(Image.fromarray(image[..., 0]).resize((8, 8), 2)))
    # Small ones grow, and the odd row is at the bottom: 2 x 2 into 7 x 4 is 4 x 4 from row 1 on.
    small = fit_image(np.full((2, 2, 3), 9, np.uint8), (7, 4), "letterbox")[..., 0]
    assert small[:, 0].tolist() == [0, 9, 9, 9, 9, 0, 0]
    assert fit_image(image, (16, 16), "letterbox") is image
    assert fit_image(np.full((100, 1, 1), 5, np.uint8), (3, 3), "letterbox")[..., 0].tolist() == [[0, 5, 0]] * 3


# A picture of 4 x 6 with a mark at row 1, column 4, and what lies there: by hand, from the definitions of the ways.
PICTURE = np.zeros((4, 6, 1), np.uint8)
PICTURE[1, 4] = 200
EXAMPLE = {
    "image": PICTURE,
    "boxes": np.array([[4, 1, 5, 2], [0, 0, 6, 4], [0, 0, 0, 0], [3, 3, 1, 4]], np.float32),
    "keypoints": np.array([[4.5, 1.5], [0, 4]], np.float32),
    "masks": (PICTURE[..., 0] > 0).astype(np.int32) * 7,
    "label": np.int32(2),
}
# Matrix entries (along x: factor, shift; along y: factor, shift), moved boxes, moved points.
BY_HAND = {
    ("resize", (8, 18)): ((3, 0, 2, 0), [[12, 2, 15, 4], [0, 0, 18, 8]], [[13.5, 3], [0, 8]]),
    # Twice as tall: 8 x 12, of which columns 2 to 9 are kept.
    ("cover", (8, 8)): ((2, -2, 2, 0), [[6, 2, 8, 4], [0, 0, 8, 8]], [[7, 3], [-2, 8]]),
    # Twice as large: 8 x 12, and a row of zeros above and below.
    ("letterbox", (10, 12)): ((2, 0, 2, 1), [[8, 3, 10, 5], [0, 1, 12, 9]], [[9, 4], [0, 9]]),
    ("pad", (7, 9)): ((1, 1, 1, 1), [[5, 2, 6, 3], [1, 1, 7, 5]], [[5.5, 2.5], [1, 5]]),
    # Columns 1 to 4 and rows 1 to 2.
    ("crop", (2, 4)): ((1, -1, 1, -1), [[3, 0, 4, 1], [0, 0, 4, 2]], [[3.5, 0.5], [-1, 3]]),
}


@pytest.mark.parametrize(("how", "size"), BY_HAND)
def test_boxes_masks_and_key_points_move_with_their_picture(how, size):
    (along, right, down, below), boxes, points = BY_HAND[how, size]
    found = place(EXAMPLE, size, how)
    assert found["matrix"].tolist() == [[along, 0, right], [0, down, below], [0, 0, 1]]
    assert found["boxes"].tolist() == [*boxes, [0, 0, 0, 0], [0, 0, 0, 0]]
    assert found["keypoints"].tolist() == points
    assert (found["label"], found["image"].shape) == (2, (*size, 1))
    # The mask is whole where the mark's box is, and keeps its class.
    x_min, y_min, x_max, y_max = (int(number) for number in boxes[0])
    expected = np.zeros(size, int)
    expected[y_min:y_max, x_min:x_max] = 7
    np.testing.assert_array_equal(found["masks"], expected)
    assert found["image"][..., 0][expected > 0].min() > found["image"][..., 0][expected == 0].max() / 2
    assert {name: found[name].dtype for name in ("boxes", "keypoints", "masks", "matrix")} == {
        "boxes": np.float32,
        "keypoints": np.float32,
        "masks": np.int32,
        "matrix": np.float32,
    }
    # And back, as predictions are.
    back = np.linalg.inv(found["matrix"]) @ np.array([*points[0], 1])
    np.testing.assert_allclose(back, [4.5, 1.5, 1])


@pytest.mark.parametrize(
    ("how", "size"),
    [
        ("resize", (8, 18)),
        ("resize", (3, 5)),
        ("cover", (5, 5)),
        ("letterbox", (9, 12)),
        ("pad", (9, 9)),
        ("crop", (3, 3)),
        (Box(1, 2, 3, 3), (5, 12)),
    ],
)
def test_the_host_moves_as_the_device_does_by_the_same_matrix(how, size):
    """The device on a canvas that holds the picture and the result, whose border boxes are then cut at."""
    generator = np.random.default_rng(0)
    low = generator.uniform(-1, 4, (6, 2))
    example = {
        "image": generator.integers(0, 256, (4, 6, 1)).astype(np.uint8),
        "boxes": np.concatenate([low, low + generator.uniform(-0.5, 3, (6, 2))], 1).astype(np.float32),
        "keypoints": generator.uniform(-1, 7, (5, 2)).astype(np.float32),
        "masks": generator.integers(1, 5, (4, 6, 2)).astype(np.int32),
    }
    found = crop(example, size, how) if isinstance(how, Box) else place(example, size, how)
    side = 18
    canvas = np.zeros((1, side, side, 1), np.uint8)
    masks = np.zeros((1, side, side, 2), np.int32)
    masks[0, :4, :6] = example["masks"]
    targets = augment.Targets(
        boxes=jnp.asarray(example["boxes"])[None],
        masks=jnp.asarray(masks),
        keypoints=jnp.asarray(example["keypoints"])[None],
    )
    _, moved = augment.warp(jnp.asarray(canvas), jnp.asarray(found["matrix"])[None], targets)
    np.testing.assert_allclose(found["keypoints"], moved.keypoints[0], atol=1e-5)
    np.testing.assert_array_equal(found["masks"], moved.masks[0, : size[0], : size[1]])
    border = np.tile(size[::-1], 2).astype(np.float32)
    cut = np.minimum(np.asarray(moved.boxes[0]), border)
    cut[(cut[:, 2:] <= cut[:, :2]).any(1)] = 0
    np.testing.assert_allclose(found["boxes"], cut, atol=1e-5)


def test_a_box_that_a_crop_leaves_outside_is_empty_and_one_that_it_cuts_is_cut():
    found = crop(EXAMPLE | {"boxes": np.array([[0, 0, 2, 2], [1, 1, 5, 3], [2, 0, 6, 2.0]])}, (4, 4), Box(2, 2, 2, 2))
    # The part is enlarged twice; the third box only touches it.
    assert found["boxes"].tolist() == [[0, 0, 0, 0], [0, 0, 4, 2], [0, 0, 0, 0]]
    assert not np.isnan(found["boxes"]).any()
    lost = place({"image": PICTURE, "boxes": np.array([[np.nan, 0, 2, 2]])}, (8, 12))["boxes"]
    assert np.isnan(lost).any()


def test_key_points_of_objects_move_and_what_else_there_is_of_them_stays():
    example = EXAMPLE | {
        "keypoints": np.arange(24, dtype=np.float32).reshape(4, 3, 2),
        "visibility": np.full((4, 3), 2, np.int32),
        "classes": np.arange(4, dtype=np.int32),
        "present": np.array([True, True, False, True]),
    }
    found = place(example, (10, 12), "letterbox")
    np.testing.assert_array_equal(found["keypoints"], example["keypoints"] * 2 + [0, 1])
    for name in ("visibility", "classes"):
        np.testing.assert_array_equal(found[name], example[name])
    # The fourth box is inverted: nothing of it is left, as of one that is cropped away.
    assert found["present"].tolist() == [True, True, False, False]
    assert crop(example, (2, 2), Box(2, 0, 2, 2))["present"].tolist() == [False, True, False, False]
    assert example["present"].tolist() == [True, True, False, True]


def test_bytes_are_a_picture_too():
    data = encode(Image.fromarray(np.kron(PICTURE[..., 0], np.ones((8, 8), np.uint8))), "PNG")
    boxes = np.array([[32, 8, 40, 16.0]])
    for found in (
        place({"image": data, "boxes": boxes}, (4, 6)),
        crop({"image": data, "boxes": boxes}, (4, 6), Box(0, 0, 32, 48)),
    ):
        assert found["boxes"].tolist() == [[4, 1, 5, 2]]
        assert np.unravel_index(found["image"].argmax(), (4, 6)) == (1, 4)


def test_a_box_outside_of_the_picture_is_no_crop():
    for image in (PICTURE, encode(Image.fromarray(PICTURE[..., 0]), "PNG")):
        with pytest.raises(ValueError, match="chosen of a picture of 4x6"):
            crop({"image": image}, (2, 2), Box(2, 2, 3, 3))


def test_none_of_something_stays_none():
    nothing = {"image": PICTURE, "boxes": np.zeros((0, 4)), "keypoints": np.zeros((0, 2)), "masks": np.zeros((4, 6, 0))}
    found = place(nothing, (8, 8), "letterbox")
    assert [found[name].shape for name in ("boxes", "keypoints", "masks")] == [(0, 4), (0, 2), (8, 8, 0)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"boxes": np.zeros((2, 5), np.float32)},
            r'"boxes" have the shape \(2, 5\); expected \(n, 4\), \(x_min, y_min',
        ),
        ({"boxes": np.zeros((2, 4), np.int32)}, r'"boxes" are int32; expected floating point.*boxes\.astype'),
        (
            {"keypoints": np.zeros((2, 3), np.float32)},
            r'"keypoints" have the shape \(2, 3\); expected \(n, 2\), \(x, y\)',
        ),
        (
            {"masks": np.zeros((6, 4), np.uint8)},
            r'"masks" have the shape \(6, 4\); expected that of the picture, \(4, 6\)',
        ),
        ({"masks": b"PNG"}, r'"masks" have the shape \(\); .*decoded'),
        ({"keypoints": np.zeros(2, np.float32)}, r'"keypoints" have the shape \(2,\); expected \(n, 2\)'),
        ({"present": np.ones(3, bool)}, r'"present" is bool of shape \(3,\); expected bool, one for each of 4 boxes'),
        ({"present": np.ones(4)}, '"present" is float64 of shape'),
        ({"matrix": np.eye(3)}, '"matrix" has the name of what moves .*rename it'),
        ({"depth": np.zeros((4, 6))}, "'depth' has the height and width of the picture, 4x6, and would not move"),
    ],
)
def test_what_cannot_move_is_named(changes, words):
    with pytest.raises(SettingError, match=words):
        place(EXAMPLE | changes, (8, 12))


def test_elements_of_other_shapes_stay_and_no_matrix_is_kept_without_need():
    example = {"image": PICTURE, "depth": np.zeros((4, 6)), "table": np.zeros((4, 5)), "matrix": np.eye(2)}
    assert place(example, (4, 6)).keys() == example.keys()
    del example["depth"]
    found = place(example, (2, 3))
    assert (found["table"].shape, found["matrix"].tolist()) == ((4, 5), [[1, 0], [0, 1]])
