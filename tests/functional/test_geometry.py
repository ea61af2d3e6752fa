"""Window arithmetic against counting by hand and against what `lax` does."""

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from cnnjax.functional.geometry import Window, output_size, per_axis, slide, slide_all


@pytest.fixture
def unchecked(monkeypatch):
    """Without the typecheckers, which are on in the tests only and would speak first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def count_positions(size, window, stride, before, after, dilation):
    """Positions counted one by one, with no formula."""
    extent = dilation * (window - 1) + 1
    padded = size + before + after
    return sum(1 for start in range(0, padded, stride) if start + extent <= padded)


axis = st.fixed_dictionaries(
    {
        "size": st.integers(1, 40),
        "window": st.integers(1, 7),
        "stride": st.integers(1, 5),
        "dilation": st.integers(1, 4),
        "before": st.integers(0, 4),
        "after": st.integers(0, 4),
    }
)


@given(axis)
def test_explicit_padding_counts_positions(axis):
    expected = count_positions(**axis)
    options = {"stride": axis["stride"], "padding": (axis["before"], axis["after"]), "dilation": axis["dilation"]}
    if expected == 0:
        with pytest.raises(ValueError, match="does not fit"):
            slide(axis["size"], axis["window"], **options)
    else:
        assert slide(axis["size"], axis["window"], **options) == Window(expected, axis["before"], axis["after"])


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 5))
def test_same_pads_as_lax_does(size, window, stride):
    ((before, after),) = lax.padtype_to_pads((size,), (window,), (stride,), "SAME")
    assert slide(size, window, stride=stride, padding="SAME") == Window(-(-size // stride), before, after)


@given(axis)
def test_misfit_pads_up_crops_down_or_raises(axis):
    padding = (axis["before"], axis["after"])
    options = {"stride": axis["stride"], "padding": padding, "dilation": axis["dilation"]}
    extent = axis["dilation"] * (axis["window"] - 1) + 1
    span = axis["size"] + sum(padding) - extent
    if span < 0:
        return
    floor = slide(axis["size"], axis["window"], **options)
    pad = slide(axis["size"], axis["window"], misfit="pad", **options)
    crop = slide(axis["size"], axis["window"], misfit="crop", **options)
    fits = span % axis["stride"] == 0
    assert pad.output == floor.output + (not fits)
    assert crop.output == floor.output
    for placed in (pad, crop):
        # Nothing is left over.
        assert (axis["size"] + placed.before + placed.after - extent) == (placed.output - 1) * axis["stride"]
    if fits:
        assert slide(axis["size"], axis["window"], misfit="error", **options) == floor
    else:
        with pytest.raises(ValueError, match=r"stride .* does not fit"):
            slide(axis["size"], axis["window"], misfit="error", **options)


def test_known_sizes():
    # AlexNet's first layer, LeNet-5's layers, and CS231n's example whose stride does not fit.
    assert output_size(227, 11, strides=4) == 55
    assert [output_size(32, 5), output_size(28, 2, strides=2), output_size(14, 5)] == [28, 14, 10]
    with pytest.raises(ValueError, match="is not whole"):
        output_size(10, 3, strides=2, misfit="error")
    assert output_size((5, 7, 9), (1, 3, 5), strides=(1, 2, 3), padding="VALID") == (5, 3, 2)
    assert output_size(5, 3, padding="FULL") == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((4, 4), (5, 5), {}), r"spatial axis 0 of \(4, 4\): a window of 5 does not fit an input of 4"),
        (((8,), (3,), {"dilation": 4}), "dilated to 9"),
        (((8,), (3,), {"padding": "SAMEISH"}), "padding='SAMEISH' is unknown; expected VALID, SAME, FULL"),
        (((8,), (3,), {"padding": -1}), "padding=-1 is too small; every entry must be at least 0"),
        (((8, 8), (3, 3), {"padding": (1, 2, 3)}), "3 entries; expected 2"),
        (((8, 8), (3, 3), {"strides": (1, 2, 3)}), "strides=.* has 3 entries"),
        (((8,), (3,), {"strides": 0}), "strides=0 is too small"),
        (((8,), (3,), {"dilation": 0}), "dilation=0 is too small"),
        (((8,), (0,), {}), r"window=\(0,\) is too small"),
    ],
)
def test_bad_input(arguments, message):
    sizes, window, options = arguments
    with pytest.raises(ValueError, match=message):
        slide_all(sizes, window, **options)


def test_per_axis_spreads_one_integer():
    assert per_axis(3, 2, "strides") == (3, 3)
    assert per_axis((1, 2), 2, "strides") == (1, 2)


@pytest.mark.parametrize(
    ("window", "options", "message"),
    [
        (2, {"stride": 0}, "stride=0 is too small"),
        (-2, {}, "window=-2 is too small"),
        (2, {"stride": 1.5}, "stride=1.5 is not whole"),
        (2, {"padding": None}, "padding=None"),
        (2, {"padding": (1, 2, 3)}, r"padding=\(1, 2, 3\) has 3 entries"),
        (2, {"misfit": "ceil"}, "misfit='ceil' is unknown"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_numbers_along_one_axis(window, options, message):
    with pytest.raises(ValueError, match=message):
        slide(5, window, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": None}, "padding=None"),
        ({"padding": [(1, 2, 3)]}, r"padding=\(1, 2, 3\) has 3 entries"),
        ({"strides": 1.5}, "strides=1.5 is not whole"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_numbers_of_all_axes(options, message):
    with pytest.raises(ValueError, match=message):
        slide_all((5,), (2,), **options)


@pytest.mark.usefixtures("unchecked")
def test_numpy_integers_are_integers():
    one, two, three = np.int64(1), np.int64(2), np.int64(3)
    # By hand: (9 + 1 + 2 - (2 * 2 + 1)) // 2 + 1 = 4.
    assert slide(np.int64(9), three, stride=two, padding=(one, two), dilation=two) == (4, 1, 2)
    assert slide_all((np.int64(9),), (three,), strides=two, padding=one) == ((5, 1, 1),)
    assert output_size(9, (three,), strides=[two]) == 4


@pytest.mark.usefixtures("unchecked")
def test_a_numpy_integer_is_a_size():
    assert output_size(np.int64(9), 3, strides=2) == 4
