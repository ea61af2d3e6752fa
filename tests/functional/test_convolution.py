"""Correlation, convolution and the transpose: against scipy.signal and sums over taps in float64 NumPy."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.signal
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnjax.functional.convolution import conv_transpose, convolve, correlate
from tests.functional import correlation_oracle as oracle
from tests.functional.correlation_oracle import arrays

MODES = {"VALID": "valid", "SAME": "same", "FULL": "full"}


def scipys(function, images, kernel, mode):
    """A function of scipy.signal for every pair of channels, summed over those of the images."""
    inputs, outputs = kernel.shape[-2:]
    pairs = [
        [sum(function(image[..., c], kernel[..., c, k], mode=mode) for c in range(inputs)) for k in range(outputs)]
        for image in images
    ]
    return np.moveaxis(np.stack(pairs), 1, -1)


@pytest.mark.parametrize("sizes", [(9,), (8, 9), (5, 6, 7)], ids=["1-D", "2-D", "3-D"])
def test_equals_scipy(sizes):
    rank = len(sizes)
    images, kernel = arrays(0, (2, *sizes, 3), (*(3,) * rank, 3, 4))

    @jax.jit
    def every(images, kernel):
        return [[function(images, kernel, padding=name) for name in MODES] for function in (correlate, convolve)]

    for results, reference in zip(every(images, kernel), (scipy.signal.correlate, scipy.signal.convolve), strict=True):
        for result, mode in zip(results, MODES.values(), strict=True):
            np.testing.assert_allclose(result, scipys(reference, images, kernel, mode), rtol=1e-4, atol=1e-4)


def test_convolution_commutes_and_associates():
    image, first, second = arrays(1, (1, 6, 7, 1), (3, 2, 1, 1), (2, 4, 1, 1))

    def as_kernel(image):
        return image.reshape(*image.shape[1:3], 1, 1)

    def as_image(kernel):
        return kernel.reshape(1, *kernel.shape[:2], 1)

    @jax.jit
    def every(image, first, second):
        return {
            "commuted": (convolve(image, first), convolve(as_image(first), as_kernel(image))),
            "associated": (
                convolve(convolve(image, first), second),
                convolve(image, as_kernel(convolve(as_image(first), second))),
            ),
            "correlated": (
                correlate(image, first, padding="FULL"),
                correlate(as_image(first), as_kernel(image), padding="FULL"),
            ),
        }

    results = every(image, first, second)
    full = scipy.signal.convolve(image[0, ..., 0], first[..., 0, 0])
    np.testing.assert_allclose(results["commuted"][0][0, ..., 0], full, rtol=1e-5, atol=1e-5)
    for law in ("commuted", "associated"):
        np.testing.assert_allclose(*results[law], rtol=1e-5, atol=1e-5)
    # Correlation does not: the operands' change of places turns the result round.
    one, other = map(np.asarray, results["correlated"])
    assert np.abs(one - other).max() > 0.1
    np.testing.assert_allclose(one, other[:, ::-1, ::-1], rtol=1e-5, atol=1e-5)


NAMED = {
    "strided": {"strides": 2, "padding": "SAME"},
    "strides_per_axis": {"strides": (2, 3), "padding": "SAME_LOWER"},
    "dilated": {"dilation": 2, "padding": "VALID"},
    "asymmetric": {"dilation": (1, 2), "padding": [(0, 3), (2, 1)]},
    "one_integer_of_padding": {"padding": 2},
    "integers_of_padding": {"padding": (1, 2)},
    "full": {"padding": "FULL", "dilation": (2, 1)},
    "grouped": {"groups": 2, "padding": "SAME"},
    "input_dilated": {"input_dilation": 2, "padding": "VALID"},
    "input_dilated_same": {"input_dilation": (2, 3), "strides": (3, 2), "padding": "SAME"},
    "everything": {"input_dilation": (2, 1), "strides": 2, "dilation": (1, 2), "groups": 2, "padding": "FULL"},
    "misfit_pad": {"strides": 2, "padding": 1, "misfit": "pad"},
    "misfit_crop": {"strides": 3, "padding": "VALID", "misfit": "crop"},
    "misfit_crops_all": {"strides": (24, 3), "padding": [(16, 3), (0, 0)], "misfit": "crop"},
    "misfit_crop_input_dilated": {"strides": 3, "padding": [(1, 0), (3, 2)], "input_dilation": 2, "misfit": "crop"},
}
SIZES, WINDOW = (8, 9), (3, 2)


def explicit(options):
    """The same options as the oracle takes them."""
    strides, dilation, spread = (
        tuple(int(entry) for entry in np.broadcast_to(options.get(name, 1), 2))
        for name in ("strides", "dilation", "input_dilation")
    )
    padding = options["padding"]
    if isinstance(padding, str):
        padding = oracle.pads(padding, SIZES, WINDOW, strides, spread, dilation)
    else:
        each = (padding, padding) if isinstance(padding, int) else padding
        padding = [(entry, entry) if isinstance(entry, int) else entry for entry in each]
    axes = zip(SIZES, WINDOW, strides, spread, dilation, padding, strict=True)
    fitted = []
    for size, taps, stride, step, distance, (before, after) in axes:
        rest = (oracle.extent(size, step) + before + after - oracle.extent(taps, distance)) % stride
        change = {"pad": -rest % stride, "crop": -rest}.get(options.get("misfit"), 0)
        fitted.append((before, after + change))
    groups = options.get("groups", 1)
    return {
        "strides": strides,
        "dilation": dilation,
        "input_dilation": spread,
        "padding": fitted,
        "groups": groups,
    }


@pytest.mark.parametrize("options", NAMED.values(), ids=NAMED.keys())
def test_values_and_gradients_equal_the_sums_written_out(options):
    written = explicit(options)
    images, kernel = arrays(2, (2, *SIZES, 4), (*WINDOW, 4 // written["groups"], 6))
    expected = oracle.correlate(images, kernel, **written)
    (weights,) = arrays(3, expected.shape)

    @jax.jit
    def every(images, kernel, weights):
        result, vjp = jax.vjp(partial(correlate, **options), images, kernel)
        return result, vjp(weights), convolve(images, kernel, **options)

    result, (inputs, kernels), convolved = every(images, kernel, weights)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    adjoint = oracle.input_adjoint(kernel, weights, SIZES, **written)
    np.testing.assert_allclose(inputs, adjoint, rtol=1e-5, atol=1e-5)
    adjoint = oracle.kernel_adjoint(images, weights, WINDOW, **written)
    np.testing.assert_allclose(kernels, adjoint, rtol=1e-4, atol=1e-4)
    flipped = oracle.correlate(images, kernel[::-1, ::-1], **written)
    np.testing.assert_allclose(convolved, flipped, rtol=1e-5, atol=1e-5)


PADDED = {
    "same": {},
    "wider_than_the_picture": {"padding": [(5, 2), (0, 7)]},
    "strided": {"strides": 2, "padding": "FULL", "dilation": 2},
    "input_dilated": {"input_dilation": 2, "padding": "SAME"},
    "cropped": {"strides": 3, "padding": 2, "misfit": "crop"},
    "none": {"padding": "VALID"},
}


@pytest.mark.parametrize("options", PADDED.values(), ids=PADDED.keys())
def test_padding_modes(options):
    modes = {"zeros": "constant", "reflect": "reflect", "edge": "edge", "circular": "wrap"}
    written = explicit({"padding": "SAME"} | options)
    images, kernel = arrays(4, (2, *SIZES, 2), (*WINDOW, 2, 3))

    @jax.jit
    def every(images, kernel):
        return [correlate(images, kernel, padding_mode=mode, **options) for mode in modes]

    for mode, result in zip(modes.values(), every(images, kernel), strict=True):
        expected = oracle.correlate(images, kernel, mode=mode, **written)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5, err_msg=mode)


def test_gradients_of_padding_modes_equal_differences():
    images, kernel = arrays(5, (1, 4, 1), (3, 1, 2))
    with jax.enable_x64(True):
        point = (jnp.float64(images), jnp.float64(kernel))

        def function(images, kernel):
            return jnp.stack(
                [
                    jnp.sum(jnp.sin(correlate(images, kernel, padding=2, padding_mode=mode)))
                    for mode in ("reflect", "edge", "circular")
                ]
            )

        found = jax.jit(jax.jacrev(function, argnums=(0, 1)))(*point)
        compiled, step = jax.jit(function), 1e-5
        for operand, jacobian in enumerate(found):
            for place in np.ndindex(point[operand].shape):
                moved = [list(point), list(point)]
                for one, sign in zip(moved, (1, -1), strict=True):
                    one[operand] = one[operand].at[place].add(sign * step)
                slope = (compiled(*moved[0]) - compiled(*moved[1])) / (2 * step)
                np.testing.assert_allclose(jacobian[:, *place], slope, rtol=1e-7, atol=1e-8)


def test_groups_are_a_block_diagonal_kernel():
    images, kernel = arrays(6, (2, 5, 6, 6), (3, 3, 2, 9))
    blocks = np.zeros((3, 3, 6, 9), np.float32)
    for group in range(3):
        blocks[:, :, 2 * group : 2 * group + 2, 3 * group : 3 * group + 3] = kernel[..., 3 * group : 3 * group + 3]
    grouped, dense = jax.jit(lambda x, w, d: (correlate(x, w, groups=3), correlate(x, d)))(images, kernel, blocks)
    np.testing.assert_allclose(grouped, dense, rtol=1e-5, atol=1e-5)


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


TRANSPOSED = {
    # As torch.nn.ConvTranspose2d(..., stride, padding, output_padding, dilation).
    "plain": ({"padding": 0}, [(0, 0), (0, 0)], (6, 6)),
    "strided": ({"strides": 2, "padding": 1}, [(1, 1), (1, 1)], (7, 8)),
    "output_padding": ({"strides": 2, "padding": 1, "output_padding": 1}, [(1, 0), (1, 0)], (8, 9)),
    "output_padding_crops": ({"strides": 3, "padding": 0, "output_padding": (2, 1)}, [(0, -2), (0, -1)], (14, 15)),
    "dilated": ({"dilation": (2, 1), "padding": 1}, [(1, 1), (1, 1)], (6, 4)),
    "grouped": ({"strides": 2, "padding": 0, "groups": 2}, [(0, 0), (0, 0)], (9, 10)),
    "asymmetric": ({"strides": 2, "padding": [(0, 1), (1, 0)]}, [(0, 1), (1, 0)], (8, 9)),
    "same": ({"strides": 2}, [(0, 1), (0, 0)], (8, 10)),
    "full": ({"padding": "FULL"}, [(2, 2), (1, 1)], (2, 4)),
}


@pytest.mark.parametrize(("options", "padding", "sizes"), TRANSPOSED.values(), ids=TRANSPOSED.keys())
def test_transpose_equals_the_adjoint(options, padding, sizes):
    groups = options.get("groups", 1)
    images, kernel = arrays(7, (2, 4, 5, 4), (*WINDOW, 6 // groups, 4))
    strides, dilation = (
        tuple(int(entry) for entry in np.broadcast_to(options.get(name, 1), 2)) for name in ("strides", "dilation")
    )
    written = {"strides": strides, "dilation": dilation, "padding": padding, "groups": groups}
    expected = oracle.input_adjoint(kernel, images, sizes, **written)
    (weights,) = arrays(8, expected.shape)

    @jax.jit
    def every(images, kernel, weights):
        result, vjp = jax.vjp(partial(conv_transpose, **options), images, kernel)
        return result, vjp(weights)

    result, (inputs, kernels) = every(images, kernel, weights)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(inputs, oracle.correlate(weights, kernel, **written), rtol=1e-5, atol=1e-5)
    adjoint = oracle.kernel_adjoint(weights, images, WINDOW, **written)
    np.testing.assert_allclose(kernels, adjoint, rtol=1e-4, atol=1e-4)


def test_the_precision_around_a_call_is_the_calls():
    images, kernel = map(jnp.asarray, arrays(9, (1, 4, 4, 2), (3, 3, 2, 2)))

    def around(precision):
        def program(images, kernel):
            with jax.default_matmul_precision(precision):
                return jax.grad(lambda x, w: correlate(conv_transpose(x, w), w).sum())(images, kernel)

        return jax.jit(program).trace(images, kernel).lower(lowering_platforms=("tpu",)).as_text()

    assert around("highest").count("precision HIGHEST>") == 4
    assert "HIGHEST" not in around(None)
    given = jax.make_jaxpr(partial(correlate, precision="high"))(images, kernel)
    assert "precision='high'" in str(given)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_equals_the_oracle_for_any_form(data):
    rank = data.draw(st.integers(1, 3), "rank")

    def per_axis(low, high, name):
        return tuple(data.draw(st.integers(low, high), f"{name} {axis}") for axis in range(rank))

    sizes, window = per_axis(1, 6, "size"), per_axis(1, 3, "window")
    strides, dilation, spread = per_axis(1, 3, "stride"), per_axis(1, 2, "dilation"), per_axis(1, 2, "input dilation")
    padding = list(zip(per_axis(0, 4, "before"), per_axis(0, 4, "after"), strict=True))
    groups, inputs, outputs = (data.draw(st.integers(1, 2), name) for name in ("groups", "inputs", "outputs"))
    assume(
        all(
            oracle.extent(size, step) + before + after >= oracle.extent(taps, distance)
            for size, step, (before, after), taps, distance in zip(
                sizes, spread, padding, window, dilation, strict=True
            )
        )
    )
    images, kernel = arrays(10, (2, *sizes, groups * inputs), (*window, inputs, groups * outputs))
    options = {
        "strides": strides,
        "dilation": dilation,
        "input_dilation": spread,
        "padding": padding,
        "groups": groups,
    }
    expected = oracle.correlate(images, kernel, **options)
    (weights,) = arrays(11, expected.shape)

    @jax.jit
    def every(images, kernel, weights):
        result, vjp = jax.vjp(partial(correlate, **options), images, kernel)
        return result, *vjp(weights)

    adjoints = (
        oracle.input_adjoint(kernel, weights, sizes, **options),
        oracle.kernel_adjoint(images, weights, window, **options),
    )
    for found, other in zip(every(images, kernel, weights), (expected, *adjoints), strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-4, atol=1e-4)


PICTURES, KERNEL = (2, 8, 8, 4), (3, 3, 4, 6)


@pytest.mark.parametrize(
    ("images", "kernel", "options", "message"),
    [
        ((2, 8), (3, 3), {}, r"images: shape \(2, 8\) came; expected .* with 1 to 3 spatial axes"),
        ((2, 4, 4, 4, 4, 1), (3,) * 6, {}, "with 1 to 3 spatial axes"),
        ((8, 8, 4), KERNEL, {}, r"images of shape \(8, 8, 4\) came with kernel of shape .* needs a batch axis"),
        (PICTURES, (3, 4, 6), {}, r"kernel of shape \(3, 4, 6\); expected one rank"),
        (PICTURES, (3, 3, 5, 6), {}, "5 input channels for each of 1 group.*; images .* need 4"),
        (PICTURES, (3, 3, 1, 6), {}, "1 input channels for each of 1 group.*; images .* need 4"),
        (PICTURES, (3, 3, 2, 5), {"groups": 2}, "groups=2 must divide the 4 input and 5 output channels"),
        (PICTURES, KERNEL, {"groups": 0}, "groups=0 is too small; expected at least 1"),
        (PICTURES, KERNEL, {"strides": 0}, "strides=0 is too small"),
        (PICTURES, KERNEL, {"strides": (1, -2)}, r"strides=\(1, -2\) is too small"),
        (PICTURES, KERNEL, {"strides": (1, 1, 1)}, r"strides=\(1, 1, 1\) has 3 entries; expected one integer or 2"),
        (PICTURES, KERNEL, {"dilation": 0}, "dilation=0 is too small"),
        (PICTURES, KERNEL, {"input_dilation": (-1, 1)}, r"input_dilation=\(-1, 1\) is too small"),
        (PICTURES, KERNEL, {"padding": -1}, "padding=-1 is too small"),
        (
            PICTURES,
            KERNEL,
            {"padding": "same?"},
            "padding='same\\?' is unknown; expected VALID, SAME, SAME_LOWER, FULL",
        ),
        (PICTURES, KERNEL, {"padding": [1]}, r"padding=\[1\] has 1 entries; expected 2"),
        (PICTURES, (0, 3, 4, 6), {}, r"window=\(0, 3\) is too small"),
        ((2, 8, 0, 4), KERNEL, {}, r"spatial axis 1 of \(8, 0\): size=0 is too small"),
        ((2, 2, 8, 4), KERNEL, {"padding": "VALID"}, "window of 3 does not fit an input of 2"),
        (
            PICTURES,
            KERNEL,
            {"padding": "VALID", "dilation": 5},
            "window of 3 .dilated to 11. does not fit an input of 8",
        ),
        (PICTURES, KERNEL, {"strides": 2, "padding": 0, "misfit": "error"}, "stride 2 does not fit"),
    ],
    ids=str,
)
def test_bad_shapes_and_numbers(images, kernel, options, message):
    for function in (correlate, convolve):
        with pytest.raises(ValueError, match=message):
            function(jnp.ones(images), jnp.ones(kernel), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strides": 1.5}, "strides=1.5 is not whole"),
        ({"groups": 2.0}, "groups=2.0 is not whole; expected an integer"),
        ({"groups": (2,)}, r"groups=\(2,\) is not whole; expected an integer"),
        ({"misfit": "ceil"}, "misfit='ceil' is unknown; expected one of floor, error, pad, crop"),
        ({"padding_mode": "mirror"}, "padding_mode='mirror' is unknown; expected zeros, reflect, edge, circular"),
    ],
    ids=str,
)
def test_bad_options(options, message, monkeypatch):
    # Typecheckers are on in the tests, and would speak first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        correlate(jnp.ones(PICTURES), jnp.ones(KERNEL), **options)


@pytest.mark.parametrize("function", [correlate, conv_transpose])
def test_bad_types(function):
    images, kernel = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4, 4))
    message = "images came as float32, kernel as bfloat16; expected one type, so convert one"
    with pytest.raises(ValueError, match=message):
        function(images, kernel.astype(jnp.bfloat16))
    # Typecheckers are on in the tests, and would speak first.
    unchecked = inspect.unwrap(function)
    with pytest.raises(ValueError, match="images: uint8 came, floating point was expected; convert it first"):
        unchecked(images.astype(jnp.uint8), kernel)
    with pytest.raises(ValueError, match="kernel: int32 came, floating point was expected"):
        unchecked(images, kernel.astype(jnp.int32))


@pytest.mark.parametrize(
    ("images", "kernel", "options", "message"),
    [
        ((2, 8), (3, 3), {}, r"images: shape \(2, 8\) came; expected .* with 1 to 3 spatial axes"),
        (PICTURES, (3, 6, 4), {}, "expected one rank"),
        (PICTURES, (3, 3, 4, 6), {}, r"kernel has shape \(3, 3, 4, 6\); expected .*window, .* groups, 4\)"),
        (PICTURES, (3, 3, 6, 4), {"groups": 3}, "groups=3 must divide the 4 input channels"),
        (PICTURES, (3, 3, 6, 4), {"strides": 0}, "strides=0 is too small"),
        (PICTURES, (3, 3, 6, 4), {"output_padding": 1, "padding": 1}, "output_padding=1 is too large"),
        (PICTURES, (3, 3, 6, 4), {"output_padding": 1}, "output_padding=1 came with padding='SAME'"),
        (PICTURES, (3, 3, 6, 4), {"padding": 5}, "padding=5 leaves nothing of the output"),
    ],
    ids=str,
)
def test_bad_transposes(images, kernel, options, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(conv_transpose)(jnp.ones(images), jnp.ones(kernel), **options)
