"""Programs run again in part: equal to the function, pruned, from the middle, with equations computed otherwise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.analysis.interpreter import evaluate, rectifiers
from cnnjax.analysis.tracing import trace_call
from tests.analysis.goldens_net import IMAGES, net


def outputs(program):
    return [value for _, value in program.outputs]


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "googlenet_bn"])
@pytest.mark.usefixtures("unchecked_types")
def test_equals_the_model(name):
    model = models.create(name, num_classes=3)
    shape = (2, *models.image_shape(name)) if name != "googlenet_bn" else (1, 65, 65, 3)
    images = jax.random.normal(jax.random.key(0), shape)
    variables = models.initialize(jax.random.key(1), model, images)

    def function(images):
        return model.apply(variables, images)

    program = trace_call(function, images)
    found = jax.jit(lambda images: evaluate(program, [images], outputs(program)))(images)
    np.testing.assert_allclose(found[0], jax.jit(function)(images), rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_the_function():
    program = trace_call(net, IMAGES)
    found = jax.grad(lambda images: evaluate(program, [images], outputs(program))[0].sum())(IMAGES)
    np.testing.assert_allclose(found, jax.grad(lambda images: net(images).sum())(IMAGES), rtol=1e-5, atol=1e-7)


def test_a_rectifier_has_no_slope_at_zero():
    program = trace_call(jax.nn.relu, jnp.zeros((1, 2, 1)))
    (slope,) = jax.grad(lambda x: evaluate(program, [x], outputs(program))[0].sum())(jnp.zeros((1, 2, 1)))[..., 0]
    np.testing.assert_array_equal(slope, [0, 0])


def test_what_is_not_needed_is_not_computed():
    def function(x):
        y = jnp.sin(x)
        return y, jnp.cos(y), jnp.tan(x)

    program, seen = trace_call(function, jnp.ones((1, 2, 1))), []

    def note(equation, arrays):
        seen.append(equation.primitive)

    evaluate(program, [jnp.ones((1, 2, 1))], outputs(program)[1:2], replace=note)
    assert seen == ["sin", "cos"]
    seen.clear()
    value = outputs(program)[0]
    (found,) = evaluate(program, [None], outputs(program)[1:2], given={value: jnp.zeros(())}, replace=note)
    assert seen == ["cos"]
    assert found == 1


def test_equations_may_be_computed_otherwise():
    program = trace_call(lambda x: jnp.sin(x) + 1, jnp.ones((1, 2, 1)))

    def doubled(equation, arrays):
        return [2 * arrays[0]] if equation.primitive == "sin" else None

    (found,) = evaluate(program, [jnp.full((1, 2, 1), 3.0)], outputs(program), replace=doubled)
    np.testing.assert_array_equal(found, np.full((1, 2, 1), 7.0))


def test_loops_and_choices_run():
    def function(x):
        x = jax.lax.fori_loop(0, 3, lambda i, y: y * 2, x)
        x = jax.lax.while_loop(lambda y: y.sum() < 100, lambda y: y + 1, x)
        return jax.lax.cond(x.sum() > 3, lambda y: -y, lambda y: y, x)

    x = jnp.ones((1, 2, 1))
    program = trace_call(function, x)
    np.testing.assert_array_equal(evaluate(program, [x], outputs(program))[0], function(x))


@jax.custom_vjp
def reversed_gradient(x):
    """The identity, whose derivative is -1."""
    return x


reversed_gradient.defvjp(lambda x: (x, None), lambda _, g: (-g,))


@jax.custom_jvp
def rounded(x):
    """Rounding, whose derivative is that of the identity."""
    return jnp.round(x)


rounded.defjvp(lambda primals, tangents: (jnp.round(*primals), tangents[0]))


@pytest.mark.parametrize("middle", [reversed_gradient, rounded, jax.nn.softplus, jax.nn.silu], ids=lambda f: f.__name__)
def test_derivatives_of_its_own_are_kept(middle):
    def function(x):
        with jax.named_scope("maps"):
            x = jnp.sin(x)
        return middle(3 * x)

    images = jnp.linspace(-2, 2, 6).reshape(1, 6, 1)
    program = trace_call(function, images)
    (layer,) = program.matching("maps")

    def through(x):
        return evaluate(program, [x], outputs(program))[0].sum()

    np.testing.assert_allclose(jax.grad(through)(images), jax.grad(lambda x: function(x).sum())(images), rtol=1e-5)
    # From a layer on, too.
    maps = jnp.sin(images)
    found = jax.grad(lambda maps: evaluate(program, [images], outputs(program), given={layer.value: maps})[0].sum())(
        maps
    )
    np.testing.assert_allclose(found, jax.grad(lambda maps: middle(3 * maps).sum())(maps), rtol=1e-5)


def test_a_value_inside_of_a_call_is_found_all_the_same():
    @jax.custom_jvp
    def inner(x):
        with jax.named_scope("hidden"):
            x = jnp.sin(x)
        return 2 * x

    inner.defjvp(lambda primals, tangents: (inner(*primals), tangents[0]))
    program = trace_call(lambda x: inner(x) + 1, jnp.ones((1, 2, 1)))
    (layer,) = program.matching("hidden")
    (found,) = evaluate(program, [jnp.ones((1, 2, 1))], [layer.value])
    np.testing.assert_allclose(found, np.sin(np.ones((1, 2, 1))), rtol=1e-6)


def test_rectifiers_are_not_looked_for_inside_of_other_functions():
    def count(function):
        return len(rectifiers(trace_call(function, jnp.ones((1, 2, 1)))))

    assert count(lambda x: jax.nn.relu(x) + jnp.maximum(x, 0)) == 2
    # The logarithm of a sum of exponentials holds the greater of a value and zero.
    assert count(jax.nn.softplus) == 0
