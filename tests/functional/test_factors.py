"""The form that operands agree on, by hand and by its sizes; what is refused where no function's own test shows it."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.functional.correlation import Correlation
from cnnjax.functional.factors import (
    check_alike,
    check_groups,
    check_images,
    check_positions,
    place,
    precision_in_force,
)

DEFAULTS = {
    "strides": 1,
    "padding": "SAME",
    "input_dilation": 1,
    "dilation": 1,
    "groups": 1,
    "misfit": "floor",
    "precision": None,
}


def test_place_writes_one_entry_per_axis():
    options = {"strides": 2, "padding": [(1, 2), 0], "dilation": (1, 3), "groups": 4, "precision": "high"}
    assert place([8, 9], (3, 2), **DEFAULTS | options) == Correlation(
        sizes=(8, 9),
        window=(3, 2),
        strides=(2, 2),
        padding=((1, 2), (0, 0)),
        input_dilation=(1, 1),
        dilation=(1, 3),
        groups=4,
        precision="high",
    )
    # The last window of three would end one pixel beyond the eight, or the last pixel goes.
    (kept,), (added,), (gone,) = (
        place([8], (3,), **DEFAULTS | {"strides": 2, "padding": "VALID", "misfit": misfit}).padding
        for misfit in ("floor", "pad", "crop")
    )
    assert (kept, added, gone) == ((0, 0), (0, 1), (0, -1))


@given(st.data())
def test_positions_are_where_a_window_fits(data):
    size, window, stride, spread, dilation, before, after = (
        data.draw(st.integers(*bounds)) for bounds in ((1, 9), (1, 4), (1, 4), (1, 3), (1, 3), (0, 12), (0, 12))
    )
    options = {"strides": stride, "padding": [(before, after)], "input_dilation": spread, "dilation": dilation}
    occupied = np.arange(-before, spread * (size - 1) + 1 + after)
    reach = dilation * (window - 1)
    fits = [start for start in occupied[::stride] if start + reach <= occupied[-1]]
    if fits:
        assert place([size], [window], **DEFAULTS | options).positions == (len(fits),)
    else:
        with pytest.raises(ValueError, match="does not fit an input"):
            place([size], [window], **DEFAULTS | options)


@pytest.mark.parametrize(("rank", "layout"), [(1, "NWC WIO NWC"), (2, "NHWC HWIO NHWC"), (3, "NDHWC DHWIO NDHWC")])
def test_layout_is_channels_last(rank, layout):
    assert " ".join(place((4,) * rank, (3,) * rank, **DEFAULTS).layout) == layout


def test_precision_is_that_around_the_call():
    assert precision_in_force(None) is None
    with jax.default_matmul_precision("highest"):
        assert precision_in_force(None) == "highest"
        assert precision_in_force(jax.lax.Precision.HIGH) == jax.lax.Precision.HIGH
        assert place((4,), (3,), **DEFAULTS).precision == "highest"


def test_what_fits_is_let_through():
    check_images("images", jnp.ones((1, 2, 3, 4, 5)))
    check_alike("images", jnp.ones((1, 2), jnp.bfloat16), "kernel", jnp.ones((3, 4), jnp.bfloat16))
    check_groups(3, {"input": 6, "output": 9})
    check_positions(jnp.ones((7, 4, 5)), place((4,), (3,), **DEFAULTS))


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        (check_images, ("pixels", jnp.ones((2, 3))), r"pixels: shape \(2, 3\) came; expected .* 1 to 3 spatial axes"),
        (
            check_alike,
            ("one", jnp.ones((1, 2)), "other", jnp.ones((1, 2, 3))),
            r"one of shape \(1, 2\) came with other of shape \(1, 2, 3\); expected one rank",
        ),
        (
            check_alike,
            ("one", jnp.ones(2), "other", jnp.ones(2, jnp.bfloat16)),
            "one came as float32, other as bfloat16; expected one type, so convert one",
        ),
        (check_alike, ("one", jnp.ones(2, bool), "other", jnp.ones(2)), "one: bool came, floating point was expected"),
        (
            check_alike,
            ("one", jnp.ones(2), "other", jnp.ones(2, int)),
            "other: int32 came, floating point was expected",
        ),
        (check_groups, (2, {"input": 4, "output": 5}), "groups=2 must divide the 4 input and 5 output channels"),
        (check_groups, (-1, {"input": 4}), "groups=-1 is too small; expected at least 1"),
        (check_groups, (1.0, {"input": 4}), "groups=1.0 is not whole"),
        (
            check_positions,
            (jnp.ones((7, 5, 2)), place((4,), (3,), **DEFAULTS)),
            r"cotangent has shape \(7, 5, 2\); a window of \(3,\) over \(4,\) stands at \(4,\), so expected \(batch,",
        ),
    ],
)
def test_what_does_not_fit(check, arguments, message, monkeypatch):
    # Typecheckers are on in the tests, and would speak first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        check(*arguments)


def test_precision_of_two_entries():
    assert precision_in_force(("high", "high")) == ("high", "high")
    with pytest.raises(ValueError, match=r"expected one for both operands, which derivatives exchange"):
        precision_in_force(("high", "default"))
