"""Products by oneDNN inside everything that JAX does with a function, against `lax`."""

from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cnnjax.functional import correlate
from cnnjax.functional.correlation import Correlation
from cnnjax.functional.cpu import choice, onednn, onednn_call

pytestmark = pytest.mark.skipif(not onednn_call._works(), reason="this jaxlib has no oneDNN calls")

CALL = "__onednn$"


@pytest.fixture(autouse=True)
def switched_on(monkeypatch):
    """With the calls, also for small products, in programs of this test's own."""
    monkeypatch.setenv(onednn_call.SWITCH, "1")
    monkeypatch.setattr(choice, "_LEAST_PRODUCTS", 0)
    jax.clear_caches()
    yield
    jax.clear_caches()


def plain(images, kernel):
    return lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def arrays(examples=4):
    random = np.random.default_rng(0)
    images = random.normal(size=(examples, 16, 16, 16)).astype(np.float32)
    return jnp.asarray(images), jnp.asarray(random.normal(size=(3, 3, 16, 16)).astype(np.float32) / 12)


def loss(rule, images, kernel):
    return jnp.mean(jnp.tanh(rule(images, kernel)) ** 2)


def agree(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5 * float(jnp.abs(other).max()))


def in_scan(rule, images, kernel):
    def step(kernel, _):
        return kernel - 0.1 * jax.grad(loss, 2)(rule, images, kernel), None

    return lax.scan(step, kernel, None, length=2)[0]


def in_cond(rule, images, kernel):
    gradient = partial(jax.grad(loss, (1, 2)), rule)
    return lax.cond(images[0, 0, 0, 0] < jnp.inf, gradient, lambda *arrays: arrays, images, kernel)


def in_while(rule, images, kernel):
    return lax.fori_loop(0, 3, lambda _, images: jnp.tanh(rule(images, kernel)), images)


TRANSFORMED = {
    "value": lambda rule, *arrays: rule(*arrays),
    "gradient": lambda rule, *arrays: jax.grad(loss, (1, 2))(rule, *arrays),
    "forward mode": lambda rule, *arrays: jax.jvp(rule, arrays, arrays)[1],
    "second order": lambda rule, images, kernel: jax.jvp(
        lambda kernel: jax.grad(loss, 2)(rule, images, kernel), (kernel,), (kernel,)
    )[1],
    "vmap over images": lambda rule, images, kernel: jax.vmap(rule, (0, None))(
        images.reshape(2, 2, 16, 16, 16), kernel
    ),
    "vmap over kernels": lambda rule, images, kernel: jax.vmap(rule, (None, 0))(images, jnp.stack([kernel, -kernel])),
    "gradients of examples": lambda rule, images, kernel: jax.vmap(
        lambda image: jax.grad(loss, 2)(rule, image[None], kernel)
    )(images),
    "scan": in_scan,
    "cond": in_cond,
    "while": in_while,
    "checkpoint": lambda rule, *arrays: jax.grad(jax.checkpoint(partial(loss, rule)), (0, 1))(*arrays),
}


@pytest.mark.parametrize("transformed", TRANSFORMED.values(), ids=TRANSFORMED.keys())
def test_transformations(transformed):
    given = arrays()
    lowered = jax.jit(partial(transformed, correlate)).lower(*given)
    assert CALL in lowered.as_text()
    agree(lowered.compile()(*given), jax.jit(partial(transformed, plain))(*given))


def test_donated_arrays_are_used_and_right():
    images, kernel = arrays()
    expected = images - plain(images, kernel)
    step = jax.jit(lambda images, kernel: images - correlate(images, kernel), donate_argnums=0)
    for _ in range(2):
        given = jnp.array(images)
        agree(step(given, kernel), expected)
        assert given.is_deleted()


def test_shard_map_calls_on_each_device_and_a_divided_program_does_not():
    images, kernel = arrays(16)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    divided, whole = PartitionSpec("data"), PartitionSpec()

    def gradient(images, kernel):
        return lax.pmean(jax.grad(loss, 2)(correlate, images, lax.pcast(kernel, "data", to="varying")), "data")

    mapped = jax.jit(jax.shard_map(gradient, mesh=mesh, in_specs=(divided, whole), out_specs=whole))
    expected = jax.grad(loss, 2)(plain, images, kernel)
    lowered = mapped.lower(images, kernel)
    assert CALL in lowered.as_text()
    agree(lowered.compile()(images, kernel), expected)
    placed = jax.device_put(images, NamedSharding(mesh, divided)), jax.device_put(kernel, NamedSharding(mesh, whole))
    lowered = jax.jit(partial(jax.grad(loss, 2), correlate)).lower(*placed)
    assert CALL not in lowered.as_text()
    agree(lowered.compile()(*placed), expected)


def test_pmap_calls_on_each_device():
    images, kernel = arrays(8)
    split = images.reshape(8, 1, 16, 16, 16)
    mapped = jax.pmap(partial(jax.grad(loss, 2), correlate), in_axes=(0, None))
    assert CALL in mapped.lower(split, kernel).as_text()
    agree(mapped(split, kernel).mean(0), jax.grad(loss, 2)(plain, images, kernel))


def test_an_exported_program_calls_nothing_of_jaxlib():
    given = arrays()
    for platforms in (("cpu",), ("cpu", "cuda")):
        program = jax.export.export(jax.jit(correlate), platforms=platforms)(*given)
        assert CALL not in program.mlir_module()
        assert "custom_call" not in program.mlir_module()
        agree(jax.export.deserialize(program.serialize()).call(*given), plain(*given))


def test_the_program_that_is_analysed_is_the_same_with_the_calls_and_without(monkeypatch):
    """Analyses read the primitive: what it is lowered to is no part of the program."""
    given = arrays()
    programs = []
    for switch in ("1", "0"):
        monkeypatch.setenv(onednn_call.SWITCH, switch)
        programs.append(str(jax.make_jaxpr(partial(jax.grad(loss, 2), correlate))(*given)))
    assert programs[0] == programs[1]
    assert "correlation[" in programs[0]
    assert "onednn" not in programs[0]


def test_double_precision_is_left_to_xla():
    with jax.enable_x64():
        images, kernel = (jnp.asarray(array, jnp.float64) for array in arrays(1))
        assert CALL not in jax.jit(correlate).lower(images, kernel).as_text()


def test_half_precision_is_computed_in_float32():
    images, kernel = (array.astype(jnp.bfloat16) for array in arrays(1))
    lowered = jax.jit(correlate).lower(images, kernel)
    assert CALL in lowered.as_text()
    assert lowered.compile()(images, kernel).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("result", "form", "possible"),
    [
        ("output", Correlation((8,), (3,), (1,), ((1, 1),), (2,), (1,), 1), False),
        ("images", Correlation((8,), (3,), (2,), ((1, 1),), (1,), (2,), 1), False),
        ("images", Correlation((8,), (3,), (2,), ((1, 1),), (1,), (1,), 1), True),
        ("kernel", Correlation((8,), (3,), (1,), ((1, 1),), (1,), (2,), 1), False),
        ("kernel", Correlation((8, 8), (3, 3), (1, 1), ((1, 1),) * 2, (1, 1), (2, 1), 1), True),
        ("kernel", Correlation((8,), (3,), (1,), ((1, 1),), (1,), (1,), 2), False),
    ],
)
def test_which_products_have_a_form_for_it(result, form, possible):
    assert onednn.is_possible(result, form, 4, 4) is possible


def test_the_kernel_of_channels_that_are_groups():
    form = Correlation((8,), (3,), (2,), ((1, 1),), (1,), (2,), 4)
    assert onednn.is_possible("kernel", form, 4, 4)
    assert not onednn.is_possible("kernel", form, 4, 8)
