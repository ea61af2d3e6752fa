"""oneDNN's calls: what they compute, and when they are not used."""

import logging
import platform
import sys
import warnings

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
from jax import lax

from cnnjax.functional import correlate
from cnnjax.functional.correlation import Correlation
from cnnjax.functional.cpu import onednn_call

available = pytest.mark.skipif(not onednn_call._works(), reason="this jaxlib has no oneDNN calls")


@pytest.fixture
def untried(monkeypatch):
    """As in a process that has not asked yet; what is found is forgotten afterwards."""
    monkeypatch.setenv(onednn_call.SWITCH, "1")
    asked = onednn_call._works
    asked.cache_clear()
    yield
    asked.cache_clear()


def why(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "cnnjax"]


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64") or jaxlib.version.__version_info__[:2] != (0, 12),
    reason="it is tried on Linux, x86-64 and jaxlib 0.12",
)
def test_the_calls_are_there_where_they_were_tried():
    """Else all tests of them would be left out, and nobody would know."""
    assert onednn_call._works()


@available
@pytest.mark.parametrize(
    "form",
    [
        Correlation((9,), (4,), (2,), ((1, 3),), (1,), (2,), 1),
        Correlation((8, 5), (3, 2), (1, 2), ((0, 1), (2, 0)), (1, 1), (2, 1), 2),
        Correlation((4, 5, 6), (2, 3, 1), (1, 2, 3), ((1, 0), (0, 2), (1, 1)), (1, 1, 1), (1, 1, 2), 1),
    ],
    ids=["line", "groups", "volume"],
)
def test_a_convolution_is_that_of_lax(form):
    random = np.random.default_rng(0)
    images = random.integers(-4, 5, (2, *form.sizes, 6)).astype(np.float32)
    kernel = random.integers(-4, 5, (*form.window, 6 // form.groups, 4)).astype(np.float32)
    found = jax.jit(lambda *arrays: onednn_call.convolution(*arrays, form))(images, kernel)
    expected = lax.conv_general_dilated(
        images,
        kernel,
        form.strides,
        form.padding,
        rhs_dilation=form.dilation,
        dimension_numbers=form.layout,
        feature_group_count=form.groups,
    )
    # Whole numbers, whose sums are exact in any order.
    np.testing.assert_array_equal(found, expected)


@available
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
def test_a_matrix_product_is_that_of_numpy(transposed):
    random = np.random.default_rng(1)
    first, second = (random.integers(-9, 10, shape).astype(np.float32) for shape in ((7, 5), (5, 3)))
    given = [array.T if turned else array for array, turned in zip((first, second), transposed, strict=True)]
    options = dict(zip(("transpose_first", "transpose_second"), transposed, strict=True))
    found = jax.jit(lambda *arrays: onednn_call.matmul(*arrays, **options))(*given)
    np.testing.assert_array_equal(found, first @ second)


@available
def test_the_switch_is_asked_each_time(monkeypatch):
    monkeypatch.setenv(onednn_call.SWITCH, "0")
    assert not onednn_call.is_available()
    monkeypatch.setenv(onednn_call.SWITCH, "1")
    assert onednn_call.is_available()


@pytest.mark.parametrize("version", [(0, 9, 2), (0, 99, 0), (1, 0, 0)])
def test_a_version_that_was_not_tried_is_not_used(version, untried, monkeypatch, caplog):
    monkeypatch.setattr(jaxlib.version, "__version_info__", version)
    with caplog.at_level(logging.DEBUG, "cnnjax"):
        assert not onednn_call.is_available()
        assert not onednn_call.is_available()
    # Once, and for good.
    (said,) = why(caplog)
    assert "was not tried" in said


@available
def test_an_error_of_the_compiler_is_no_error_of_ours(untried, monkeypatch, caplog):
    def refused(*_):
        raise RuntimeError("No registered implementation for custom call\nand more")

    monkeypatch.setattr(onednn_call, "convolution", refused)
    with caplog.at_level(logging.DEBUG, "cnnjax"):
        assert not onednn_call.is_available()
    assert why(caplog) == ["oneDNN is not used: No registered implementation for custom call"]


@available
@pytest.mark.parametrize("name", ["convolution", "matmul"])
def test_other_numbers_than_those_of_lax_are_not_used(name, untried, monkeypatch, caplog):
    right = getattr(onednn_call, name)
    monkeypatch.setattr(onednn_call, name, lambda *arrays, **options: right(*arrays, **options) + 1)
    with caplog.at_level(logging.DEBUG, "cnnjax"):
        assert not onednn_call.is_available()
    (said,) = why(caplog)
    assert "differs from lax" in said


@available
def test_it_is_tried_when_a_convolution_is_first_compiled_and_never_while_one_is_traced(untried, monkeypatch):
    tried = []
    right = onednn_call._works
    monkeypatch.setattr(onednn_call, "_works", lambda: tried.append(1) or right())
    images, kernel = jnp.ones((1, 7, 11, 16)), jnp.ones((3, 3, 16, 16))
    traced = jax.jit(lambda *arrays: correlate(*arrays)).trace(images, kernel)
    assert not tried
    traced.lower()
    assert tried


@available
def test_it_is_tried_while_a_function_is_traced_that_asks_for_it(untried):
    """The question has an answer inside `jit` too, where nothing can be computed otherwise."""
    assert jax.jit(lambda x: x + float(onednn_call.is_available()))(0.0) == 1.0


@available
def test_a_program_with_calls_is_compiled_without_a_warning_of_the_compile_cache(untried):
    """Which jaxlib cannot write it to; the day it can, this test says that the filter and the README can go."""
    first, second = jnp.ones((5, 6)), jnp.ones((6, 7))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        program = jax.jit(onednn_call.matmul).lower(first, second).compile()
        with pytest.raises(MemoryError):
            jax.devices()[0].client.serialize_executable(program.runtime_executable())
        assert onednn_call.is_available()
        warnings.warn(
            "Error writing persistent compilation cache entry for 'f': MemoryError: std::bad_alloc", stacklevel=1
        )
        warnings.warn("Error writing persistent compilation cache entry for 'f': OSError", stacklevel=1)
    assert [str(one.message)[-7:] for one in told] == ["OSError"]
