"""A primitive of two faces: which one runs where, how it is typed, and what it says of meshes it cannot serve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cnnjax.functional import correlate, max_pool
from cnnjax.functional.primitives import REFERENCES, define, like, vary_alike


def double(array, *, times):
    return array * (2.0 * times)


def double_by_adding(array, *, times):
    return sum([array + array] * times, jnp.zeros_like(array))


@pytest.fixture(scope="module")
def doubled():
    primitive = define("doubled", double, cpu=double_by_adding)
    primitive.def_abstract_eval(lambda array, *, times: like(array, array.shape))
    yield primitive
    del REFERENCES[primitive]


def test_runs_by_itself_compiled_and_without_jit(doubled):
    def run(array):
        return doubled.bind(array, times=3)

    with jax.disable_jit():
        uncompiled = run(jnp.ones(2))
    for found in (run(jnp.ones(2)), jax.jit(run)(jnp.ones(2)), uncompiled):
        assert found.tolist() == [6.0, 6.0]


@pytest.mark.parametrize(("platform", "operation"), [("cpu", "add"), ("cuda", "multiply"), ("tpu", "multiply")])
def test_each_platform_has_its_face(doubled, platform, operation):
    traced = jax.jit(lambda array: doubled.bind(array, times=3)).trace(jax.ShapeDtypeStruct((2,), jnp.float32))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    found = {name for name in ("add", "multiply") if f"stablehlo.{name}" in text}
    assert found == {operation}


def test_the_reference_is_known(doubled):
    assert REFERENCES[doubled](jnp.ones(2), times=3).tolist() == [6.0, 6.0]


def test_operands_vary_alike_under_shard_map():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    fixed = jnp.arange(3.0)

    def count(part):
        one, other = vary_alike(part, fixed)
        assert vary_alike(other, one)[0] is other
        # What varies can be summed over the mesh; what does not is refused by `psum`'s type rule.
        return jax.lax.psum(other, "data")

    specs = {"in_specs": PartitionSpec("data"), "out_specs": PartitionSpec()}
    found = jax.jit(jax.shard_map(count, mesh=mesh, **specs))(jnp.ones((8, 3)))
    assert found.tolist() == [0.0, 8.0, 16.0]


@pytest.mark.parametrize(
    "operation",
    [lambda images: correlate(images, jnp.ones((3, 3, 2, 2))), lambda images: max_pool(images, 2)],
    ids=["correlate", "max_pool"],
)
def test_explicit_meshes_are_refused_with_the_cure(operation):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    images = jax.device_put(jnp.ones((8, 4, 4, 2)), NamedSharding(mesh, PartitionSpec("data")))
    with jax.sharding.set_mesh(mesh), pytest.raises(ValueError, match=r"axis_types=\(AxisType.Auto,\)"):
        jax.jit(operation)(images)


def test_automatic_meshes_are_served():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    images = np.random.default_rng(0).normal(size=(8, 4, 4, 2)).astype(np.float32)
    placed = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    np.testing.assert_allclose(jax.jit(lambda x: max_pool(x, 2))(placed), images.reshape(8, 2, 2, 2, 2, 2).max((2, 4)))
