"""Window arithmetic against counting by hand, against the closed formulas of the guide, and against what `lax` does."""

import jax
import jaxtyping
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jax import lax

from cnnjax.functional.geometry import (
    Window,
    dilated_size,
    output_size,
    per_axis,
    slide,
    slide_all,
    slide_all_transposed,
    slide_transposed,
    transposed_size,
    whole,
)


@pytest.fixture
def unchecked(monkeypatch):
    """Without the typecheckers, which are on in the tests only and would speak first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def spread(size, dilation):
    """Which cells of a dilated axis hold an element, laid out one by one."""
    cells = [True]
    for _ in range(size - 1):
        cells += [False] * (dilation - 1) + [True]
    return cells


def count_positions(size, window, stride, before, after, dilation, input_dilation=1):
    """Positions counted one by one, with no formula."""
    extent = len(spread(window, dilation))
    padded = before + len(spread(size, input_dilation)) + after
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
sizes = st.integers(1, 40)
windows = st.integers(1, 9)
strides = st.integers(1, 5)
dilations = st.integers(1, 4)
paddings = st.integers(0, 6)


@given(axis)
def test_explicit_padding_counts_positions(axis):
    expected = count_positions(**axis)
    options = {"stride": axis["stride"], "padding": (axis["before"], axis["after"]), "dilation": axis["dilation"]}
    if expected == 0:
        with pytest.raises(ValueError, match="does not fit"):
            slide(axis["size"], axis["window"], **options)
    else:
        assert slide(axis["size"], axis["window"], **options) == Window(expected, axis["before"], axis["after"])


@given(axis, dilations)
def test_dilated_input_counts_positions(axis, input_dilation):
    expected = count_positions(**axis, input_dilation=input_dilation)
    options = {
        "stride": axis["stride"],
        "padding": (axis["before"], axis["after"]),
        "dilation": axis["dilation"],
        "input_dilation": input_dilation,
    }
    if expected:
        placed = slide(axis["size"], axis["window"], **options)
        assert placed == Window(expected, axis["before"], axis["after"])
        return
    with pytest.raises(ValueError, match="does not fit") as raised:
        slide(axis["size"], axis["window"], **options)
    # The size that the message asks for is the first that fits.
    needed = int(str(raised.value).split()[-1])
    assert count_positions(**axis | {"size": needed}, input_dilation=input_dilation) > 0
    assert needed == 1 or count_positions(**axis | {"size": needed - 1}, input_dilation=input_dilation) == 0


@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER"])
@given(size=sizes, window=windows, stride=strides, dilation=dilations, input_dilation=dilations)
def test_same_pads_as_lax_does(padding, size, window, stride, dilation, input_dilation):
    cells = len(spread(size, input_dilation))
    ((before, after),) = lax.padtype_to_pads((cells,), (len(spread(window, dilation)),), (stride,), padding)
    placed = slide(size, window, stride=stride, padding=padding, dilation=dilation, input_dilation=input_dilation)
    assert placed == Window(-(-cells // stride), before, after)


def test_the_odd_element_goes_after_or_before():
    # Two elements are read by a window of 4 at stride 1: ceil(3 / 2) on one side, floor(3 / 2) on the other.
    assert slide(5, 4, padding="SAME") == (5, 1, 2)
    assert slide(5, 4, padding="same_lower") == (5, 2, 1)


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
        (((8,), (3,), {"padding": "SAMEISH"}), "padding='SAMEISH' is unknown; expected VALID, SAME, SAME_LOWER, FULL"),
        (((4,), (8,), {"input_dilation": 2}), r"window of 8 does not fit an input of 4 \(dilated to 7\);.* at least 5"),
        (((8,), (3,), {"input_dilation": 0}), "input_dilation=0 is too small"),
        (((8, 8), 3, {"input_dilation": (1, 2, 3)}), "input_dilation=.* has 3 entries; expected one integer or 2"),
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
        (2, {"stride": True}, "stride=True is not whole"),
        (2, {"padding": None}, "padding=None"),
        (2, {"padding": (1, 2, 3)}, r"padding=\(1, 2, 3\) has 3 entries; expected one integer or 2, one per side"),
        ([2], {}, r"window=\[2\] is not whole; expected an integer of at least 1"),
        (2, {"dilation": -1}, "dilation=-1 is too small; expected at least 1"),
        (2, {"input_dilation": 0.5}, "input_dilation=0.5 is not whole"),
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
    # An int8 would wrap around at 128.
    assert type(whole(np.int8(100), "size")) is int
    assert transposed_size(np.int8(100), np.int8(3), strides=np.int8(2)) == 201


def test_integers_of_any_size():
    assert output_size(10**30, 3, strides=7) == (10**30 - 3) // 7 + 1
    assert transposed_size(10**30, 3, strides=7) == 7 * 10**30 - 4


@pytest.mark.parametrize(
    ("size", "dilation", "message"),
    [(0, 1, "size=0 is too small"), (3, 0, "dilation=0 is too small"), (1.5, 1, "size=1.5 is not whole")],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_dilated_size(size, dilation, message):
    with pytest.raises(ValueError, match=message):
        dilated_size(size, dilation)


@given(sizes, windows, strides, dilations, paddings, paddings, paddings)
def test_transposed_size_is_what_the_scattered_windows_cover(size, window, stride, dilation, before, after, more):
    assume(more < max(stride, dilation))
    covered = {start * stride + tap for start in range(size) for tap in range(len(spread(window, dilation)))}
    expected = max(covered) + 1 - before - after + more
    assume(expected >= 1)
    options = {"dilation": dilation, "output_padding": more}
    placed = slide_transposed(size, window, stride=stride, padding=(before, after), **options)
    assert placed == Window(expected, before, after - more)
    assert transposed_size(size, window, strides=stride, padding=[(before, after)], **options) == expected


@given(sizes, windows, strides, dilations, paddings, paddings, paddings)
def test_the_forward_window_leads_back(size, window, stride, dilation, before, after, more):
    assume(more < stride)
    assume((size - 1) * stride + len(spread(window, dilation)) - before - after + more >= 1)
    padding = (before, after)
    placed = slide_transposed(size, window, stride=stride, padding=padding, dilation=dilation, output_padding=more)
    for misfit, trailing in (("floor", after), ("crop", after - more)):
        forward = slide(placed.output, window, stride=stride, padding=padding, dilation=dilation, misfit=misfit)
        assert forward == Window(size, before, trailing)


@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER"])
@given(size=sizes, window=windows, stride=strides, dilation=dilations)
def test_same_transposed_is_the_size_that_same_shrinks(padding, size, window, stride, dilation):
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    assert transposed_size(size, window, strides=stride, padding=padding, dilation=dilation) == size * stride
    placed = slide_transposed(size, window, **options)
    assert slide(size * stride, window, misfit="crop", **options) == Window(size, placed.before, placed.after)
    assert slide(size * stride, window, misfit="floor", **options).output == size


@given(sizes, windows, strides, dilations)
def test_full_transposed(size, window, stride, dilation):
    reach = dilation * (window - 1)
    expected = (size - 1) * stride + 1 - reach
    if expected < 1:
        with pytest.raises(ValueError, match="expected at least 1, so pad less"):
            slide_transposed(size, window, stride=stride, padding="FULL", dilation=dilation)
    else:
        placed = slide_transposed(size, window, stride=stride, padding="FULL", dilation=dilation)
        assert placed == Window(expected, reach, reach)


@pytest.mark.parametrize(
    ("size", "window", "options"),
    [
        (3, 3, {}),
        (3, 3, {"stride": 2, "padding": (1, 0), "output_padding": 1}),
        (4, 2, {"stride": 3, "padding": 0, "output_padding": 2}),
        (3, 3, {"stride": 1, "padding": 1, "dilation": 3, "output_padding": 2}),
        (6, 3, {"padding": "FULL"}),
        (3, 3, {"stride": 2, "padding": "SAME"}),
        (3, 4, {"padding": "SAME"}),
        (3, 4, {"padding": "SAME_LOWER"}),
        (3, 2, {"stride": 2, "padding": "SAME", "dilation": 2}),
        (3, 2, {"stride": 4, "padding": "SAME"}),
    ],
    ids=str,
)
def test_the_placed_window_gives_the_adjoint(size, window, options):
    stride, dilation = options.get("stride", 1), options.get("dilation", 1)
    placed = slide_transposed(size, window, **options)
    generator = np.random.default_rng(0)
    kernel = generator.normal(size=(window, 2, 3)).astype(np.float32)
    cotangent = generator.normal(size=(1, size, 3)).astype(np.float32)
    layout = ("NWC", "WIO", "NWC")

    def forward(image):
        padding = [(placed.before, placed.after)]
        return lax.conv_general_dilated(
            image, kernel, (stride,), padding, rhs_dilation=(dilation,), dimension_numbers=layout
        )

    image = np.zeros((1, placed.output, 2), np.float32)
    assert forward(image).shape == cotangent.shape
    (expected,) = jax.linear_transpose(forward, image)(cotangent)
    reach = dilation * (window - 1)
    result = lax.conv_general_dilated(
        cotangent,
        kernel[::-1].swapaxes(1, 2),
        (1,),
        [(reach - placed.before, reach - placed.after)],
        lhs_dilation=(stride,),
        rhs_dilation=(dilation,),
        dimension_numbers=layout,
    )
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    if options.get("padding", "VALID") in ("SAME", "VALID"):
        named = lax.conv_transpose(
            cotangent,
            kernel,
            (stride,),
            options.get("padding", "VALID"),
            rhs_dilation=(dilation,),
            dimension_numbers=layout,
            transpose_kernel=True,
        )
        np.testing.assert_allclose(named, expected, rtol=1e-5, atol=1e-6)


def test_known_transposed_sizes():
    # PyTorch's two examples of ConvTranspose2d, and the generator of DCGAN.
    assert transposed_size((50, 100), (3, 5), strides=(2, 1), padding=(4, 2)) == (93, 100)
    assert output_size((12, 12), 3, strides=2, padding=1) == (6, 6)
    assert transposed_size((6, 6), 3, strides=2, padding=1, output_padding=1) == (12, 12)
    sizes = [transposed_size(1, 4)]
    for _ in range(4):
        sizes.append(transposed_size(sizes[-1], 4, strides=2, padding=1))
    assert sizes == [4, 8, 16, 32, 64]
    assert transposed_size((2, 3, 4), (1, 2, 3), strides=(3, 2, 1), padding="SAME") == (6, 6, 4)
    assert slide_all_transposed((2, 3), 3, strides=2, padding=[(1, 0), 1], output_padding=(0, 1)) == (
        (4, 1, 0),
        (6, 1, 0),
    )


@pytest.mark.parametrize(
    ("size", "window", "options", "message"),
    [
        ((3, 3), 3, {"output_padding": (0, 1)}, r"spatial axis 1 of \(3, 3\): output_padding=1 is too large"),
        (3, 3, {"strides": 2, "output_padding": 2}, r"must be smaller than either stride \(2\) or dilation \(1\)"),
        (3, 3, {"dilation": 2, "output_padding": 2}, r"must be smaller than either stride \(1\) or dilation \(2\)"),
        (3, 3, {"strides": 2, "padding": "same", "output_padding": 1}, "output_padding=1 came with padding='same'"),
        (3, 3, {"strides": 2, "output_padding": -1}, "output_padding=-1 is too small; every entry must be at least 0"),
        (
            (3, 3),
            3,
            {"output_padding": (0, 0, 0)},
            r"output_padding=\(0, 0, 0\) has 3 entries; expected one integer or 2",
        ),
        (3, 1, {"padding": 2}, r"\(3 - 1\) \* 1 \+ 1 - 2 - 2 = -1; expected at least 1, so pad less"),
        (3, 3, {"padding": "CAUSAL"}, "padding='CAUSAL' is unknown"),
        ((3, 3), 3, {"padding": (1, 1, 1)}, "3 entries; expected 2, one per axis"),
        (0, 3, {}, "size=0 is too small"),
        (3, 0, {}, "window=0 is too small"),
        (3, 3, {"strides": 0}, "strides=0 is too small"),
        (3, 3, {"dilation": 0}, "dilation=0 is too small"),
    ],
)
def test_bad_input_of_the_transpose(size, window, options, message):
    with pytest.raises(ValueError, match=message):
        transposed_size(size, window, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 1.5}, "stride=1.5 is not whole"),
        ({"output_padding": 0.5}, "output_padding=0.5 is not whole; expected an integer of at least 0"),
        ({"output_padding": -1}, "output_padding=-1 is too small; expected at least 0"),
        ({"padding": None}, "padding=None is not whole"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_numbers_of_the_transpose(options, message):
    with pytest.raises(ValueError, match=message):
        slide_transposed(5, 2, **options)


# The numbered relationships of Dumoulin and Visin (2016), in their letters: input i, window k, stride s, padding p,
# dilation d, output o; a prime marks the transposed convolution.


@given(sizes, windows)
def test_relationship_1_no_padding_unit_strides(i, k):
    assume(i >= k)
    assert output_size(i, k) == (i - k) + 1


@given(sizes, windows, paddings)
def test_relationship_2_padding_unit_strides(i, k, p):
    assume(i + 2 * p >= k)
    assert output_size(i, k, padding=p) == (i - k) + 2 * p + 1


@given(sizes, st.integers(0, 5))
def test_relationship_3_half_padding(i, n):
    k = 2 * n + 1
    assert output_size(i, k, padding=n) == i
    assert slide(i, k, padding="SAME") == slide(i, k, padding="SAME_LOWER") == Window(i, n, n)


@given(sizes, windows)
def test_relationship_4_full_padding(i, k):
    assert output_size(i, k, padding=k - 1) == i + (k - 1)
    assert slide(i, k, padding="FULL") == Window(i + (k - 1), k - 1, k - 1)


@given(sizes, windows, strides)
def test_relationship_5_no_padding_strides(i, k, s):
    assume(i >= k)
    assert output_size(i, k, strides=s) == (i - k) // s + 1


@given(sizes, windows, strides, paddings)
def test_relationship_6_padding_strides(i, k, s, p):
    assume(i + 2 * p >= k)
    assert output_size(i, k, strides=s, padding=p) == (i + 2 * p - k) // s + 1


@given(sizes, sizes, windows)
def test_relationship_7_pooling(height, width, k):
    # Pooling's habit: the stride is the window.
    assume(min(height, width) >= k)
    assert output_size((height, width), k, strides=k) == ((height - k) // k + 1, (width - k) // k + 1)


@given(sizes, windows)
def test_relationship_8_no_padding_unit_strides_transposed(i, k):
    assert transposed_size(i, k) == output_size(i, k, padding=k - 1) == i + (k - 1)


@given(sizes, windows, paddings)
def test_relationship_9_padding_unit_strides_transposed(i, k, p):
    assume(p < k)
    assume(i + (k - 1) - 2 * p >= 1)
    assert transposed_size(i, k, padding=p) == output_size(i, k, padding=k - p - 1) == i + (k - 1) - 2 * p


@given(sizes, st.integers(0, 5))
def test_relationship_10_half_padding_transposed(i, n):
    k = 2 * n + 1
    assert transposed_size(i, k, padding=n) == i
    assert slide_transposed(i, k, padding="SAME") == Window(i, n, n)


@given(sizes, windows)
def test_relationship_11_full_padding_transposed(i, k):
    assume(i >= k)
    assert transposed_size(i, k, padding="FULL") == output_size(i, k, padding=0) == i - (k - 1)


@given(sizes, windows, strides)
def test_relationship_12_no_padding_strides_transposed(i, k, s):
    assert transposed_size(i, k, strides=s) == s * (i - 1) + k
    assert output_size(i, k, padding=k - 1, input_dilation=s) == s * (i - 1) + k
    assert output_size(s * (i - 1) + k, k, strides=s, misfit="error") == i


@given(sizes, windows, strides, paddings)
def test_relationship_13_padding_strides_transposed(i, k, s, p):
    assume(p < k)
    expected = s * (i - 1) + k - 2 * p
    assume(expected >= 1)
    assert transposed_size(i, k, strides=s, padding=p) == expected
    assert output_size(i, k, padding=k - p - 1, input_dilation=s) == expected
    assert output_size(expected, k, strides=s, padding=p, misfit="error") == i


@given(sizes, windows, strides, paddings)
def test_relationship_14_any_size_strides_transposed(i, k, s, p):
    assume(p < k)
    assume(i + 2 * p >= k)
    o, a = (i + 2 * p - k) // s + 1, (i + 2 * p - k) % s
    assert s * (o - 1) + a + k - 2 * p == i
    assert transposed_size(o, k, strides=s, padding=p, output_padding=a) == i
    assert output_size(o, k, padding=[(k - p - 1, k - p - 1 + a)], input_dilation=s) == i


@given(sizes, windows, strides, paddings, dilations)
def test_relationship_15_dilation(i, k, s, p, d):
    assume(i + 2 * p >= k + (k - 1) * (d - 1))
    expected = (i + 2 * p - k - (k - 1) * (d - 1)) // s + 1
    assert output_size(i, k, strides=s, padding=p, dilation=d) == expected


@pytest.mark.parametrize(
    ("i", "k", "s", "p", "o", "a"),
    [
        (4, 3, 1, 0, 2, 0),
        (5, 4, 1, 2, 6, 0),
        (5, 3, 1, 1, 5, 0),
        (5, 3, 1, 2, 7, 0),
        (5, 3, 2, 0, 2, 0),
        (5, 3, 2, 1, 3, 0),
        (6, 3, 2, 1, 3, 1),
    ],
    ids=[f"4.{figure}" for figure in range(1, 8)],
)
def test_the_guides_figures(i, k, s, p, o, a):
    assert output_size((i, i), k, strides=s, padding=p) == (o, o)
    assert transposed_size((o, o), k, strides=s, padding=p, output_padding=a) == (i, i)


@pytest.mark.parametrize("padding", [[1, 2], (1, 2), np.array([1, 2]), range(1, 3)], ids=type)
def test_padding_per_axis_may_be_any_ordered_numbers(padding, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    assert output_size((8, 8), 3, padding=padding) == (8, 10)


@pytest.mark.parametrize("padding", [{1: 0, 2: 0}, {1, 2}])
def test_padding_without_an_order_is_refused(padding, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"padding=.* has no order"):
        output_size((8, 8), 3, padding=padding)
