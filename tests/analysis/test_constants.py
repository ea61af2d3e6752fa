"""Arrays that functions carry along, counted by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.analysis import cost, summary, tracing
from cnnjax.analysis.constants import carried, constants_by_layer
from cnnjax.analysis.tracing import trace

KERNEL, BIAS, TABLE = jnp.ones((3, 4)), np.ones((1, 1, 4), np.float32), jnp.array([0, 2])
SCALE = jnp.ones((1, 1, 4))


def net(x):
    with jax.named_scope("first"):
        x = x @ KERNEL + BIAS
    with jax.named_scope("second"):
        return (x * (2 * SCALE) + BIAS)[:, TABLE] * 0.5


def test_each_array_is_counted_once_where_it_first_meets_the_image():
    program = trace(net, (1, 5, 3))
    assert constants_by_layer(program) == {"first": 12 + 4, "second": 4}
    # Single numbers, and whole ones, are none.
    assert sorted(array.shape for array in carried(program)) == [(1, 1, 4), (1, 1, 4), (3, 4)]


def test_what_no_layer_has_is_named_by_what_takes_it():
    def function(x):
        with jax.named_scope("first"):
            x = x @ KERNEL
        return x + BIAS

    found = cost(function, (1, 5, 3))
    assert (found.params, [layer.params for layer in found.layers], found.elsewhere) == (16, [12], {"add": 4})
    assert "Of the constants, 4 belong to no layer above: add 4." in found.notes()
    assert "belong to no layer" in str(summary(function, (1, 5, 3)))


def in_closure(name):
    model = models.create(name)
    shape = (1, *models.image_shape(name))
    variables = models.initialize(jax.random.key(0), model, jnp.zeros(shape))
    return (lambda x: model.apply(variables, x)), variables, shape


def test_a_bound_net_has_the_elements_of_its_variables():
    function, variables, shape = in_closure("resnet20")
    found = cost(function, shape)
    # Weights, and the running statistics of its norms.
    assert found.params == sum(leaf.size for leaf in jax.tree.leaves(variables)) == 269_722 + 2 * 688
    assert found.parameter_bytes == 4 * found.params
    by_name = {layer.name: layer.params for layer in found.layers}
    assert (by_name["conv1"], by_name["stage1/block1/conv1"]) == (3 * 3 * 3 * 16, 3 * 3 * 16 * 16)
    assert found.from_constants
    assert not cost(models.create("resnet20"), shape, training=False).from_constants
    shown = str(found)
    assert "constants" in shown.splitlines()[0]
    assert "MiB of constants" in shown
    assert "Constants are all arrays of floats that the function carries along" in shown
    # With its model known, parameters are told from statistics.
    known = cost(models.bind(models.create("resnet20"), variables), shape)
    assert (known.params, known.from_constants, known.elsewhere) == (269_722, False, {})
    assert known.rows() == cost(models.create("resnet20"), shape).rows()
    short = summary(function, shape)
    assert (short.cost.params, "constants" in str(short).splitlines()[0]) == (found.params, True)
    assert "constants / thousand" in [axes.get_xlabel() for axes in found.draw().axes]


@pytest.mark.parametrize("most", [200_000, 1], ids=["written out", "as a loop"])
def test_a_stack_is_taken_apart_by_layer(monkeypatch, most):
    monkeypatch.setattr(tracing, "_MOST_SCANNED", most)
    stack = jnp.ones((5, 3, 3))

    def scanned(x):
        with jax.named_scope("blocks"):
            return jax.lax.scan(lambda y, kernel: (y @ kernel, None), x, stack)[0]

    assert constants_by_layer(trace(scanned, (1, 4, 3))) == {"blocks": 45}
