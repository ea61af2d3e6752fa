"""Programs written flat: what layers are called, what calls become, and which values depend on the image."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import layers, models
from cnnjax.analysis import receptive_field, tracing
from cnnjax.analysis.tracing import trace, trace_call

SHAPE = (2, 4, 3)


def scoped(x):
    with jax.named_scope("outer"):
        with jax.named_scope("first"):
            x = jnp.tanh(x)
        with jax.named_scope("second"):
            return jnp.sin(x)


def names(function, shape=SHAPE):
    return [layer.name for layer in trace(function, shape).layers()]


def primitives(function, shape=SHAPE):
    return [equation.primitive for equation in trace(function, shape).equations]


def test_a_users_outer_scope_is_kept():
    assert names(scoped) == ["outer", "outer/first", "outer/second"]


def test_names_carry_no_vmap():
    assert names(jax.vmap(scoped)) == ["outer", "outer/first", "outer/second"]
    assert names(jax.vmap(jax.vmap(scoped))) == ["outer", "outer/first", "outer/second"]


@pytest.mark.parametrize(
    "transform", [jax.grad, lambda f: jax.vmap(jax.grad(f)), lambda f: jax.jit(jax.grad(jax.checkpoint(f)))]
)
def test_names_carry_no_grad(transform):
    found = names(transform(lambda x: scoped(x).sum()))
    assert {"outer", "outer/first", "outer/second"} <= {*found}
    # Backward, the scopes are entered again.
    parts = {part for name in found for part in name.split(" (")[0].split("/")}
    assert {"outer", "first", "second"} <= parts
    for word in ("vmap", "jvp", "transpose(", "grad"):
        assert not any(word in name for name in found)


def test_a_scope_entered_again_is_numbered():
    def twice(x):
        with jax.named_scope("a"):
            x = jnp.tanh(x)
        with jax.named_scope("b"):
            x = jnp.tanh(x)
        with jax.named_scope("a"):
            return jnp.tanh(x)

    assert names(twice) == ["a", "b", "a (2)"]


def test_unnamed_work_is_named_after_its_primitive():
    assert names(lambda x: jnp.tanh(x @ jnp.ones((3, 2))).sum(1)) == ["dot_general", "reduce_sum"]
    assert names(lambda x: x @ jnp.ones((3, 3)) @ jnp.ones((3, 3))) == ["dot_general", "dot_general (2)"]


def test_a_flax_models_class_name_is_left_out():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layers.Dense(2, name="dense")(nn.tanh(x))

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layers.Dense(1, name="head")(Net(name="net")(x))

    assert names(Net()) == ["dense"]
    assert names(Outer()) == ["net", "net/dense", "head"]


def test_what_the_image_does_not_reach_is_no_layer():
    def function(x):
        with jax.named_scope("weights"):
            kernel = jnp.cos(jnp.ones((3, 3)))
        with jax.named_scope("product"):
            return x @ kernel

    assert "cos" in primitives(function)
    assert names(function) == ["product"]


def test_calls_are_written_out():
    @jax.custom_vjp
    def clipped(x):
        with jax.named_scope("inside"):
            return jnp.sin(x)

    clipped.defvjp(lambda x: (clipped(x), None), lambda _, g: (g,))

    @jax.custom_jvp
    def smooth(x):
        return jnp.cos(x)

    smooth.defjvp(lambda x, t: (smooth(*x), t[0]))
    assert primitives(jax.jit(clipped)) == ["sin"]
    assert names(clipped) == ["inside"]
    assert primitives(jax.jit(smooth)) == ["cos"]
    assert primitives(jax.checkpoint(lambda x: jnp.tanh(clipped(x)))) == ["sin", "tanh"]


def test_values_are_wired_through_calls():
    inner = jax.jit(lambda a, b: (b, a * b))
    program = trace(lambda x: inner(jnp.sin(x), jnp.cos(x)), SHAPE)
    sin, cos, mul = program.equations
    assert (sin.primitive, cos.primitive, mul.primitive) == ("sin", "cos", "mul")
    assert sin.inputs == cos.inputs == (program.image,)
    assert mul.inputs == (*sin.outputs, *cos.outputs)
    assert program.outputs == (("[0]", cos.outputs[0]), ("[1]", mul.outputs[0]))


def test_literals_depend_on_nothing():
    program = trace(lambda x: x * 2.0 + 2.0, SHAPE)
    product, total = program.equations
    known = {program.image, *product.outputs}
    constants = [value for value in (*product.inputs, *total.inputs) if value not in known]
    assert len({*constants}) == 2
    assert [program.shapes[value] for value in constants] == [(), ()]
    depends = program.depends()
    assert [depends[value] for value in (program.image, *product.outputs, *total.outputs)] == [True, True, True]
    assert not any(depends[value] for value in constants)


def test_outputs_are_named_by_their_path():
    def function(x):
        return {"b": (jnp.sin(x), x), "a": 3.0 * x.sum(), "c": jnp.float32(1.0)}

    program = trace(function, SHAPE)
    assert [name for name, _ in program.outputs] == ["['a']", "['b'][0]", "['b'][1]", "['c']"]
    found = dict(program.outputs)
    assert found["['b'][1]"] == program.image
    assert program.shapes[found["['a']"]] == ()
    assert program.shapes[found["['b'][0]"]] == SHAPE
    assert not program.depends()[found["['c']"]]
    assert [name for name, _ in trace(jnp.sin, SHAPE).outputs] == [""]


@pytest.mark.parametrize("shape", [(2, 3), (2, 0, 3), (3,)])
def test_shapes_without_spatial_axes_are_refused(shape):
    with pytest.raises(ValueError, match="has no spatial axes"):
        trace(jnp.sin, shape)


def test_scans_are_written_out():
    """Turns in order, what is carried, what each turn takes and gives; backwards too."""
    weights = jnp.arange(1.0, 4.0)

    def function(x):
        return jax.lax.scan(lambda carry, weight: (carry * weight, jnp.sin(carry)), x, weights, reverse=True)

    program = trace(function, SHAPE)
    assert "scan" not in {equation.primitive for equation in program.equations}
    assert [equation.primitive for equation in program.equations].count("sin") == 3
    (_, carried), (_, collected) = program.outputs
    assert program.shapes[carried] == SHAPE
    assert program.shapes[collected] == (3, *SHAPE)
    stack = next(equation for equation in program.equations if equation.outputs == (collected,))
    sines = [equation.outputs[0] for equation in program.equations if equation.primitive == "sin"]
    # The last element's turn comes first.
    assert list(stack.inputs) == sines[::-1]
    assert len(receptive_field(function, SHAPE).unknown) == 0


@pytest.mark.parametrize(
    "function",
    [lambda x: x if x.sum() > 0 else -x, lambda x: x[x > 0], lambda x: np.sin(x), lambda x: jnp.zeros(int(x.sum()))],
    ids=["if", "boolean index", "NumPy", "int"],
)
def test_functions_that_ask_for_values_are_refused(function):
    with pytest.raises(ValueError, match=r"asks for the values of its input.*write `if` as jnp.where"):
        trace(function, SHAPE)


def test_a_model_needs_variables():
    with pytest.raises(
        ValueError, match=r"the model ConvNet came without its variables; pass .* models\.bind\(model, variables\)"
    ):
        trace_call(models.ConvNet(), jnp.ones(SHAPE))


def test_one_picture_without_a_batch_axis_is_explained():
    with pytest.raises((TypeError, ValueError)) as raised:
        trace_call(lambda x: jax.lax.conv(x, jnp.ones((1, 1, 1, 1)), (1, 1), "SAME"), jnp.ones((8, 8, 1)))
    assert any("where it is one picture, give it a batch axis, images[None]" in note for note in raised.value.__notes__)


def test_a_loop_hands_on_its_maps_not_its_counter():
    def function(x):
        with jax.named_scope("loop"):
            x, _ = jax.lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] * 2, c[1] + x.sum()), (x, x.sum()))
        return x + 1

    program = trace(function, SHAPE)
    (layer,) = program.matching("loop")
    assert program.shapes[layer.value] == SHAPE


def test_a_function_is_read_anew_where_what_it_closes_over_has_changed():
    weights = [jnp.ones(SHAPE)]

    def function(x):
        return x * weights[0]

    for value in (1.0, 5.0):
        weights[0] = jnp.full(SHAPE, value)
        (known,) = trace(function, SHAPE).constants.values()
        assert float(known.max()) == value


def test_methods_and_classes_are_no_functions_of_pictures():
    model = models.ConvNet(num_classes=3, features=(8,), hidden=(16,))
    for shape_or_pictures in ((2, 8, 8, 1), jnp.zeros((2, 8, 8, 1))):
        trace_it = trace if isinstance(shape_or_pictures, tuple) else trace_call
        with pytest.raises(ValueError, match="the method apply of the model ConvNet came, which takes variables too"):
            trace_it(model.apply, shape_or_pictures)
        with pytest.raises(ValueError, match="the class ConvNet came; make a model of it"):
            trace_it(models.ConvNet, shape_or_pictures)


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((8, 8, 1), r"where it is one picture, give it a batch axis, images\[None\]; .* images\[..., None\]"),
        ((2, 1, 3, 8), r"with 8 channels; where channels come first, move them, jnp.moveaxis\(images, 1, -1\)"),
    ],
    ids=["axes", "channels first"],
)
def test_how_axes_are_read_is_told(shape, hint):
    kernel = jnp.ones((3, 3, 1, 2))

    def net(x):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    for function in (net, models.create("lenet5")):
        with pytest.raises((TypeError, ValueError)) as caught:
            trace(function, shape)
        assert re.search(hint, " ".join(caught.value.__notes__))


@pytest.mark.usefixtures("unchecked_types")
def test_what_is_no_function_or_shape_is_refused():
    with pytest.raises(ValueError, match="a str came, which is no function; pass a function of pictures"):
        trace("lenet5", SHAPE)
    with pytest.raises(ValueError, match=r"an array of shape \(2, 4, 3\) came; expected a shape"):
        trace(jnp.sin, jnp.ones(SHAPE))


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("shape", [32, (1, 32.0, 32, 1), "abc"])
def test_shapes_are_whole_numbers(shape):
    with pytest.raises(ValueError, match=r"expected whole numbers \(batch, \*spatial, channels\)"):
        trace(jnp.sin, shape)


def test_constants_are_worked_out_when_asked():
    def function(x):
        places = jnp.arange(4) * 2
        return x * jnp.cos(places).sum(), places

    program = trace(function, SHAPE)
    (_, product), (_, places) = program.outputs
    np.testing.assert_array_equal(program.constant(places), [0, 2, 4, 6])
    assert program.constant(product) is None
    assert program.constant(program.image) is None


def test_layers_are_found_by_pattern():
    program = trace(scoped, SHAPE)
    assert [layer.name for layer in program.matching("outer/*")] == ["outer/first", "outer/second"]
    with pytest.raises(ValueError, match="no layer matches 'outer/frist'; there are outer/first"):
        program.matching("outer/frist")


def test_scans_too_long_to_write_out_stay_one_equation(monkeypatch):
    monkeypatch.setattr(tracing, "_MOST_SCANNED", 5)
    program = trace(lambda x: jax.lax.fori_loop(0, 10, lambda _, value: jnp.sin(value), x), SHAPE)
    assert "scan" in {equation.primitive for equation in program.equations}


def test_one_output_is_expected():
    program = trace_call(lambda x: {"a": x, "b": x}, jnp.ones((1, 2, 1)))
    with pytest.raises(ValueError, match=r"gives 2 arrays \(\['a'\], \['b'\]\); expected one: choose it"):
        program.only_output()


def test_one_layer_by_name():
    program = trace(scoped, SHAPE)
    assert program.layer("outer/second").name == "outer/second"
    with pytest.raises(ValueError, match=r"'\*r\*' matches outer, outer/first, outer/second; expected one of them"):
        program.layer("*r*")
