"""The primitive against `lax.conv_general_dilated`: every derivative, batching and transformation, and its lowering."""

import re
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cnnjax.functional.convolution import correlate
from cnnjax.functional.correlation import Correlation
from cnnjax.functional.trilinear import product
from tests.functional import correlation_oracle as oracle

REPLICATED, SHARDED = PartitionSpec(), PartitionSpec("data")


def form_of(sizes, window, strides=None, padding=None, input_dilation=None, dilation=None, groups=1):
    ones = (1,) * len(sizes)
    padding = padding or ((0, 0),) * len(sizes)
    return Correlation(sizes, window, strides or ones, padding, input_dilation or ones, dilation or ones, groups)


# Each form with its input and output channels.
FORMS = {
    "plain": (form_of((4, 3), (3, 2), padding=((1, 1), (0, 1))), 2, 3),
    "grouped": (form_of((5, 4), (3, 2), (2, 1), ((1, 0), (1, 0)), groups=2), 4, 6),
    "dilated": (form_of((5,), (3,), (2,), ((2, 2),), (2,), (2,)), 2, 3),
    "depthwise": (form_of((3, 2, 3), (2, 1, 2), (1, 1, 2), groups=3), 3, 6),
}
every_form = pytest.mark.parametrize(("form", "inputs", "outputs"), FORMS.values(), ids=FORMS.keys())
PLAIN, INPUTS, OUTPUTS = FORMS["plain"]


def shapes(form, inputs, outputs, batch=2):
    return {
        "images": (batch, *form.sizes, inputs),
        "kernel": (*form.window, inputs // form.groups, outputs),
        "output": (batch, *form.positions, outputs),
    }


def lax_correlation(form):
    spatial = "DHW"[-len(form.sizes) :]
    return partial(
        lax.conv_general_dilated,
        window_strides=form.strides,
        padding=form.padding,
        lhs_dilation=form.input_dilation,
        rhs_dilation=form.dilation,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        feature_group_count=form.groups,
    )


def lax_product(result, form, shapes):
    """Lax's own rule for each of the three."""
    correlation = lax_correlation(form)

    def images(kernel, output):
        return jax.vjp(lambda x: correlation(x, kernel), jnp.zeros(shapes["images"], kernel.dtype))[1](output)[0]

    def kernel(images, output):
        return jax.vjp(lambda w: correlation(images, w), jnp.zeros(shapes["kernel"], images.dtype))[1](output)[0]

    return {"output": correlation, "images": images, "kernel": kernel}[result]


def our_product(result, form):
    return lambda first, second: product(result, first, second, form)


def assert_close(found, expected, tolerance):
    def compare(path, one, other):
        assert one.shape == other.shape, path
        scale = max(1.0, float(jnp.max(jnp.abs(other)))) * tolerance
        np.testing.assert_allclose(np.float64(one), np.float64(other), rtol=0, atol=scale, err_msg=str(path))

    jax.tree_util.tree_map_with_path(compare, found, expected)


def derivatives(correlation, point, direction, weights):
    """What reverse and forward mode, to third order, make of a correlation and of a curved function of it."""

    def curved(images, kernel):
        return jnp.sum(weights * jnp.sin(correlation(images, kernel)))

    gradient = jax.grad(curved, argnums=(0, 1))

    def along(*point):
        return jax.jvp(gradient, point, direction)[1]

    def slope(*point):
        return sum(map(jnp.vdot, gradient(*point), direction))

    linearized = jax.linearize(correlation, *point)
    return {
        "jvp": jax.jvp(correlation, point, direction),
        "vjp": jax.vjp(correlation, *point)[1](weights),
        "linearize": (linearized[0], linearized[1](*direction)),
        "gradient": gradient(*point),
        "jacfwd": jax.jacfwd(correlation, argnums=1)(*point),
        "jacrev": jax.jacrev(correlation, argnums=(0, 1))(*point),
        "forward over reverse": along(*point),
        "reverse over reverse": jax.grad(slope, argnums=(0, 1))(*point),
        "reverse over forward": jax.grad(lambda *point: jax.jvp(curved, point, direction)[1], argnums=(0, 1))(*point),
        "third order": jax.jvp(along, point, direction)[1],
        "checkpoint": jax.grad(jax.checkpoint(curved), argnums=(0, 1))(*point),
    }


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [*((name, "float64", 1e-13) for name in FORMS), ("grouped", "float32", 2e-5), ("dilated", "float32", 2e-5)],
)
def test_derivatives_of_every_order_and_mode(name, dtype, tolerance):
    form, inputs, outputs = FORMS[name]
    images, kernel, output = shapes(form, inputs, outputs).values()
    values = oracle.arrays(0, images, kernel, images, kernel, output)
    with jax.enable_x64(True):
        *pairs, weights = (jnp.asarray(array, dtype) for array in values)
        found, expected = (
            jax.jit(partial(derivatives, correlation))(tuple(pairs[:2]), tuple(pairs[2:]), weights)
            for correlation in (our_product("output", form), lax_correlation(form))
        )
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(dtype)}
        assert_close(found, expected, tolerance)


@every_form
def test_every_batching_of_every_product(form, inputs, outputs):
    whole = shapes(form, inputs, outputs)
    arrays = oracle.arrays(1, *((3, *shape) for shape in whole.values()))
    values = dict(zip(whole, map(jnp.asarray, arrays), strict=True))

    def batched(rule):
        for result in whole:
            one, other = (values[factor] for factor in whole if factor != result)
            # The mapped axis stands in another place of each operand.
            first, second = jnp.moveaxis(one, 0, 1), jnp.moveaxis(other, 0, -1)
            mapped = rule(result)
            yield jax.vmap(mapped, in_axes=(1, None), out_axes=-1)(first, other[0])
            yield jax.vmap(mapped, in_axes=(None, -1), out_axes=1)(one[0], second)
            yield jax.vmap(mapped, in_axes=(1, -1))(first, second)
            yield jax.vmap(jax.vmap(mapped, in_axes=(None, 0)), in_axes=(0, None))(one[:2], other)

    found = jax.jit(lambda: list(batched(lambda result: our_product(result, form))))()
    expected = jax.jit(lambda: list(batched(lambda result: lax_product(result, form, whole))))()
    assert_close(found, expected, 1e-5)


@every_form
def test_half_precision(form, inputs, outputs):
    eps = float(jnp.finfo(jnp.bfloat16).eps)
    whole = shapes(form, inputs, outputs)
    images, kernel, output = (jnp.asarray(array, jnp.bfloat16) for array in oracle.arrays(2, *whole.values()))

    def products(*factors):
        y, vjp = jax.vjp(our_product("output", form), *factors)
        return (y, *vjp(output))

    def exact(images, kernel, output):
        options = {name: getattr(form, name) for name in ("strides", "padding", "input_dilation", "dilation", "groups")}
        yield oracle.correlate(images, kernel, **options)
        yield oracle.input_adjoint(kernel, output, form.sizes, **options)
        yield oracle.kernel_adjoint(images, output, form.window, **options)

    found = jax.jit(products)(images, kernel)
    magnitudes = exact(*map(abs, (images, kernel, output)))
    for one, other, magnitude in zip(found, exact(images, kernel, output), magnitudes, strict=True):
        assert one.dtype == jnp.bfloat16
        # An error of rounding is relative to what was added up, not to what is left of it.
        assert (np.abs(np.float64(one) - other) <= 2 * eps * magnitude).all()


def test_gradients_of_each_example():
    form, inputs, outputs = FORMS["grouped"]
    whole = shapes(form, inputs, outputs, batch=5)
    images, kernel, output = oracle.arrays(3, *whole.values())

    def loss(kernel, image, weights):
        return jnp.vdot(weights, product("output", image[None], kernel, form)[0])

    found = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0, 0)))(kernel, images, output)
    options = {"strides": form.strides, "padding": form.padding, "groups": form.groups}
    for index, gradient in enumerate(found):
        example = slice(index, index + 1)
        expected = oracle.kernel_adjoint(images[example], output[example], form.window, **options)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5)


def test_within_control_flow():
    form = form_of((4, 4), (3, 3), padding=((1, 1), (1, 1)))
    images, kernels, direction, tangent = map(
        jnp.asarray, oracle.arrays(4, (2, 4, 4, 2), (3, 3, 3, 2, 2), (2, 4, 4, 2), (3, 3, 3, 2, 2))
    )

    def block(correlation, images, kernel):
        return jnp.tanh(correlation(images, kernel))

    def scanned(body, images, kernels):
        return jnp.sum(lax.scan(lambda x, w: (body(x, w), None), images, kernels)[0] ** 2)

    def chosen(body, images, kernels):
        return jnp.sum(lax.cond(images[0, 0, 0, 0] < 9, body, lambda x, w: x, images, kernels[0]) ** 2)

    def repeated(body, images, kernels):
        step = lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, body(s[1], kernels[0])), (0, images))
        return jnp.sum(step[1] ** 2)

    def every(correlation):
        body = partial(block, correlation)
        remembered = partial(scanned, jax.checkpoint(body))
        for function in (partial(scanned, body), remembered, partial(chosen, body)):
            yield jax.value_and_grad(function, argnums=(0, 1))(images, kernels)
        yield jax.jvp(partial(repeated, body), (images, kernels), (direction, tangent))
        yield jax.jvp(jax.grad(remembered, argnums=1), (images, kernels), (direction, tangent))

    found = jax.jit(lambda: list(every(our_product("output", form))))()
    assert_close(found, jax.jit(lambda: list(every(lax_correlation(form))))(), 1e-5)


def eight_devices():
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


def loss(correlation, kernel, images):
    return jnp.mean(jnp.sin(correlation(images, kernel)))


def test_gradients_on_eight_devices():
    mesh = eight_devices()
    kernel, images, direction = oracle.arrays(
        5, (*PLAIN.window, INPUTS, OUTPUTS), (16, *PLAIN.sizes, INPUTS), (*PLAIN.window, INPUTS, OUTPUTS)
    )
    whole, reference = (
        partial(loss, correlation) for correlation in (our_product("output", PLAIN), lax_correlation(PLAIN))
    )

    def derivatives(function, kernel, images):
        gradient = jax.grad(function, argnums=(0, 1))
        return (
            jax.value_and_grad(function, argnums=(0, 1))(kernel, images),
            jax.jvp(lambda w: gradient(w, images), (kernel,), (direction,))[1],
        )

    def pooled(kernel, images):
        return lax.pmean(whole(kernel, images), "data")

    expected = jax.jit(partial(derivatives, reference))(kernel, images)
    pair = (REPLICATED, SHARDED)
    # The check of what varies is what puts the sum over devices into the gradient of a replicated kernel.
    mapped = jax.shard_map(
        partial(derivatives, pooled),
        mesh=mesh,
        in_specs=pair,
        out_specs=((REPLICATED, pair), pair),
        check_vma=True,
    )
    assert_close(jax.jit(mapped)(kernel, images), expected, 1e-6)

    placed = [
        jax.device_put(array, NamedSharding(mesh, spec)) for array, spec in zip((kernel, images), pair, strict=True)
    ]
    compiled = jax.jit(jax.grad(whole)).lower(*placed).compile()
    np.testing.assert_allclose(compiled(*placed), expected[0][1][0], rtol=1e-5, atol=1e-7)
    # The kernel's gradient is summed over the devices, and the images stay where they are.
    collectives = Counter(re.findall(r" (all-\w+|collective-\w+|reduce-scatter)(?:-start)?\(", compiled.as_text()))
    assert collectives == {"all-reduce": 1}


def operations(program, platform, *arguments):
    """The StableHLO operations of a lowered program, and everything that is said of its convolutions."""
    text = jax.jit(program).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    convolutions = re.findall(r"stablehlo\.convolution\(.*?\)(.*)", text)
    return Counter(re.findall(r"stablehlo\.\w+", text)), Counter(convolutions)


LOWERED = {
    **FORMS,
    "strided": (form_of((9, 8), (3, 3), (2, 2), ((1, 1), (1, 1))), 4, 8),
    "pointwise": (form_of((7, 7), (1, 1)), 4, 8),
}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize(("form", "inputs", "outputs"), LOWERED.values(), ids=LOWERED.keys())
def test_accelerators_run_the_plain_convolution(form, inputs, outputs, platform):
    images, kernel, output = (
        jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes(form, inputs, outputs).values()
    )

    def programs(correlation):
        yield correlation, (images, kernel)
        yield lambda x, w, y: jax.vjp(lambda x: correlation(x, w), x)[1](y), (images, kernel, output)
        yield lambda x, w, y: jax.vjp(lambda w: correlation(x, w), w)[1](y), (images, kernel, output)
        yield lambda x, w, y: jax.vjp(correlation, x, w)[1](y), (images, kernel, output)
        yield lambda x, w, dx, dw: jax.jvp(correlation, (x, w), (dx, dw)), (images, kernel, images, kernel)

    pairs = zip(programs(our_product("output", form)), programs(lax_correlation(form)), strict=True)
    for count, ((ours, arguments), (plain, _)) in enumerate(pairs):
        names, convolutions = operations(ours, platform, *arguments)
        assert (names, convolutions) == operations(plain, platform, *arguments)
        assert convolutions.total() == (1, 1, 1, 2, 3)[count]


def test_without_jit():
    images, kernel = map(jnp.asarray, oracle.arrays(7, (2, 5, 5, 2), (3, 3, 2, 3)))
    expected = jax.value_and_grad(partial(loss, correlate))(kernel, images)
    with jax.disable_jit():
        found = jax.value_and_grad(partial(loss, correlate))(kernel, images)
    assert_close(found, expected, 1e-6)


def test_exported_programs_run_alone():
    images, kernel = oracle.arrays(6, (2, 5, 5, 2), (3, 3, 2, 3))
    program = jax.jit(jax.grad(partial(loss, correlate)))
    exported = export.export(program, platforms=("cpu", "cuda"))(kernel, images)
    np.testing.assert_array_equal(exported.call(kernel, images), program(kernel, images))


def collectives(function, *arrays, out_shardings):
    """Which collectives the compiled program has, with how many numbers they move."""
    text = jax.jit(function, out_shardings=out_shardings).lower(*arrays).compile().as_text()
    found = Counter()
    for moved, name in re.findall(r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute)(?:-start)?\(", text):
        shapes = re.findall(r"f32\[([\d,]+)\]", moved)
        found[name] += sum(np.prod([int(size) for size in shape.split(",")]) for shape in shapes)
    return found


@pytest.mark.parametrize(
    ("groups", "window", "channels"),
    [(1, 3, 4), (1, 1, 8), (8, 3, 8), (2, 3, 4)],
    ids=["dense", "1x1", "depthwise", "grouped"],
)
def test_a_divided_batch_moves_no_more_than_with_lax(groups, window, channels, monkeypatch):
    monkeypatch.setattr("cnnjax.functional.cpu.product.XLA_CACHE_BYTES", 512)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    divided, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    images = jax.ShapeDtypeStruct((16, 8, 8, channels), jnp.float32, sharding=divided)
    kernel = jax.ShapeDtypeStruct((window, window, channels // groups, 8), jnp.float32, sharding=whole)

    def plain(images, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups
        )

    ours, plains = (
        collectives(
            jax.grad(lambda *operands, rule=rule: jnp.sum(jnp.square(rule(*operands))), (0, 1)),
            images,
            kernel,
            out_shardings=(divided, whole),
        )
        for rule in (partial(correlate, groups=groups), plain)
    )
    assert ours == {"all-reduce": window**2 * channels // groups * 8}
    # XLA gathers the batch before it convolves in groups.
    assert ours == plains or (groups > 1 and plains["all-gather"] > 0)


def test_a_mesh_divided_by_hand_along_one_axis_only(monkeypatch):
    monkeypatch.setattr("cnnjax.functional.cpu.product.XLA_CACHE_BYTES", 512)
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    divided, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    images = jax.ShapeDtypeStruct((16, 8, 8, 4), jnp.float32, sharding=divided)
    kernel = jax.ShapeDtypeStruct((3, 3, 4, 8), jnp.float32, sharding=whole)

    def gradient(images, kernel):
        return jax.grad(lambda kernel: jnp.sum(jnp.square(correlate(images, kernel))))(kernel)

    specs = {"in_specs": PartitionSpec(), "out_specs": PartitionSpec(), "axis_names": {"model"}}
    mapped = jax.shard_map(gradient, mesh=mesh, **specs)
    assert collectives(mapped, images, kernel, out_shardings=whole) == {"all-reduce": 9 * 4 * 8}


def test_nothing_mapped():
    def kernels(images, cotangent):
        return jax.vmap(lambda image, given: product("kernel", image, given, form_of((4, 4), (3, 3))))(
            images, cotangent
        )

    assert jax.vmap(correlate, (0, None))(jnp.ones((0, 2, 4, 4, 3)), jnp.ones((3, 3, 3, 5))).shape == (0, 2, 4, 4, 5)
    assert kernels(jnp.ones((0, 2, 4, 4, 3)), jnp.ones((0, 2, 2, 2, 5))).shape == (0, 3, 3, 3, 5)
