"""The form of a correlation against windows counted one by one, and its shapes against arrays."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnjax.functional.correlation import Correlation, lax_correlation, reference_product, result_shape

small = st.integers(1, 4)


@given(st.integers(1, 9), small, small, st.integers(0, 3), st.integers(0, 3), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_positions_are_the_windows_that_fit(size, window, stride, before, after, spread, dilation):
    form = Correlation((size,), (window,), (stride,), ((before, after),), (spread,), (dilation,), 1)
    length = before + len(range((size - 1) * spread + 1)) + after
    reach = max(range(0, window * dilation, dilation))
    assume(reach < length)
    assert form.positions == (len([start for start in range(0, length, stride) if start + reach < length]),)


def test_layout_is_channels_last():
    def form(rank):
        return Correlation(*((1,) * rank,) * 3, ((0, 0),) * rank, *((1,) * rank,) * 2, 1)

    assert [form(rank).layout for rank in (1, 2, 3)] == [
        ("NWC", "WIO", "NWC"),
        ("NHWC", "HWIO", "NHWC"),
        ("NDHWC", "DHWIO", "NDHWC"),
    ]


@pytest.mark.parametrize(
    ("result", "first", "second", "expected"),
    [
        ("output", (2, 7, 6), (3, 3, 4), (2, 3, 4)),
        ("images", (3, 3, 4), (2, 3, 4), (2, 7, 6)),
        ("kernel", (2, 7, 6), (2, 3, 4), (3, 3, 4)),
    ],
)
def test_shapes_of_the_three_products(result, first, second, expected):
    form = Correlation((7,), (3,), (2,), ((0, 0),), (1,), (1,), 2)
    one, other = jnp.ones(first), jnp.ones(second)
    assert result_shape(result, one, other, form) == expected
    assert reference_product(one, other, result=result, form=form).shape == expected


def test_lax_computes_the_sum_of_the_definition():
    generator = np.random.default_rng(0)
    images, kernel = generator.normal(size=(1, 5, 2)), generator.normal(size=(2, 2, 3))
    form = Correlation((5,), (2,), (2,), ((1, 0),), (1,), (2,), 1)
    padded = np.pad(images, ((0, 0), (1, 0), (0, 0)))
    expected = [
        sum(padded[0, 2 * place + 2 * tap] @ kernel[tap] for tap in range(2)) for place in range(*form.positions)
    ]
    found = lax_correlation(jnp.asarray(images, jnp.float32), jnp.asarray(kernel, jnp.float32), form)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)
