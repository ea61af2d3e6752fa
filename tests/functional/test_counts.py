"""Counts against published layers and networks, and against arrays of the shapes counted."""

from itertools import pairwise

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.functional.counts import activation_bytes, activation_count, parameter_count
from cnnjax.functional.geometry import output_size

small = st.integers(1, 4)


@pytest.fixture
def unchecked(monkeypatch):
    """Without the typecheckers, which are on in the tests only and would speak first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@given(small, small, small, st.lists(small, max_size=3), st.booleans())
def test_parameters_are_the_elements_of_kernel_and_bias(groups, group_in, group_out, window, bias):
    in_channels, out_channels = groups * group_in, groups * group_out
    kernel = np.empty((*window, group_in, out_channels))
    expected = kernel.size + (np.empty(out_channels).size if bias else 0)
    assert parameter_count(in_channels, out_channels, window, groups=groups, bias=bias) == expected


def test_known_layers():
    # LeNet-5's C1, C5 and F6; AlexNet's first layer; a depthwise 3 x 3.
    assert [parameter_count(1, 6, 5), parameter_count(16, 120, 5), parameter_count(120, 84, ())] == [156, 48120, 10164]
    assert parameter_count(3, 96, 11) == 96 * (3 * 11**2 + 1) == 34944
    assert parameter_count(64, 64, (3, 3), groups=64, bias=False) == 576
    assert parameter_count(3, 8, 3, rank=1) == parameter_count(3, 8, (3,)) == 80
    assert parameter_count(3, 8, 3, rank=3) == parameter_count(3, 8, (3, 3, 3)) == 656
    # Exact beyond 64 bits.
    assert parameter_count(10**12, 10**12, 10**3) == 10**12 * (10**18 + 1)


def test_known_networks():
    # Krizhevsky et al. (2012), in two groups; Simonyan and Zisserman (2015), configuration D.
    alexnet = [
        parameter_count(3, 96, 11),
        parameter_count(96, 256, 5, groups=2),
        parameter_count(256, 384, 3),
        parameter_count(384, 384, 3, groups=2),
        parameter_count(384, 256, 3, groups=2),
        parameter_count(256, 4096, 6),
        parameter_count(4096, 4096, 1),
        parameter_count(4096, 1000, 1),
    ]
    assert sum(alexnet) == 60_965_224
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    convolutions = sum(parameter_count(*pair, 3) for pair in pairwise(widths))
    assert convolutions == 14_714_688
    dense = parameter_count(512, 4096, 7) + parameter_count(4096, 4096, ()) + parameter_count(4096, 1000, ())
    assert convolutions + dense == 138_357_544


def test_known_activations():
    # CS231n: AlexNet's first layer, and three layers of 224 x 224 x 64 with a gradient for each activation.
    assert activation_count(output_size((227, 227), 11, strides=4), 96) == 290_400
    assert 3 * activation_count(224, 64) == 9_633_792
    assert 2 * 3 * activation_bytes(224, 64, dtype="float32") == 9_633_792 * 8 == 73.5 * 2**20


@given(small, st.lists(small, max_size=3), small)
def test_activations_are_the_elements_of_the_output(batch, sizes, channels):
    output = np.empty((batch, *sizes, channels), np.float32)
    assert activation_count(sizes, channels, batch=batch) == output.size
    assert activation_bytes(sizes, channels, batch=batch, dtype=output.dtype) == output.nbytes


def test_one_integer_is_every_axis():
    assert activation_count(28, 6) == 28 * 28 * 6
    assert activation_count(28, 6, rank=1) == 28 * 6
    assert activation_bytes(28, 6, rank=3, dtype="uint8") == 28**3 * 6


@pytest.mark.parametrize(
    "dtype",
    ["bfloat16", jnp.bfloat16, "float16", np.float32, "float64", "uint8", jnp.float8_e4m3fn, "complex64", bool],
    ids=lambda dtype: np.dtype(dtype).name,
)
def test_bytes_of_every_type(dtype):
    expected = {
        "bfloat16": 2,
        "float16": 2,
        "float32": 4,
        "float64": 8,
        "uint8": 1,
        "float8_e4m3fn": 1,
        "complex64": 8,
        "bool": 1,
    }
    assert activation_bytes((5, 7), 3, batch=2, dtype=dtype) == 210 * expected[np.dtype(dtype).name]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 4, 3), {}, "in_channels=0 is too small; expected at least 1"),
        ((4, -1, 3), {}, "out_channels=-1 is too small"),
        ((4, 1.5, 3), {}, "out_channels=1.5 is not whole"),
        ((4, 4, 0), {}, "window=0 is too small"),
        ((4, 4, (3, 0)), {}, r"window=\(3, 0\) is too small"),
        ((4, 4, 2.5), {}, "window=2.5 is not whole"),
        ((4, 4, 3), {"groups": 0}, "groups=0 is too small"),
        ((4, 4, 3), {"groups": 3}, "groups=3 must divide the 4 input and 4 output channels"),
        ((4, 6, 3), {"groups": 4}, "groups=4 must divide the 4 input and 6 output channels"),
        ((4, 4, 3), {"rank": -1}, "rank=-1 is too small; expected at least 0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_parameters(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        parameter_count(*arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (((8, 0), 4), {}, r"sizes=\(8, 0\) is too small"),
        ((8.0, 4), {}, "sizes=8.0 is not whole"),
        ((8, 0), {}, "channels=0 is too small"),
        ((8, 4), {"batch": 0}, "batch=0 is too small"),
        ((8, 4), {"dtype": None}, "dtype=None is not a type of numbers"),
        ((8, 4), {"dtype": "float33"}, "dtype='float33' is not a type of numbers; expected one such as"),
        ((8, 4), {"dtype": "S4"}, "dtype='S4' is not a type of numbers"),
        ((8, 4), {"dtype": object}, "dtype=<class 'object'> is not a type of numbers"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_activations(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        activation_bytes(*arguments, **{"dtype": "float32"} | options)
