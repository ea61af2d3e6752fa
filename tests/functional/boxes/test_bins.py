"""Sums over bins and their transpose: against loops, and derivatives of both orders against plain gathers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cnnjax.functional.boxes.bins import sum_bins
from cnnjax.functional.primitives import REFERENCES


def operands(seed=0, *, boxes=3, pixels=20, channels=2, taps=4, dtype=np.float32):
    generator = np.random.default_rng(seed)
    rows, columns = generator.integers(0, pixels // 2, (2, boxes, 2, taps)).astype(np.int32)
    down, along = generator.normal(size=(2, boxes, 2, taps)).astype(dtype)
    table = generator.normal(size=(pixels, channels)).astype(dtype)
    return tuple(map(jnp.asarray, (table, rows, columns, down, along)))


def by_loop(table, rows, columns, down, along):
    out = np.zeros((*rows.shape[:2], columns.shape[1], table.shape[1]))
    for n, p, q in np.ndindex(*out.shape[:3]):
        for a, b in np.ndindex(rows.shape[2], columns.shape[2]):
            out[n, p, q] += down[n, p, a] * along[n, q, b] * table[rows[n, p, a] + columns[n, q, b]]
    return out


def test_sums_are_the_loop():
    arrays = operands()
    np.testing.assert_allclose(sum_bins(*arrays), by_loop(*map(np.asarray, arrays)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(sum_bins)(*arrays), by_loop(*map(np.asarray, arrays)), rtol=1e-5, atol=1e-6)


def test_derivatives_of_two_orders_and_both_modes():
    with jax.enable_x64(True):
        table, rows, columns, down, along = operands(1, dtype=np.float64)

        def bins(table, down, along):
            return sum_bins(jnp.asarray(table), rows, columns, jnp.asarray(down), jnp.asarray(along)) ** 2

        check_grads(bins, (table, down, along), order=2, modes=("fwd", "rev"), rtol=1e-6)


def test_second_derivatives_are_those_of_plain_gathers():
    (plain,) = (reference for primitive, reference in REFERENCES.items() if primitive.name == "sum_bins")
    table, rows, columns, down, along = operands(2, boxes=2, pixels=8, channels=1)

    def loss(function, table, down):
        return jnp.sum(jnp.sin(function(table, rows, columns, down, along)))

    for transform in (jax.hessian, lambda f, argnums: jax.jacrev(jax.jacrev(f, argnums), argnums)):
        found, expected = (
            transform(lambda table, down, f=function: loss(f, table, down), argnums=(0, 1))(table, down)
            for function in (sum_bins, plain)
        )
        jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5), found, expected)


@pytest.mark.parametrize("axes", [(0, 0, 0, 0, 0), (None, 1, 1, 1, 1), (0, None, None, None, None)])
def test_mapped_sums_and_gradients(axes):
    arrays = operands(3)
    stacked = [
        array if axis is None else jnp.stack([array, array[::-1]], axis)
        for array, axis in zip(arrays, axes, strict=True)
    ]

    def value_and_gradient(*arrays):
        return jax.value_and_grad(lambda table: jnp.sum(sum_bins(table, *arrays[1:]) ** 2))(arrays[0])

    value, gradient = jax.vmap(value_and_gradient, axes)(*stacked)
    for turn in range(2):
        alone = [a if axis is None else jnp.take(a, turn, axis) for a, axis in zip(stacked, axes, strict=True)]
        expected = value_and_gradient(*alone)
        np.testing.assert_allclose(value[turn], expected[0], rtol=1e-5)
        np.testing.assert_allclose(gradient[turn], expected[1], rtol=1e-4, atol=1e-5)


def test_under_shard_map():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    table, *rest = operands(4, boxes=4)

    def loss(table, *rest):
        return jax.lax.pmean(jnp.sum(sum_bins(table, *rest) ** 2), "data")

    across = jax.sharding.PartitionSpec("data")
    whole = jax.sharding.PartitionSpec()
    mapped = jax.shard_map(loss, mesh=mesh, in_specs=(whole, *[across] * 4), out_specs=whole)
    expected = jax.grad(lambda table: jnp.sum(sum_bins(table, *rest) ** 2) / 2)(table)
    np.testing.assert_allclose(jax.jit(jax.grad(mapped))(table, *rest), expected, rtol=1e-4, atol=1e-5)
