"""The extrema of windows and their derivatives against `lax.reduce_window` and its own, and against loops in NumPy."""

import math
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec

from cnnjax.functional.extrema import (
    Windows,
    extremum,
    extremum_along,
    put,
    reference_extremum,
    reference_extremum_along,
    reference_put,
    reference_take,
    take,
)


def windows(size, strides, padding, dilation=None):
    """Along the spatial axes; none along batch and channels."""
    dilation = dilation or (1,) * len(size)
    return Windows((1, *size, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0)), (1, *dilation, 1))


CASES = {
    "2x2/2": ((8, 6), windows((2, 2), (2, 2), ((0, 0), (0, 0)))),
    "3x3/2 padded": ((7, 8), windows((3, 3), (2, 2), ((1, 1), (0, 1)))),
    "3x3/1": ((5, 6), windows((3, 3), (1, 1), ((1, 1), (1, 1)))),
    "5x4/3, axis by axis": ((11, 9), windows((5, 4), (3, 1), ((2, 2), (0, 3)))),
    "stride beyond the window": ((9, 7), windows((2, 1), (3, 4), ((0, 0), (0, 0)))),
    "1-D": ((9,), windows((3,), (2,), ((2, 0),))),
    "3-D": ((4, 5, 6), windows((2, 3, 2), (2, 1, 3), ((0, 0), (1, 1), (1, 0)))),
    "identity": ((3, 4), windows((1, 1), (1, 1), ((0, 0), (0, 0)))),
}
BOTH = pytest.mark.parametrize("largest", [True, False], ids=["max", "min"])
ALL = pytest.mark.parametrize("case", CASES)


def plain(images, form, largest):
    worst, combine = (-math.inf, lax.max) if largest else (math.inf, lax.min)
    return lax.reduce_window(images, worst, combine, **vars(form))


def integers(seed, shape, low=-9, high=9):
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.float32)


def distinct(seed, shape, dtype=jnp.float32):
    """No ties, and few enough to be exact in bfloat16."""
    return jnp.asarray(np.random.default_rng(seed).permutation(math.prod(shape)).reshape(shape) - 20, dtype)


def by_loops(images, form, largest, tangent):
    """Values, tangents and places of the first extrema in row-major order, window by window."""
    images, tangent = np.asarray(images), np.asarray(tangent)
    shape = form.positions(images.shape)
    values, taken = np.empty(shape, images.dtype), np.empty(shape, images.dtype)
    places = np.empty(shape, object)
    for position in np.ndindex(*shape):
        best = None
        for tap in np.ndindex(*form.window_dimensions):
            place = tuple(
                p * stride - before + t * dilation
                for p, stride, (before, _), t, dilation in zip(
                    position, form.window_strides, form.padding, tap, form.window_dilation, strict=True
                )
            )
            if any(not 0 <= each < size for each, size in zip(place, images.shape, strict=True)):
                continue
            value = images[place]
            better = best is None or (value > images[best] if largest else value < images[best])
            if better or (np.isnan(value) and not np.isnan(images[best])):
                best = place
        values[position], taken[position], places[position] = images[best], tangent[best], best
    return values, taken, places


@BOTH
@ALL
def test_ties_go_to_the_first_as_in_xla(case, largest):
    sizes, form = CASES[case]
    images = integers(0, (2, *sizes, 2), 0, 3)
    # 0.0 and -0.0 are equal.
    images = jnp.asarray(np.where(images == 0, np.copysign(0.0, integers(1, images.shape) + 0.5), images), jnp.float32)
    pooled, pull = jax.vjp(partial(plain, form=form, largest=largest), images)
    cotangent = jnp.asarray(integers(2, pooled.shape))
    np.testing.assert_array_equal(extremum(images, form, largest=largest), pooled)
    _, own_pull = jax.vjp(lambda x: extremum(x, form, largest=largest), images)
    np.testing.assert_array_equal(own_pull(cotangent)[0], pull(cotangent)[0])


@BOTH
@ALL
def test_equals_loops(case, largest):
    sizes, form = CASES[case]
    images, tangent = jnp.asarray(integers(3, (2, *sizes, 2), 0, 3)), jnp.asarray(integers(4, (2, *sizes, 2)))
    values, taken, places = by_loops(images, form, largest, tangent)
    np.testing.assert_array_equal(extremum(images, form, largest=largest), values)
    np.testing.assert_array_equal(take(tangent, images, form, largest=largest), taken)
    cotangent = integers(5, values.shape)
    expected = np.zeros(images.shape, np.float32)
    for position in np.ndindex(*values.shape):
        expected[places[position]] += cotangent[position]
    np.testing.assert_array_equal(put(jnp.asarray(cotangent), images, form, largest=largest), expected)


@pytest.mark.parametrize("rule", [put, reference_put], ids=["put", "reference_put"])
def test_dilation_which_lax_cannot_differentiate(rule):
    form = windows((3, 2), (2, 1), ((2, 1), (0, 2)), (2, 3))
    images = jnp.asarray(integers(6, (2, 8, 7, 2), 0, 4))
    values, taken, places = by_loops(images, form, True, images * 2)
    np.testing.assert_array_equal(extremum(images, form, largest=True), values)
    np.testing.assert_array_equal(take(images * 2, images, form, largest=True), taken)
    expected = np.zeros(images.shape, np.float32)
    for place in places.flat:
        expected[place] += 1
    np.testing.assert_array_equal(rule(jnp.ones(values.shape), images, windows=form, largest=True), expected)


@BOTH
def test_windows_of_nothing_but_infinity_as_in_xla(largest):
    worst = -np.inf if largest else np.inf
    for case in ("2x2/2", "3x3/2 padded", "3-D"):
        sizes, form = CASES[case]
        images = jnp.full((1, *sizes, 1), worst, jnp.float32)
        pooled, pull = jax.vjp(partial(plain, form=form, largest=largest), images)
        _, own_pull = jax.vjp(lambda x, form=form: extremum(x, form, largest=largest), images)
        cotangent = jnp.asarray(integers(7, pooled.shape))
        np.testing.assert_array_equal(own_pull(cotangent)[0], pull(cotangent)[0])


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_nan_is_kept_in_large_batches_and_takes_the_gradient(dtype, largest):
    # XLA's own loses NaN from about this size on.
    with jax.enable_x64(dtype == "float64"):
        generator = np.random.default_rng(8)
        images = generator.normal(size=(144, 12, 12, 3))
        images[generator.random(images.shape) < 0.1] = np.nan
        images = jnp.asarray(images, dtype)
        form = windows((2, 2), (2, 2), ((0, 0), (0, 0)))
        values, taken, _ = by_loops(images.astype(float), form, largest, np.arange(images.size).reshape(images.shape))
        pool = partial(extremum, windows=form, largest=largest)
        pooled = jax.jit(pool)(images)
        assert pooled.dtype == dtype
        np.testing.assert_array_equal(pooled.astype(float), values)
        mapped = jax.jit(jax.vmap(lambda image: pool(image[None])[0]))(images)
        np.testing.assert_array_equal(mapped.astype(float), values)
        gradient = jax.grad(lambda x: jnp.where(jnp.isnan(pool(x)), 1, pool(x)).sum() * 0 + pool(x).sum())(images)
        expected = np.zeros(images.size)
        np.add.at(expected, taken.astype(int).ravel(), 1)
        np.testing.assert_array_equal(gradient.astype(float), expected.reshape(images.shape))


def derivatives(pool, images, tangent):
    """Every way to differentiate the sum of the cubes of a pool."""

    def cubes(x):
        return (pool(x) ** 3).sum()

    gradient = jax.grad(cubes)
    return {
        "reverse": gradient(images),
        "jvp": jax.jvp(pool, (images,), (tangent,))[1],
        "jacfwd": jax.jacfwd(cubes)(images),
        "forward over reverse": jax.jvp(gradient, (images,), (tangent,))[1],
        "reverse over reverse": jax.grad(lambda x: (gradient(x) * tangent).sum())(images),
        "vmap": jax.vmap(jax.grad(lambda x: cubes(x[None])))(images),
        "vmap of the last axis": jax.vmap(lambda x: pool(x[..., None])[..., 0], -1, -1)(images),
        "vmap over tangents": jax.vmap(lambda t: jax.jvp(pool, (images,), (t,))[1])(jnp.stack([tangent, images])),
        "checkpoint": jax.grad(jax.checkpoint(cubes))(images),
        "scan": lax.scan(lambda total, x: (total + gradient(x), cubes(x)), images, jnp.stack([images, tangent])),
        "compiled": jax.jit(gradient)(images),
    }


@pytest.mark.parametrize(
    ("case", "dtype", "largest"),
    [
        ("2x2/2", "float32", True),
        ("2x2/2", "bfloat16", True),
        ("3x3/2 padded", "float64", True),
        ("5x4/3, axis by axis", "float32", False),
    ],
)
def test_all_derivatives_equal_those_of_lax(case, dtype, largest):
    sizes, form = CASES[case]
    with jax.enable_x64(dtype == "float64"):
        images, tangent = (distinct(seed, (2, *sizes, 2), dtype) / 64 for seed in (9, 10))
        own = jax.jit(partial(derivatives, partial(extremum, windows=form, largest=largest)))(images, tangent)
        expected = jax.jit(partial(derivatives, partial(plain, form=form, largest=largest)))(images, tangent)
        # bfloat16 adds overlapping windows up in another order.
        tolerance = 5e-2 if dtype == "bfloat16" else 1e-5
        for name, outcome in own.items():
            for one, other in zip(jax.tree.leaves(outcome), jax.tree.leaves(expected[name]), strict=True):
                assert one.dtype == other.dtype == dtype
                np.testing.assert_allclose(
                    one.astype(float), other.astype(float), rtol=tolerance, atol=tolerance, err_msg=name
                )


@pytest.mark.parametrize("pool", ["window", "axis"])
def test_derivatives_under_shard_map(pool):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = PartitionSpec("data")
    images, weights = distinct(11, (8, 5, 6, 2)), distinct(12, (5, 6, 2))
    form = windows((3, 3), (2, 2), ((1, 1), (1, 1)))

    def own(x):
        return extremum(x, form, largest=True) if pool == "window" else extremum_along(x, 2, largest=True)

    def reference(x):
        return plain(x, form, True) if pool == "window" else jnp.max(x, 2)

    def weighted(function, weights, x):
        # The weights do not vary over the devices, the images do.
        return (function(x * weights[None]) ** 2).sum() + function(weights[None]).sum()

    def gradients(weights, x):
        def loss(weights, x):
            return lax.psum(weighted(own, weights, x), "data")

        _, push = jax.jvp(lambda x: jax.grad(loss, (0, 1))(weights, x)[1], (x,), (x,))
        return *jax.grad(loss, (0, 1))(weights, x), push

    mapped = jax.jit(
        jax.shard_map(gradients, mesh=mesh, in_specs=(PartitionSpec(), spec), out_specs=(PartitionSpec(), spec, spec))
    )

    def whole(weights, x):
        return sum(weighted(reference, weights, x[index : index + 1]) for index in range(8))

    expected = (
        *jax.grad(whole, (0, 1))(weights, images),
        jax.jvp(lambda x: jax.grad(whole, 1)(weights, x), (images,), (images,))[1],
    )
    for one, other in zip(mapped(weights, images), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def operations(function, platform, *arguments):
    text = jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    return Counter(word for word in text.replace('"', " ").replace("(", " ").split() if word.startswith("stablehlo."))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_get_the_plain_operation(platform):
    sizes, form = CASES["3x3/2 padded"]
    images = jnp.ones((2, *sizes, 2))
    for largest in (True, False):
        pools = partial(extremum, windows=form, largest=largest), partial(plain, form=form, largest=largest)
        along = partial(extremum_along, axis=1, largest=largest), lambda x, m=largest: x.max(1) if m else x.min(1)
        assert operations(along[0], platform, images) == operations(along[1], platform, images)
        counts = [
            (
                operations(pool, platform, images),
                operations(lambda x, pool=pool: jax.vjp(pool, x)[1](pool(x)), platform, images),
                operations(lambda x, pool=pool: jax.jvp(pool, (x,), (x,)), platform, images),
            )
            for pool in pools
        ]
        assert counts[0] == counts[1]
        assert counts[0][1]["stablehlo.select_and_scatter"] == 1


@BOTH
def test_references_equal_the_rules(largest):
    sizes, form = CASES["3x3/2 padded"]
    images = distinct(13, (2, *sizes, 2))
    pooled = extremum(images, form, largest=largest)
    params = {"windows": form, "largest": largest}
    np.testing.assert_array_equal(
        reference_extremum(images, base_dilation=(1,) * 4, largest=largest, **vars(form)), pooled
    )
    np.testing.assert_array_equal(reference_take(images, images, **params), take(images, images, **params))
    np.testing.assert_array_equal(reference_put(pooled, images, **params), put(pooled, images, **params))
    np.testing.assert_array_equal(
        reference_extremum_along(images, axes=(1,), largest=largest), extremum_along(images, 1, largest=largest)
    )


@BOTH
@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 300])
def test_extremum_along_an_axis(size, largest):
    images = integers(14, (3, size, 4), 0, 5)
    images[1, size // 2] = np.nan
    expected = images.max(1) if largest else images.min(1)
    first = images.argmax(1) if largest else images.argmin(1)
    weights = integers(15, (3, 4))
    gradient = np.zeros_like(images)
    np.put_along_axis(gradient, first[:, None], weights[:, None], 1)
    pool = jax.jit(partial(extremum_along, axis=1, largest=largest))
    values, pull = jax.vjp(pool, jnp.asarray(images))
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(pull(jnp.asarray(weights))[0], gradient)
    _, tangent = jax.jvp(pool, (jnp.asarray(images),), (jnp.arange(images.size, dtype=float).reshape(images.shape),))
    places = np.arange(images.size).reshape(images.shape)
    np.testing.assert_array_equal(tangent, np.take_along_axis(places, first[:, None], 1)[:, 0])
    np.testing.assert_array_equal(jax.vmap(lambda x: extremum_along(x, 0, largest=largest))(images), expected)
