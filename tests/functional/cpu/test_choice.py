"""Every method computes the same, and the rules name methods that a product has."""

import jax
import numpy as np
import pytest

from cnnjax.functional.correlation import reference_product
from cnnjax.functional.cpu.choice import RULES, Product, choose, methods
from cnnjax.functional.cpu.machine import Machine
from cnnjax.functional.cpu.onednn_call import SWITCH, _works
from cnnjax.functional.cpu.product import compute
from tests.functional import correlation_oracle as oracle
from tests.functional.cpu.forms import every_form, expected_products, form_of, shapes

MACHINES = [Machine(instructions, onednn) for instructions in RULES for onednn in (False, True)]


@every_form
@pytest.mark.parametrize("place", range(3), ids=["output", "images", "kernel"])
def test_every_method_equals_the_sums_written_out(form, channels, outputs, batch, place, monkeypatch):
    monkeypatch.setenv(SWITCH, "1")
    arrays = oracle.arrays(0, *shapes(form, channels, outputs, batch))
    result = ("output", "images", "kernel")[place]
    operands = [array for kind, array in zip(("images", "kernel", "output"), arrays, strict=True) if kind != result]
    expected, magnitude = (expected_products(*given, form)[place] for given in (arrays, list(map(np.abs, arrays))))
    had = methods(Product(result, form, batch, channels, outputs))

    @jax.jit
    def every(*operands):
        return {method: compute(method, *operands, result, form) for method in had if is_tried(method)}

    for method, found in every(*operands).items():
        assert found.shape == expected.shape, method
        assert (np.abs(found - expected) <= 1e-6 * magnitude).all(), method


def is_tried(method):
    """Those that are methods of their own, and of oneDNN where there is one."""
    return method != "apart" and ("onednn" not in method or _works())


@every_form
@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize("partitioned", [False, True])
def test_what_is_chosen_is_a_method_that_the_product_has(form, channels, outputs, batch, machine, partitioned):
    for result in ("output", "images", "kernel"):
        for examples, wider in ((batch, 1), (512, 8)):
            product = Product(result, form, examples, channels * wider, outputs * wider)
            if form.groups == channels:
                product = Product(result, form, examples, channels, outputs)
            chosen = choose(product, machine, partitioned=partitioned)
            assert chosen in methods(product)
            assert machine.onednn or "onednn" not in chosen


def form(size, window, stride=1, groups=1):
    return form_of((size, size), (window, window), stride, (window // 2, window // 2), groups=groups)


@pytest.mark.parametrize(
    ("product", "avx2", "avx512"),
    [
        # What experiments/benchmarks/cpu_products.py measured on AVX2; on AVX-512, what was measured before it.
        (Product("output", form(32, 3), 128, 16, 16), "onednn", "onednn"),
        (Product("images", form(32, 3), 128, 16, 16), "onednn", "onednn"),
        (Product("kernel", form(32, 3), 128, 16, 16), "onednn", "onednn"),
        (Product("output", form(224, 7, 2), 8, 3, 64), "onednn", "convolution"),
        (Product("images", form(224, 7, 2), 8, 3, 64), "planes", "planes"),
        (Product("kernel", form(224, 7, 2), 8, 3, 64), "pieces", "pieces"),
        (Product("output", form(14, 1), 8, 256, 1024), "onednn", "taps"),
        (Product("output", form(14, 1), 8, 1024, 256), "onednn taps", "taps"),
        (Product("output", form(7, 1), 8, 512, 2048), "onednn taps", "taps"),
        (Product("kernel", form(14, 1), 8, 256, 1024), "onednn taps", "onednn taps"),
        (Product("images", form(7, 3), 8, 512, 512), "onednn taps", "taps"),
        (Product("images", form(28, 1, 2), 8, 512, 1024), "onednn taps", "taps"),
        (Product("output", form(112, 3, 1, 32), 8, 32, 32), "onednn", "onednn"),
        (Product("images", form(112, 3, 2, 64), 8, 64, 64), "multiply", "multiply"),
        (Product("kernel", form(112, 3, 1, 32), 8, 32, 32), "onednn", "onednn"),
        (Product("kernel", form(14, 3, 2, 512), 16, 512, 512), "rows", "rows"),
        (Product("kernel", form(28, 3, 1, 32), 8, 32, 64), "rows", "rows"),
        (Product("kernel", form(28, 3, 1, 8), 4, 128, 128), "apart", "apart"),
        # LeNet-5 is too small for calls to be worth it.
        (Product("output", form(14, 5), 64, 6, 16), "convolution", "convolution"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_rules_for_layers_that_were_measured(product, avx2, avx512):
    assert choose(product, Machine("avx2", True)) == avx2
    assert choose(product, Machine("avx512", True)) == avx512


@pytest.mark.skipif(not _works(), reason="this jaxlib has no oneDNN calls")
@pytest.mark.parametrize(
    ("product", "method"),
    [
        ((form(16, 3), 32, 16, 16), "onednn"),
        ((form(8, 3), 16, 64, 64), "onednn"),
        ((form(4, 3), 4, 512, 256), "onednn"),
        ((form(8, 3, 2), 8, 64, 128), "onednn"),
        ((form(8, 1), 8, 256, 64), "onednn taps"),
    ],
    ids=["16 channels", "64 channels", "512 channels", "strided", "1x1"],
)
def test_rounding_is_at_most_four_times_that_of_lax(product, method):
    """The root of the mean squared error against float64, relative to that of the result."""
    shape, examples, channels, outputs = product
    arrays = oracle.arrays(7, *shapes(shape, channels, outputs, examples))
    operands = {"output": arrays[:2], "images": arrays[1:], "kernel": arrays[::2]}
    for (result, given), expected in zip(operands.items(), expected_products(*arrays, shape), strict=True):

        def error(rule, given=given, expected=expected):
            return np.sqrt(np.mean(np.square(np.float64(jax.jit(rule)(*given)) - expected)))

        ours = error(lambda *pair, result=result: compute(method, *pair, result, shape))
        plain = error(lambda *pair, result=result: reference_product(*pair, result=result, form=shape))
        assert ours <= 4 * plain, f"{result}: {ours / plain:.2f}"
