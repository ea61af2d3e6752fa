"""Correlation against scipy.signal and against sums written out."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from cnnjax.functional import correlate


def arrays(seed, *shapes):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("sizes", [(9,), (8, 9), (5, 6, 7)], ids=["1-D", "2-D", "3-D"])
@pytest.mark.parametrize(("padding", "mode"), [("VALID", "valid"), ("SAME", "same"), ("FULL", "full")])
def test_equals_scipy(sizes, padding, mode):
    rank = len(sizes)
    images, kernel = arrays(0, (2, *sizes, 3), (*(3,) * rank, 3, 4))
    expected = np.stack(
        [
            [
                sum(scipy.signal.correlate(image[..., c], kernel[..., c, k], mode=mode) for c in range(3))
                for k in range(4)
            ]
            for image in images
        ]
    )
    result = jax.jit(lambda x, w: correlate(x, w, padding=padding))(images, kernel)
    np.testing.assert_allclose(result, np.moveaxis(expected, 1, -1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"strides": 2},
        {"strides": (2, 3), "padding": "SAME"},
        {"dilation": 2},
        {"dilation": (1, 2), "padding": [(0, 3), (2, 1)]},
        {"strides": 2, "padding": 1, "misfit": "pad"},
        {"strides": 3, "misfit": "crop"},
        {"groups": 2, "padding": "SAME"},
    ],
    ids=str,
)
def test_equals_the_sum_written_out(options):
    options = {"padding": "VALID"} | options
    groups = options.get("groups", 1)
    images, kernel = arrays(1, (2, 8, 9, 4), (3, 2, 4 // groups, 6))
    result = np.asarray(correlate(jnp.asarray(images), jnp.asarray(kernel), **options))
    strides, dilation = (np.broadcast_to(options.get(name, 1), 2) for name in ("strides", "dilation"))
    # Zeros enough on every side; the window's first tap is at p * stride - before.
    wide = np.pad(images, ((0, 0), (9, 9), (9, 9), (0, 0)))
    before = {"VALID": (0, 0), 1: (1, 1)}.get(str(options["padding"]) if options["padding"] != 1 else 1)
    if options["padding"] == "SAME":
        extents = [dilation[0] * 2 + 1, dilation[1] + 1]
        totals = [
            max((-(-size // s) - 1) * s + extent - size, 0)
            for size, s, extent in zip((8, 9), strides, extents, strict=True)
        ]
        before = tuple(total // 2 for total in totals)
    elif isinstance(options["padding"], list):
        before = tuple(low for low, _ in options["padding"])
    expected = np.zeros_like(result)
    for row, column, k in np.ndindex(*result.shape[1:]):
        group = k // (6 // groups)
        channels = slice(group * 4 // groups, (group + 1) * 4 // groups)
        for i, j in np.ndindex(3, 2):
            y = 9 + row * strides[0] - before[0] + i * dilation[0]
            x = 9 + column * strides[1] - before[1] + j * dilation[1]
            expected[:, row, column, k] += wide[:, y, x, channels] @ kernel[i, j, :, k]
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_the_lectures_six_by_six_image():
    # Printed rows 2 and 3 of the first filter's result are wrong in the lecture notes; these are right.
    image = jnp.asarray(
        [
            [1, 0, 0, 0, 0, 1],
            [0, 1, 0, 0, 1, 0],
            [0, 0, 1, 1, 0, 0],
            [1, 0, 0, 0, 1, 0],
            [0, 1, 0, 0, 1, 0],
            [0, 0, 1, 0, 1, 0],
        ],
        jnp.float32,
    ).reshape(1, 6, 6, 1)
    diagonal = (2 * jnp.eye(3) - 1).reshape(3, 3, 1, 1)
    expected = [[3, -1, -3, -1], [-3, 1, 0, -3], [-3, -3, 0, 1], [3, -2, -2, -1]]
    np.testing.assert_array_equal(correlate(image, diagonal, padding="VALID")[0, ..., 0], expected)
    np.testing.assert_array_equal(correlate(image, diagonal, padding="VALID", strides=3)[0, ..., 0], [[3, -1], [3, -1]])


def test_vmap_over_images_and_kernels():
    images, kernel = map(jnp.asarray, arrays(2, (3, 2, 6, 6, 2), (3, 3, 3, 2, 4)))
    result = jax.vmap(correlate)(images, kernel)
    for index in range(3):
        np.testing.assert_allclose(result[index], correlate(images[index], kernel[index]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("images", "kernel", "options", "message"),
    [
        ((2, 8), (3, 3), {}, "1 to 3 spatial axes"),
        ((2, 8, 8, 3), (3, 3, 4), {}, "2 window axes"),
        ((2, 8, 8, 3), (3, 3, 4, 5), {}, "4 input channels for each of 1 group"),
        ((2, 8, 8, 4), (3, 3, 2, 5), {"groups": 2}, "groups=2 must divide"),
        ((2, 8, 8, 3), (3, 3, 3, 4), {"groups": 0}, "groups=0"),
        ((2, 2, 8, 3), (3, 3, 3, 4), {"padding": "VALID"}, "window of 3 does not fit an input of 2"),
    ],
)
def test_bad_shapes(images, kernel, options, message):
    with pytest.raises(ValueError, match=message):
        correlate(jnp.ones(images), jnp.ones(kernel), **options)


def test_bad_types():
    images, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
    with pytest.raises(ValueError, match="images are float32 and the kernel bfloat16; expected one type"):
        correlate(images, kernel.astype(jnp.bfloat16))
    # Typecheckers are on in the tests, and would speak first.
    function = inspect.unwrap(correlate)
    with pytest.raises(ValueError, match="images: uint8 came, floating point was expected"):
        function(images.astype(jnp.uint8), kernel)
    with pytest.raises(ValueError, match="kernel: int32 came, floating point was expected"):
        function(images, kernel.astype(jnp.int32))
