"""The adjoints by name: sums over taps, the inner products that define them, and `lax`'s own gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax import lax

from cnnjax.functional.adjoints import input_adjoint, kernel_adjoint
from cnnjax.functional.convolution import correlate
from tests.functional import correlation_oracle as oracle
from tests.functional.correlation_oracle import arrays

# Sizes, window, groups, what the functions take, and the padding that it stands for.
CASES = {
    "1-D": ((7,), (3,), 1, {"padding": "SAME"}, [(1, 1)]),
    "strided": ((7, 8), (3, 2), 1, {"strides": (2, 3), "padding": "VALID"}, [(0, 0), (0, 0)]),
    "cropped": ((8, 8), (3, 3), 2, {"strides": 2, "padding": 1, "misfit": "crop"}, [(1, 0), (1, 0)]),
    "cropped_far": (
        (6, 7),
        (1, 2),
        1,
        {"strides": (4, 3), "padding": "VALID", "misfit": "crop", "input_dilation": 2},
        [(0, -2), (0, -2)],
    ),
    "dilated": (
        (5, 6),
        (2, 3),
        2,
        {"dilation": 2, "input_dilation": (2, 1), "padding": [(3, 1), (0, 4)]},
        [(3, 1), (0, 4)],
    ),
    "padded_beyond_the_window": ((4, 5), (1, 2), 1, {"padding": 3}, [(3, 3), (3, 3)]),
    "3-D": ((3, 4, 5), (2, 2, 3), 2, {"padding": "FULL"}, [(1, 1), (1, 1), (2, 2)]),
}


@pytest.mark.parametrize(("sizes", "window", "groups", "options", "padding"), CASES.values(), ids=CASES.keys())
def test_equal_the_sums_written_out(sizes, window, groups, options, padding):
    rank = len(sizes)
    images, kernel = arrays(0, (2, *sizes, 4), (*window, 4 // groups, 6))
    written = {
        name: tuple(int(entry) for entry in np.broadcast_to(options.get(name, 1), rank))
        for name in ("strides", "dilation", "input_dilation")
    } | {"padding": padding, "groups": groups}
    output = oracle.correlate(images, kernel, **written)
    cotangent, kernel_direction, direction = arrays(1, output.shape, kernel.shape, images.shape)
    options = options | {"groups": groups}

    @jax.jit
    def every(images, kernel, cotangent):
        inputs = partial(input_adjoint, sizes=sizes, **options)
        kernels = partial(kernel_adjoint, window=window, **options)
        # Linear in each operand, so that a gradient is another of the three.
        by_inputs = jax.grad(lambda *operands: jnp.vdot(direction, inputs(*operands)), argnums=(0, 1))
        by_kernels = jax.grad(lambda *operands: jnp.vdot(kernel_direction, kernels(*operands)), argnums=(0, 1))
        return (
            inputs(kernel, cotangent),
            kernels(images, cotangent),
            *by_inputs(kernel, cotangent),
            *by_kernels(images, cotangent),
        )

    expected = (
        oracle.input_adjoint(kernel, cotangent, sizes, **written),
        oracle.kernel_adjoint(images, cotangent, window, **written),
        oracle.kernel_adjoint(direction, cotangent, window, **written),
        oracle.correlate(direction, kernel, **written),
        oracle.input_adjoint(kernel_direction, cotangent, sizes, **written),
        oracle.correlate(images, kernel_direction, **written),
    )
    for found, other in zip(every(images, kernel, cotangent), expected, strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-4, atol=1e-4)


def test_inner_products_and_lax_agree_in_float64():
    images, kernel, cotangent = arrays(2, (2, 7, 6, 4), (3, 2, 2, 6), (2, 4, 6, 6))
    options = {"strides": (2, 1), "groups": 2}
    with jax.enable_x64(True):
        operands = [jnp.float64(array) for array in (images, kernel, cotangent)]

        @jax.jit
        def every(images, kernel, cotangent):
            plain = partial(
                lax.conv_general_dilated,
                window_strides=(2, 1),
                padding="SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=2,
            )
            inputs = input_adjoint(kernel, cotangent, (7, 6), **options)
            kernels = kernel_adjoint(images, cotangent, (3, 2), **options)
            products = (
                jnp.vdot(correlate(images, kernel, **options), cotangent),
                jnp.vdot(images, inputs),
                jnp.vdot(kernel, kernels),
            )
            return products, (inputs, kernels), jax.vjp(plain, images, kernel)[1](cotangent)

        products, found, expected = every(*operands)
    np.testing.assert_allclose(products[1:], products[0], rtol=1e-12)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


KERNEL, IMAGES, COTANGENT = jnp.ones((3, 3, 2, 6)), jnp.ones((2, 8, 8, 2)), jnp.ones((2, 8, 8, 6))


@pytest.mark.parametrize(
    ("cotangent", "sizes", "options", "message"),
    [
        (COTANGENT, (8, 7), {}, r"cotangent has shape \(2, 8, 8, 6\); a window of .* stands at \(8, 7\)"),
        (COTANGENT, (8, 8), {"strides": 2}, r"expected \(batch, 4, 4, channels\)"),
        (COTANGENT, (8, 8, 8), {}, r"sizes=\(8, 8, 8\) has 3 entries; expected one integer or 2, one per axis"),
        (COTANGENT, (0, 8), {}, r"sizes=\(0, 8\) is too small"),
        (COTANGENT[..., :5], (8, 8), {}, r"cotangent has shape \(2, 8, 8, 5\); expected 6 channels, since the kernel"),
        (COTANGENT, (8, 8), {"groups": 4}, "groups=4 must divide the 6 output channels"),
        (COTANGENT, (8, 8), {"dilation": 0}, "dilation=0 is too small"),
        (COTANGENT[0], (8,), {}, "cotangent of shape .* came with kernel of shape .*; expected one rank"),
        (COTANGENT[0, 0], (8,), {}, r"cotangent: shape \(8, 6\) came; expected .* with 1 to 3 spatial axes"),
        (COTANGENT.astype(jnp.int32), (8, 8), {}, "cotangent: int32 came, floating point was expected"),
        (COTANGENT.astype(jnp.float16), (8, 8), {}, "cotangent came as float16, kernel as float32; expected one type"),
    ],
)
def test_bad_input_adjoints(cotangent, sizes, options, message, monkeypatch):
    # Typecheckers are on in the tests, and would speak first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        input_adjoint(KERNEL, cotangent, sizes, **options)


@pytest.mark.parametrize(
    ("images", "cotangent", "window", "options", "message"),
    [
        (IMAGES, COTANGENT[:, :7], (3, 3), {}, r"cotangent has shape \(2, 7, 8, 6\); .* stands at \(8, 8\)"),
        (IMAGES, COTANGENT[:1], (3, 3), {}, "that is 1 examples; images of shape .* need 2"),
        (IMAGES, COTANGENT, (3,), {}, r"window=\(3,\) has 1 entries; expected one integer or 2"),
        (IMAGES, COTANGENT, (9, 9), {"padding": "VALID"}, "window of 9 does not fit an input of 8"),
        (IMAGES, COTANGENT, (3, 3), {"groups": 3}, "groups=3 must divide the 2 input and 6 output channels"),
        (IMAGES, COTANGENT[0], (3, 3), {}, "images of shape .* came with cotangent of shape .*; expected one rank"),
        (IMAGES[0, 0], COTANGENT, (3, 3), {}, r"images: shape \(8, 2\) came; expected .* with 1 to 3 spatial axes"),
        (IMAGES.astype(jnp.uint8), COTANGENT, (3, 3), {}, "images: uint8 came, floating point was expected"),
        (IMAGES, COTANGENT.astype(jnp.float16), (3, 3), {}, "images came as float32, cotangent as float16"),
    ],
)
def test_bad_kernel_adjoints(images, cotangent, window, options, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        kernel_adjoint(images, cotangent, window, **options)
