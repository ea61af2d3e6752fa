"""Multiply-accumulates against products written out by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from cnnjax.analysis import tracing
from cnnjax.analysis.counting import multiply_accumulates, uncounted
from cnnjax.analysis.tracing import trace
from cnnjax.functional import correlate


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
    # Window 3: of 7 outputs per axis the 4 even ones have 2 taps that are no inserted zeros, the 3 odd ones 1.
    assert count(transposed(3), (1, 3, 3, 4)) == (4 * 2 + 3 * 1) ** 2 * 4 * 5


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
    assert uncounted(program) == ("while",)
    assert uncounted(trace(step, (2, 3, 4))) == ()


def test_a_choice_counts_its_most_expensive_branch():
    weights = jnp.ones((4, 4))

    def function(x):
        return lax.cond(x.sum() > 0, lambda y: y @ weights @ weights, lambda y: y @ weights, x)

    program = trace(function, (2, 3, 4))
    assert sum(multiply_accumulates(program)) == 2 * (2 * 3 * 4 * 4)
    assert uncounted(program) == ()


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
    assert uncounted(program) == ()


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
