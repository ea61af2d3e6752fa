"""Multiply-accumulates against products written out by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from cnnjax.analysis import tracing
from cnnjax.analysis.counting import data_dependent_loops, multiply_accumulates
from cnnjax.analysis.tracing import trace
from cnnjax.functional import conv_transpose, correlate


def count(function, shape):
    return sum(multiply_accumulates(trace(function, shape)))


def conv(kernel, **options):
    return lambda x: correlate(x, jnp.ones(kernel), **options)


def transposed(size, padding="VALID"):
    return lambda x: lax.conv_transpose(x, jnp.ones((size, size, 4, 5)), (2, 2), padding)


@pytest.mark.parametrize(
    ("function", "shape", "expected"),
    [
        # batch * positions * outputs * taps * inputs of a group
        (conv((3, 3, 2, 6), groups=2, strides=2), (2, 8, 9, 4), 2 * (4 * 5) * 6 * (3 * 3) * 2),
        (conv((3, 3, 3, 4), dilation=2, padding="VALID"), (1, 8, 9, 3), (4 * 5) * 4 * 9 * 3),
        (conv((3, 3, 1, 1), padding="SAME"), (1, 4, 4, 1), 16 * 9),  # taps on padding count
        (conv((3, 3, 1, 1), padding="VALID"), (1, 4, 4, 1), 4 * 9),
        (conv((3, 2, 5), padding="VALID"), (3, 10, 2), 3 * 8 * 5 * 3 * 2),
        (conv((2, 2, 2, 1, 2), padding="VALID"), (1, 4, 5, 3, 1), (3 * 4 * 2) * 2 * 8),
        (conv((2, 2, 1, 3), groups=3, padding="VALID"), (1, 5, 5, 3), 16 * 3 * 4),
    ],
    ids="groups-and-strides dilation padding-counts no-padding 1-D 3-D depthwise".split(),
)
def test_convolutions(function, shape, expected):
    assert count(function, shape) == expected


def test_inserted_zeros_do_not_count():
    # Window 2 at stride 2: each of 6 x 6 outputs has one tap per axis on a real pixel.
    assert count(transposed(2), (1, 3, 3, 4)) == 36 * 4 * 5
    # Window 3: each of 3 x 3 pixels meets each of 3 x 3 taps.
    assert count(transposed(3), (1, 3, 3, 4)) == 9 * 9 * 4 * 5


def products(size, window, *, stride=1, padding=(0, 0), dilation=1, input_dilation=1):
    """Tap by tap along one axis, those on padding too; a tap on a zero between pixels is none."""
    spread = (size - 1) * input_dilation + 1
    first = range(-padding[0], spread + padding[1] - (window - 1) * dilation, stride)
    return sum((place + tap * dilation) % input_dilation == 0 for place in first for tap in range(window))


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("padding", ["VALID", "SAME", 1])
def test_a_transposed_convolution_counts_every_pixel_for_every_tap(strides, padding, dilation):
    # What its adjoint counts, which slides from the 5 places along an axis over the larger picture, 3 taps each.
    expected = 2 * (5 * 3) ** 2 * 4 * 2

    def function(x):
        kernel = jnp.ones((3, 3, 2, 4))
        return conv_transpose(x, kernel, strides=strides, padding=padding, dilation=dilation)

    assert count(function, (2, 5, 5, 4)) == expected
    if padding == "VALID":

        def with_lax(x):
            kernel = jnp.ones((3, 3, 4, 2))
            return lax.conv_transpose(x, kernel, (strides,) * 2, padding, rhs_dilation=(dilation,) * 2)

        assert count(with_lax, (2, 5, 5, 4)) == expected


def test_one_pixel_through_a_transposed_convolution():
    assert count(lambda x: conv_transpose(x, jnp.ones((3, 3, 1, 32)), padding="VALID"), (1, 1, 1, 32)) == 9 * 32
    assert count(lambda x: lax.conv_transpose(x, jnp.ones((3, 3, 32, 1)), (1, 1), "VALID"), (1, 1, 1, 32)) == 9 * 32


FORMS = {
    "same": {"padding": (1, 1)},
    "valid": {"padding": (0, 0)},
    "strided": {"stride": 2, "padding": (2, 1)},
    "dilated": {"dilation": 2, "padding": (1, 3)},
    "uneven": {"padding": (0, 1)},
    "stretched, strided, dilated": {"input_dilation": 2, "stride": 3, "dilation": 2, "padding": (1, 2)},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_count_what_the_layer_does(form, groups):
    kernel = jnp.ones((3, 4 // groups, 6))
    options = {"strides": form.get("stride", 1), "padding": [form["padding"]], "dilation": form.get("dilation", 1)}

    def layer(x, kernel):
        return correlate(x, kernel, input_dilation=form.get("input_dilation", 1), groups=groups, **options)

    once = 2 * products(7, 3, **form) * (4 // groups) * 6
    assert count(lambda x: layer(x, kernel), (2, 7, 4)) == once
    # The layer itself, and by the images and the kernel.
    assert count(lambda x: jax.grad(lambda *both: layer(*both).sum(), (0, 1))(x, kernel), (2, 7, 4)) == 3 * once


OF_LAX = {name: FORMS[name] for name in ("same", "valid", "strided", "dilated", "uneven")}
OF_LAX["cropped"] = {"stride": 2, "padding": (-1, 1)}


@pytest.mark.parametrize("form", OF_LAX.values(), ids=OF_LAX)
@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_of_lax_count_what_the_layer_does(form, groups):
    kernel = jnp.ones((3, 4 // groups, 6))

    def layer(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            (form.get("stride", 1),),
            [form["padding"]],
            rhs_dilation=(form.get("dilation", 1),),
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=groups,
        )

    once = 2 * products(7, 3, **form) * (4 // groups) * 6
    assert count(lambda x: layer(x, kernel), (2, 7, 4)) == once
    assert count(lambda x: jax.grad(lambda *both: layer(*both).sum(), (0, 1))(x, kernel), (2, 7, 4)) == 3 * once


def test_gradients_of_a_transposed_convolution():
    kernel = jnp.ones((3, 2, 4))

    def own(x, kernel):
        return conv_transpose(x, kernel, strides=2, padding="VALID")

    def of_lax(x, kernel):
        return lax.conv_transpose(x, jnp.swapaxes(kernel, 1, 2), (2,), "VALID")

    for layer in (own, of_lax):
        gradients = jax.grad(lambda *both, layer=layer: (layer(*both) ** 2).sum(), (0, 1))
        assert count(lambda x, gradients=gradients: gradients(x, kernel), (2, 5, 4)) == 3 * 2 * (5 * 3) * 4 * 2


def test_a_stretched_and_cropped_input_counts_as_transposed():
    def function(x):
        numbers = ("NWC", "WIO", "NWC")
        return lax.conv_general_dilated(
            x, jnp.ones((3, 4, 6)), (1,), [(-2, 1)], lhs_dilation=(2,), dimension_numbers=numbers
        )

    assert count(function, (2, 7, 4)) == 2 * (7 * 3) * 4 * 6
    # From where the first of ten windows begins, pixels lie at -2, 0, ..., 10.
    met = sum(place + tap in range(0, 11, 2) for place in range(10) for tap in range(3))
    assert sum(multiply_accumulates(trace(function, (2, 7, 4)), padding=False)) == 2 * met * 4 * 6


def test_groups_of_the_batch():
    # Each half of the batch meets its own half of the kernels.
    def function(x):
        numbers = ("NWC", "WIO", "NWC")
        return lax.conv_general_dilated(
            x, jnp.ones((3, 4, 6)), (1,), "VALID", dimension_numbers=numbers, batch_group_count=2
        )

    assert count(function, (4, 7, 4)) == (4 // 2) * products(7, 3) * 4 * 6


def test_products_with_batch_axes():
    assert count(lambda x: jnp.einsum("bik,bkj->bij", x, jnp.ones((2, 4, 5))), (2, 3, 4)) == 2 * 3 * 4 * 5
    assert count(lambda x: jnp.einsum("bik,bjk->bij", x, x), (2, 3, 4)) == 2 * 3 * 3 * 4
    assert count(lambda x: jnp.einsum("bhwc,hwcf->bf", x, jnp.ones((3, 5, 4, 6))), (2, 3, 5, 4)) == 2 * 6 * 3 * 5 * 4


def test_elementwise_work_and_sums_are_free():
    assert count(lambda x: jnp.tanh(x * 2 + 1).sum((1, 2)), (2, 3, 4)) == 0


def test_calls_are_counted_once():
    inner = conv((3, 3, 1, 1))
    for function in (jax.jit(inner), jax.checkpoint(inner), jax.jit(jax.checkpoint(jax.jit(inner)))):
        assert count(function, (1, 4, 4, 1)) == 16 * 9
    twice = jax.jit(inner)
    assert count(lambda x: twice(twice(x)), (1, 4, 4, 1)) == 2 * 16 * 9


def test_while_loops_count_one_turn_and_are_named():
    weights = jnp.ones((4, 4))

    def step(x):
        return x @ weights

    program = trace(lambda x: step(lax.while_loop(lambda carry: carry.sum() < 9, step, step(x))), (2, 3, 4))
    assert sum(multiply_accumulates(program)) == 3 * (2 * 3 * 4 * 4)
    assert data_dependent_loops(program) == ("while",)
    assert data_dependent_loops(trace(step, (2, 3, 4))) == ()


def test_a_choice_counts_its_most_expensive_branch():
    weights = jnp.ones((4, 4))

    def function(x):
        return lax.cond(x.sum() > 0, lambda y: y @ weights @ weights, lambda y: y @ weights, x)

    program = trace(function, (2, 3, 4))
    assert sum(multiply_accumulates(program)) == 2 * (2 * 3 * 4 * 4)
    assert data_dependent_loops(program) == ()


def test_taps_on_padding_are_left_out_on_demand():
    def inside(function, shape):
        return sum(multiply_accumulates(trace(function, shape), padding=False))

    # 3x3 SAME on 4 pixels: along an axis 2 + 3 + 3 + 2 taps fall on the picture.
    assert inside(conv((3, 3, 1, 1), padding="SAME"), (1, 4, 4, 1)) == 10**2
    # Dilated by 2 on 5 pixels: 2 + 2 + 3 + 2 + 2.
    assert inside(conv((3, 3, 1, 1), padding="SAME", dilation=2), (1, 5, 5, 1)) == 11**2
    # Transposed: only inserted zeros and what is beyond the three pixels is left out, of nine taps along an axis.
    assert inside(transposed(3), (1, 3, 3, 4)) == 9**2 * 4 * 5
    assert inside(conv((3, 3, 1, 1), padding="VALID"), (1, 4, 4, 1)) == 4 * 9


def test_scans_are_counted_as_often_as_they_run():
    weights = jnp.ones((4, 4))
    program = trace(lambda x: lax.scan(lambda carry, _: (carry @ weights, None), x, length=3)[0], (2, 3, 4))
    assert sum(multiply_accumulates(program)) == 3 * (2 * 3 * 4 * 4)
    assert data_dependent_loops(program) == ()


def test_long_scans_count_as_often_as_they_run(monkeypatch):
    monkeypatch.setattr(tracing, "_MOST_SCANNED", 2)
    weights = jnp.ones((4, 4))
    program = trace(lambda x: lax.scan(lambda carry, _: (carry @ weights, None), x, length=5)[0], (2, 3, 4))
    assert [equation.primitive for equation in program.equations] == ["scan"]
    assert sum(multiply_accumulates(program)) == 5 * (2 * 3 * 4 * 4)


def test_every_equation_has_its_number():
    program = trace(lambda x: jnp.tanh(conv((3, 3, 1, 2))(x)) @ jnp.ones((2, 5)), (1, 4, 4, 1))
    numbers = dict(zip([eqn.primitive for eqn in program.equations], multiply_accumulates(program), strict=True))
    assert {name: number for name, number in numbers.items() if number} == {
        "conv_general_dilated": 16 * 9 * 2,
        "dot_general": 16 * 2 * 5,
    }
