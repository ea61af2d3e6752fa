"""What a CPU runs, for shapes of every kind: against sums over taps in float64 NumPy and `lax`'s own rule."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.functional.correlation import Correlation, reference_product
from cnnjax.functional.cpu import convolutions
from cnnjax.functional.cpu.onednn_call import SWITCH
from cnnjax.functional.cpu.product import cpu_product
from tests.functional import correlation_oracle as oracle
from tests.functional.cpu.forms import FORMS, every_form, expected_products, form_of, products, shapes


@pytest.fixture(params=["1", "0"], ids=["onednn", "xla"], autouse=True)
def calls(request, monkeypatch):
    """Everything with the calls of oneDNN, and without."""
    monkeypatch.setenv(SWITCH, request.param)
    return request.param == "1"


@every_form
def test_equals_the_sums_written_out(form, channels, outputs, batch):
    arrays = oracle.arrays(0, *shapes(form, channels, outputs, batch))
    found = jax.jit(partial(products, cpu_product, form=form))(*arrays)
    magnitudes = expected_products(*map(np.abs, arrays), form)
    for one, other, magnitude in zip(found, expected_products(*arrays, form), magnitudes, strict=True):
        assert one.shape == other.shape
        # An error of rounding is relative to what was added up, not to what is left of it.
        assert (np.abs(one - other) <= 1e-6 * magnitude).all()


@pytest.mark.parametrize("share", [0.3, 2.5])
@pytest.mark.parametrize(
    "name",
    ["more_channels_strided", "volume", "line", "input_dilated_strided", "cropped", "rest_unread", "many_groups"],
)
def test_kernels_in_pieces(name, share, monkeypatch):
    form, channels, outputs, _ = FORMS[name]
    # Seven, which pieces of two or more leave a rest of.
    images, kernel, output = oracle.arrays(4, *shapes(form, channels, outputs, 7))
    # A cache that holds this many examples: bands of one, or pieces of the batch.
    monkeypatch.setattr(
        "cnnjax.functional.cpu.product.XLA_CACHE_BYTES", int(share * (images[0].nbytes + output[0].nbytes))
    )
    # Pieces of few examples are wanted here, to few outputs too.
    monkeypatch.setattr(convolutions, "_FEW_OUTPUTS", 0)
    rule = partial(cpu_product, result="kernel", form=form)
    assert "scan" in str(jax.make_jaxpr(rule)(images, output)) or form.groups > 1
    found = jax.jit(rule)(images, output)
    expected = expected_products(images, kernel, output, form)[2]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("share", [0.3, 2.5])
def test_infinity_stays_where_lax_leaves_it(share, monkeypatch):
    form = form_of((7, 6), (3, 3), 1, (1, 1))
    images, _, output = oracle.arrays(5, *shapes(form, 3, 4, 3))
    images[0, -1, 2, 0] = np.inf
    monkeypatch.setattr(
        "cnnjax.functional.cpu.product.XLA_CACHE_BYTES", int(share * (images[0].nbytes + output[0].nbytes))
    )
    found, expected = (
        jax.jit(partial(rule, result="kernel", form=form))(images, output) for rule in (cpu_product, reference_product)
    )
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))


@pytest.mark.parametrize("name", ["pixel_padded", "depthwise_strided", "grouped", "few_channels", "more_channels"])
def test_equals_lax(name):
    form, channels, outputs, batch = FORMS[name]
    arrays = oracle.arrays(1, *shapes(form, channels, outputs, batch))

    @jax.jit
    def both(*arrays):
        return [products(rule, *arrays, form=form) for rule in (cpu_product, reference_product)]

    for one, other in zip(*both(*arrays), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("form", "channels", "outputs"),
    [
        (form_of((8, 8), (5, 5), 1, (2, 2), groups=4), 4, 4),
        (form_of((8, 8), (5, 5), 1, (2, 2)), 1, 8),
        (form_of((8, 8), (5, 5), 1, (2, 2)), 4, 32),
        (form_of((4, 4), (3, 3), 1, (1, 1)), 64, 64),
    ],
    ids=["depthwise", "one_channel", "few_channels", "many_channels"],
)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_rounded_once(form, channels, outputs, dtype):
    arrays = [jnp.asarray(np.abs(array), dtype) for array in oracle.arrays(2, *shapes(form, channels, outputs, 2))]
    found = jax.jit(partial(products, cpu_product, form=form))(*arrays)
    for one, other in zip(found, expected_products(*arrays, form), strict=True):
        assert one.dtype == dtype
        # Half a unit in the last place, and the rounding of sums in float32.
        np.testing.assert_allclose(np.float64(one), other, rtol=0.51 * float(jnp.finfo(dtype).eps))


@every_form
def test_convolutions_are_in_the_layout_that_is_fast_everywhere(form, channels, outputs, batch):
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes(form, channels, outputs, batch)]
    text = jax.jit(partial(products, cpu_product, form=form)).lower(*arrays).as_text()
    axes = ", ".join(map(str, range(len(form.sizes))))
    layouts = set(re.findall(r"stablehlo\.convolution.* dim_numbers = (\S.*?\]->\[.*?\])", text))
    assert layouts <= {f"[b, {axes}, f]x[{axes}, i, o]->[b, {axes}, f]"}
    assert set(re.findall(r"batch_group_count = (\d+)", text)) <= {"1"}


@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (4, 2), (4, 4), (64, 1)])
def test_no_examples(channels, groups):
    form = form_of((4, 4), (3, 3), 1, (1, 1), groups=groups)
    arrays = [jnp.ones(shape) for shape in shapes(form, channels, 64, 0)]
    outputs, images, kernel = products(cpu_product, *arrays, form=form)
    assert outputs.shape == (0, 4, 4, 64)
    assert images.shape == (0, 4, 4, channels)
    np.testing.assert_array_equal(kernel, np.zeros((3, 3, channels // groups, 64)))


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_equals_the_sums_for_any_form(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    axes = []
    for _ in range(draw(1, 3)):
        size, window, stride, spread, dilation, before = (draw(1, high) for high in (6, 3, 4, 3, 2, 4))
        # From the fewest elements that hold the window on; a negative number crops.
        after = oracle.extent(window, dilation) - oracle.extent(size, spread) - before + draw(0, 6)
        axes.append((size, window, stride, (before, max(after, 1 - stride)), spread, dilation))
    sizes, window, strides, padding, spread, dilation = zip(*axes, strict=True)
    groups = draw(1, 3)
    form = Correlation(sizes, window, strides, padding, spread, dilation, groups)
    arrays = oracle.arrays(3, *shapes(form, groups * draw(1, 3), groups * draw(1, 3), 2))
    found = jax.jit(partial(products, cpu_product, form=form))(*arrays)
    for one, other in zip(found, expected_products(*arrays, form), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
