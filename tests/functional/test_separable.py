"""Sparse correlations against scipy.signal channel by channel, einsum, and one dense correlation of `lax`."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from jax import lax

from cnnjax.functional.separable import depthwise_conv, pointwise_conv, separable_conv
from tests.functional import correlation_oracle as oracle
from tests.functional.correlation_oracle import arrays


@pytest.mark.parametrize("sizes", [(9,), (7, 8), (4, 5, 6)], ids=["1-D", "2-D", "3-D"])
def test_depthwise_filters_each_channel_alone(sizes):
    images, kernel = arrays(0, (2, *sizes, 3), (*(3,) * len(sizes), 1, 6))
    result = np.asarray(jax.jit(depthwise_conv)(images, kernel))
    assert result.shape == (2, *sizes, 6)
    # Outputs 2 c and 2 c + 1 come from channel c.
    for example, channel in np.ndindex(2, 6):
        expected = scipy.signal.correlate(images[example, ..., channel // 2], kernel[..., 0, channel], mode="same")
        np.testing.assert_allclose(result[example, ..., channel], expected, rtol=1e-5, atol=1e-5)


def test_depthwise_options_and_gradients():
    images, kernel = arrays(1, (2, 9, 8, 3), (3, 2, 1, 6))
    options = {"strides": (2, 3), "dilation": (1, 2)}
    written = options | {"groups": 3, "padding": [(1, 2), (1, 0)]}
    expected = oracle.correlate(images, kernel, **written)
    (weights,) = arrays(2, expected.shape)

    @jax.jit
    def every(images, kernel, weights):
        # One more zero, so that the last window fits.
        result, vjp = jax.vjp(
            lambda *operands: depthwise_conv(*operands, padding=[(1, 1), (1, 0)], misfit="pad", **options),
            images,
            kernel,
        )
        return result, vjp(weights)

    result, (inputs, kernels) = every(images, kernel, weights)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    adjoint = oracle.input_adjoint(kernel, weights, (9, 8), **written)
    np.testing.assert_allclose(inputs, adjoint, rtol=1e-5, atol=1e-5)
    adjoint = oracle.kernel_adjoint(images, weights, (3, 2), **written)
    np.testing.assert_allclose(kernels, adjoint, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("sizes", "strides"), [((6,), 1), ((5, 6), (2, 3)), ((3, 4, 5), 2)], ids=["1-D", "2-D", "3-D"])
def test_pointwise_mixes_channels(sizes, strides):
    images, kernel, weights = arrays(3, (2, *sizes, 3), (3, 4), (4,))
    steps = np.broadcast_to(strides, len(sizes))
    seen = images[:, *(slice(None, None, step) for step in steps)].astype(np.float64)

    @jax.jit
    def every(images, kernel):
        result, vjp = jax.vjp(lambda *operands: pointwise_conv(*operands, strides=strides), images, kernel)
        return result, vjp(jnp.broadcast_to(jnp.asarray(weights), result.shape))

    result, (inputs, kernels) = every(images, kernel)
    np.testing.assert_allclose(result, seen @ kernel, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(kernels, np.outer(seen.sum(tuple(range(seen.ndim - 1))), weights), rtol=1e-4, atol=1e-4)
    expected = np.zeros(images.shape)
    expected[:, *(slice(None, None, step) for step in steps)] = kernel @ weights
    np.testing.assert_allclose(inputs, expected, rtol=1e-5, atol=1e-5)


# What `correlate` calls it, NumPy and SciPy.
MODES = [("zeros", "constant", "constant"), ("reflect", "reflect", "mirror"), ("edge", "edge", "nearest")]
MODES += [("circular", "wrap", "grid-wrap")]


@pytest.mark.parametrize(("mode", "_", "scipy_mode"), MODES, ids=[mode for mode, *_ in MODES])
def test_depthwise_padding_modes_are_scipys(mode, _, scipy_mode):
    images, kernel = arrays(5, (2, 7, 6, 3), (3, 5, 1, 6))
    result = np.asarray(depthwise_conv(jnp.asarray(images), jnp.asarray(kernel), padding_mode=mode))
    for example, channel in np.ndindex(2, 6):
        expected = scipy.ndimage.correlate(images[example, ..., channel // 2], kernel[..., 0, channel], mode=scipy_mode)
        np.testing.assert_allclose(result[example, ..., channel], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("mode", "numpy_mode", "_"), MODES, ids=[mode for mode, *_ in MODES])
def test_separable_padding_modes_are_numpys(mode, numpy_mode, _):
    images, spatial, mixing = arrays(6, (2, 7, 6, 3), (3, 2, 1, 6), (6, 4))
    padding = [(2, 1), (0, 3)]
    padded = np.pad(images, [(0, 0), *padding, (0, 0)], mode=numpy_mode)
    middle = oracle.correlate(padded, spatial, padding=[(0, 0), (0, 0)], strides=(2, 2), groups=3)
    result = separable_conv(*map(jnp.asarray, (images, spatial, mixing)), strides=2, padding=padding, padding_mode=mode)
    np.testing.assert_allclose(result, middle @ mixing, rtol=1e-4, atol=1e-4)


def test_separable_is_one_dense_correlation():
    images, spatial, mixing = arrays(4, (2, 7, 8, 3), (3, 3, 1, 6), (6, 4))
    # Middle channel m belongs to input channel m // 2.
    dense = np.einsum("hwcm,cmk->hwck", spatial.reshape(3, 3, 3, 2), mixing.reshape(3, 2, 4))

    def plain(images, dense):
        return lax.conv_general_dilated(
            images, dense, (2, 2), [(2, 2), (2, 1)], rhs_dilation=(2, 2), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def ours(images, spatial, mixing):
        return separable_conv(images, spatial, mixing, strides=2, padding=2, dilation=2, misfit="crop")

    result, expected = jax.jit(lambda *operands: (ours(*operands[:3]), plain(operands[0], operands[3])))(
        images, spatial, mixing, dense
    )
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_precision_reaches_both():
    images, spatial, mixing = (jnp.ones(shape) for shape in ((1, 4, 4, 2), (3, 3, 1, 2), (2, 3)))
    text = str(
        jax.make_jaxpr(lambda *operands: separable_conv(*operands, precision="highest"))(images, spatial, mixing)
    )
    assert text.count("precision='highest'") == 2


IMAGES = jnp.ones((2, 6, 6, 4))


@pytest.mark.parametrize(
    ("function", "kernels", "message"),
    [
        (depthwise_conv, [(3, 3, 2, 8)], r"^kernel has shape \(3, 3, 2, 8\); expected \(\*window, 1, a multiple of 4"),
        (depthwise_conv, [(3, 3, 1, 6)], r"^kernel has shape \(3, 3, 1, 6\); expected .* a multiple of 4"),
        (depthwise_conv, [(3, 3, 4, 1)], r"^kernel has shape \(3, 3, 4, 1\); expected .* a multiple of 4"),
        (depthwise_conv, [(3, 1, 4)], "expected .* with 2 spatial axes"),
        (depthwise_conv, [(9, 3, 1, 4)], "window of 9 does not fit an input of 6"),
        (pointwise_conv, [(1, 1, 4, 3)], r"^kernel has shape \(1, 1, 4, 3\); expected \(4, out_channels\)"),
        (pointwise_conv, [(3, 4)], r"^kernel has shape \(3, 4\); expected \(4, out_channels\)"),
        (separable_conv, [(3, 3, 2, 8), (8, 5)], r"^depthwise_kernel has shape \(3, 3, 2, 8\)"),
        (separable_conv, [(3, 3, 1, 8), (4, 5)], r"^pointwise_kernel has shape \(4, 5\); expected \(8, out"),
        (separable_conv, [(3, 3, 1, 8), (1, 1, 8, 5)], r"^pointwise_kernel has shape \(1, 1, 8, 5\); expected \(8"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_bad_shapes(function, kernels, message, monkeypatch):
    # Typecheckers are on in the tests, and would speak first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    options = {} if function is pointwise_conv else {"padding": "VALID"}
    with pytest.raises(ValueError, match=message):
        function(IMAGES, *map(jnp.ones, kernels), **options)


@pytest.mark.parametrize("function", [depthwise_conv, separable_conv])
def test_bad_padding_mode(function, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    kernels = [(3, 3, 1, 4), (4, 5)][: 1 + (function is separable_conv)]
    with pytest.raises(ValueError, match="padding_mode='mirror' is unknown; expected zeros, reflect, edge, circular"):
        function(IMAGES, *map(jnp.ones, kernels), padding_mode="mirror")


@pytest.mark.parametrize("function", [depthwise_conv, pointwise_conv, separable_conv])
def test_bad_images(function, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    kernels = {depthwise_conv: [(3, 3, 1, 4)], pointwise_conv: [(4, 5)], separable_conv: [(3, 3, 1, 4), (4, 5)]}[
        function
    ]
    operands = [jnp.ones(shape) for shape in kernels]
    with pytest.raises(ValueError, match="with 1 to 3 spatial axes"):
        function(jnp.ones((2, 4)), *operands)
    with pytest.raises(ValueError, match="images: uint8 came, floating point was expected"):
        function(IMAGES.astype(jnp.uint8), *operands)
    with pytest.raises(ValueError, match="kernel as float16; expected one type"):
        function(IMAGES, *(operand.astype(jnp.float16) for operand in operands))
    with pytest.raises(ValueError, match="strides=0 is too small"):
        function(IMAGES, *operands, strides=0)
