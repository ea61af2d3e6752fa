"""Image kernels against scipy.ndimage, ramps of known slope and values written out."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

from cnnjax.functional import kernels
from cnnjax.functional.kernels import filter_images

PICTURE = np.random.default_rng(0).uniform(size=(11, 13)).astype(np.float32)
# What scipy.ndimage makes of a picture with zeros around it; its sobel and prewitt grow with the axis, as ours.
SCIPY = {
    "identity": lambda x: x,
    "vertical_edge": lambda x: -scipy.ndimage.prewitt(x, axis=1, mode="constant"),
    "horizontal_edge": lambda x: -scipy.ndimage.prewitt(x, axis=0, mode="constant"),
    "sobel_x": lambda x: scipy.ndimage.sobel(x, axis=1, mode="constant"),
    "sobel_y": lambda x: scipy.ndimage.sobel(x, axis=0, mode="constant"),
    "scharr_x": lambda x: separable(x, [-1, 0, 1], [3, 10, 3]),
    "scharr_y": lambda x: separable(x, [3, 10, 3], [-1, 0, 1]),
    "laplacian": lambda x: scipy.ndimage.laplace(x, mode="constant"),
    "outline": lambda x: 9 * x - 9 * scipy.ndimage.uniform_filter(x, 3, mode="constant"),
    "sharpen": lambda x: x - scipy.ndimage.laplace(x, mode="constant"),
    "emboss": lambda x: scipy.ndimage.correlate(x, [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], mode="constant"),
    "box_blur": lambda x: scipy.ndimage.uniform_filter(x, 3, mode="constant"),
    "gaussian_blur": lambda x: scipy.ndimage.gaussian_filter(x, 1.0, radius=3, mode="constant"),
}
FIXED = [name for name in SCIPY if name not in ("box_blur", "gaussian_blur")]


def separable(picture, along_x, along_y):
    rows = scipy.ndimage.correlate1d(picture, along_x, axis=1, mode="constant")
    return scipy.ndimage.correlate1d(rows, along_y, axis=0, mode="constant")


def filtered(picture, kernel, **options):
    return np.asarray(filter_images(jnp.asarray(picture)[None, ..., None], kernel, **options))[0, ..., 0]


@pytest.mark.parametrize("name", SCIPY)
def test_equals_scipy(name):
    expected = SCIPY[name](PICTURE.astype(np.float64))
    np.testing.assert_allclose(filtered(PICTURE, kernels.create(name)), expected, rtol=1e-5, atol=1e-5)


def test_every_name_has_an_oracle():
    assert kernels.names() == tuple(SCIPY)


@pytest.mark.parametrize(
    ("name", "flat", "slope_x", "slope_y"),
    [
        # Of a picture 1 everywhere, of the ramp x and of the ramp y, away from the border and at x = y = 0.
        ("identity", 1, 0, 0),
        ("vertical_edge", 0, -6, 0),
        ("horizontal_edge", 0, 0, -6),
        ("sobel_x", 0, 8, 0),
        ("sobel_y", 0, 0, 8),
        ("scharr_x", 0, 32, 0),
        ("scharr_y", 0, 0, 32),
        ("laplacian", 0, 0, 0),
        ("outline", 0, 0, 0),
        ("sharpen", 1, 0, 0),
        ("emboss", 1, 6, 6),
        ("box_blur", 1, 0, 0),
        ("gaussian_blur", 1, 0, 0),
    ],
)
def test_flat_pictures_and_even_slopes(name, flat, slope_x, slope_y):
    y, x = np.mgrid[-4:5, -4:5].astype(np.float32)
    answers = [filtered(picture, kernels.create(name))[4, 4] for picture in (np.ones_like(x), x, y)]
    np.testing.assert_allclose(answers, [flat, slope_x, slope_y], rtol=1e-6, atol=1e-6)


def test_signs_at_a_step():
    # Dark, then bright, to the right: three rows of 0 0 1 1.
    step = np.tile(np.float32([0, 0, 1, 1]), (3, 1))
    answers = {name: filtered(step, kernels.create(name), padding="VALID").tolist() for name in FIXED}
    assert answers["vertical_edge"] == [[-3, -3]]
    assert answers["horizontal_edge"] == [[0, 0]]
    assert answers["sobel_x"] == [[4, 4]]
    assert answers["scharr_x"] == [[16, 16]]
    assert answers["laplacian"] == [[1, -1]]
    assert answers["outline"] == [[-3, 3]]
    assert answers["sharpen"] == [[-1, 2]]
    assert answers["emboss"] == [[3, 4]]


@pytest.mark.parametrize(
    ("size", "expected"), [(1, [[1]]), (5, np.full((5, 5), 0.04)), ((1, 3), [[1 / 3] * 3])], ids=str
)
def test_box_blur_is_an_even_mean(size, expected):
    np.testing.assert_allclose(kernels.box_blur(size), expected, rtol=1e-6)


@pytest.mark.parametrize(("sigma", "radius"), [(0.5, 2), (1.0, 3), (1.2, 4), (2.5, 8)])
def test_gaussian_blur_is_scipys_impulse_response_over_three_sigma(sigma, radius):
    impulse = np.zeros((2 * radius + 1, 2 * radius + 1))
    impulse[radius, radius] = 1
    expected = scipy.ndimage.gaussian_filter(impulse, sigma, radius=radius, mode="constant")
    np.testing.assert_allclose(kernels.gaussian_blur(sigma), expected, rtol=1e-5, atol=1e-9)


def test_gaussian_blur_of_a_size():
    # exp(-u^2 / 2) at u = -1, 0, 1, divided by the sum of the three.
    side = 1 / (2 + math.sqrt(math.e))
    expected = [[side, 1 - 2 * side, side]]
    np.testing.assert_allclose(kernels.gaussian_blur(1.0, size=(1, 3)), expected, rtol=1e-6)
    # A sigma this small leaves the centre pixel alone, whatever the size.
    np.testing.assert_array_equal(kernels.gaussian_blur(0.01, size=3), [[0, 0, 0], [0, 1, 0], [0, 0, 0]])


def test_true_convolution_takes_the_kernel_turned():
    expected = scipy.signal.convolve2d(PICTURE, [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], mode="same")
    np.testing.assert_allclose(filtered(PICTURE, kernels.emboss()[::-1, ::-1]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(("padding", "mode"), [("SAME", "same"), ("VALID", "valid")])
def test_channels_and_pictures_are_filtered_one_by_one(channels, padding, mode):
    images = np.random.default_rng(1).normal(size=(2, 7, 8, channels)).astype(np.float32)
    kernel = np.random.default_rng(2).normal(size=(3, 5)).astype(np.float32)
    planes = np.moveaxis(images, -1, 1)
    expected = [[scipy.signal.correlate2d(plane, kernel, mode=mode) for plane in image] for image in planes]
    result = jax.jit(lambda x, w: filter_images(x, w, padding=padding))(images, kernel)
    np.testing.assert_allclose(np.moveaxis(result, -1, 1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("padding_mode", "mode"), [("zeros", "constant"), ("reflect", "mirror"), ("edge", "nearest"), ("circular", "wrap")]
)
def test_what_lies_beyond_the_border(padding_mode, mode):
    kernel = jnp.asarray(np.random.default_rng(2).normal(size=(3, 5)), jnp.float32)
    expected = scipy.ndimage.correlate(PICTURE, np.asarray(kernel), mode=mode)
    np.testing.assert_allclose(filtered(PICTURE, kernel, padding_mode=padding_mode), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SCIPY)
def test_kernels_are_float32_or_what_is_asked_for(name):
    assert kernels.create(name).dtype == jnp.float32
    half = kernels.create(name, dtype=jnp.bfloat16)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), kernels.create(name), rtol=2**-8)


def test_float64_is_exact_to_its_own_rounding():
    with jax.enable_x64(True):
        kernel = kernels.gaussian_blur(1.5, dtype=jnp.float64)
        assert kernel.dtype == jnp.float64
        expected = scipy.ndimage.gaussian_filter(np.pad([[1.0]], 5), 1.5, radius=5, mode="constant")
        np.testing.assert_allclose(kernel, expected, rtol=1e-13)


@pytest.mark.parametrize("name", FIXED)
def test_integers_are_refused_by_every_kernel(name):
    with pytest.raises(ValueError, match="dtype=uint8: a kernel is floating point"):
        kernels.create(name, dtype=jnp.uint8)


@pytest.mark.parametrize("blur", [kernels.box_blur, kernels.gaussian_blur])
def test_bad_blurs(blur):
    with pytest.raises(ValueError, match="dtype=int32: a kernel is floating point"):
        blur(dtype=jnp.int32)
    for size in (4, (3, 2)):
        with pytest.raises(ValueError, match=r"size=.* has no centre pixel; expected odd numbers"):
            blur(size=size)
    with pytest.raises(ValueError, match="size=-1 is too small; every entry must be at least 1"):
        blur(size=-1)
    with pytest.raises(ValueError, match=r"size=\(3, 3, 3\) has 3 entries; expected one integer or 2"):
        blur(size=(3, 3, 3))


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.inf, math.nan])
def test_bad_sigma(sigma):
    with pytest.raises(ValueError, match=f"sigma={sigma} is not a width; expected a number above 0, in pixels"):
        kernels.gaussian_blur(sigma)


@pytest.mark.parametrize("slope", [kernels.sobel, kernels.scharr])
def test_bad_axis(slope):
    # Typecheckers are on in the tests, and would speak first.
    with pytest.raises(ValueError, match="along='vertical' is not an axis; expected 'x'"):
        inspect.unwrap(slope)("vertical")


def test_unknown_name():
    with pytest.raises(
        ValueError, match=r"unknown kernel 'prewitt'; there are identity, vertical_edge, .*gaussian_blur"
    ):
        kernels.create("prewitt")


@pytest.mark.parametrize(
    ("images", "kernel", "message"),
    [
        (np.ones((8, 8), np.float32), np.ones((3, 3), np.float32), r"images have shape \(8, 8\); expected \(batch"),
        (np.ones((1, 8, 8, 3), np.float32), np.ones((3, 3, 1), np.float32), r"kernel has shape \(3, 3, 1\)"),
        (np.ones((1, 8, 8, 3), np.uint8), np.ones((3, 3), np.float32), "images: uint8 came, floating point"),
        (np.ones((1, 8, 8, 3), np.float16), np.ones((3, 3), np.float32), "images came as float16, kernel as float32"),
        (np.ones((1, 2, 8, 3), np.float32), np.ones((3, 3), np.float32), "window of 3 does not fit an input of 2"),
    ],
    ids=["no batch", "three axes", "integers", "two types", "too large"],
)
def test_bad_pictures(images, kernel, message, monkeypatch):
    # Typecheckers are on in the tests, and would speak first.
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        filter_images(jnp.asarray(images), jnp.asarray(kernel), padding="VALID")
