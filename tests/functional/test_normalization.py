"""Normalisation against float64 NumPy: values, every derivative, masks, mapped axes, and what is refused."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from cnnjax.functional.normalization import (
    batch_norm,
    batch_statistics,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    normalize,
)
from experiments.benchmarks.reductions import reductions

IMAGES = np.random.default_rng(0).normal(2.0, 3.0, size=(8, 5, 4, 3)).astype(np.float32)
SHARDED = PartitionSpec("data")


def standardize(images, axes, epsilon):
    images = np.asarray(images, np.float64)
    return (images - images.mean(axes, keepdims=True)) / np.sqrt(images.var(axes, keepdims=True) + epsilon)


def whole(images):
    return tuple(range(1, images.ndim))


def spatial(images):
    return tuple(range(1, images.ndim - 1))


def grouped(images, groups, epsilon):
    runs = np.split(np.asarray(images), groups, axis=-1)
    return np.concatenate([standardize(run, whole(run), epsilon) for run in runs], -1)


def local_response(images, size, alpha, beta, k):
    images = np.asarray(images, np.float64)
    result = np.empty_like(images)
    channels = images.shape[-1]
    for i in range(channels):
        energy = sum(images[..., j] ** 2 for j in range(max(0, i - size // 2), min(channels - 1, i + size // 2) + 1))
        result[..., i] = images[..., i] / (k + alpha * energy) ** beta
    return result


RESPONSE = {"size": 3, "alpha": 0.3, "beta": 0.75, "k": 1.5}
# Each function, and its definition.
NORMS = {
    "batch": (batch_norm, lambda x: standardize(x, (0, *spatial(x)), 1e-5)),
    "layer": (layer_norm, lambda x: standardize(x, -1, 1e-6)),
    "layer_of_images": (lambda x, **affine: layer_norm(x, axes=whole(x), **affine), lambda x: grouped(x, 1, 1e-6)),
    "instance": (instance_norm, lambda x: standardize(x, spatial(x), 1e-6)),
    "group": (partial(group_norm, groups=2), lambda x: grouped(x, 2, 1e-6)),
    "local_response": (partial(local_response_norm, **RESPONSE), lambda x: local_response(x, **RESPONSE)),
}
every_norm = pytest.mark.parametrize(("norm", "definition"), NORMS.values(), ids=NORMS.keys())
every_affine = pytest.mark.parametrize(("norm", "definition"), list(NORMS.values())[:-1], ids=list(NORMS)[:-1])


def mapped(function, **specs):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    return jax.jit(jax.shard_map(function, mesh=mesh, check_vma=True, **specs))


@every_affine
@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 5, 4, 4), (2, 3, 2, 4, 4)], ids=["1-D", "2-D", "3-D"])
def test_equals_the_definition(norm, definition, shape):
    images = np.random.default_rng(1).normal(1.0, 2.0, size=shape).astype(np.float32)
    scale, bias = np.float32([1, 2, -3, 0.5]), np.float32([0, -1, 1, 2])
    result = jax.jit(norm)(images, scale=scale, bias=bias)
    np.testing.assert_allclose(result, definition(images) * scale + bias, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(jax.jit(norm)(images), definition(images), rtol=1e-4, atol=1e-4)


def difference(function, x, t, h):
    return (function(x + h * t) - function(x - h * t)) / (2 * h)


@every_norm
def test_derivatives_are_those_of_the_definition(norm, definition):
    generator = np.random.default_rng(2)
    images, tangent, weights = generator.normal(size=(3, 2, 3, 2, 4))

    def slope(x):
        """Gradient of the weighted sum of the definition, one entry at a time."""
        units = np.eye(x.size).reshape(-1, *x.shape)
        return np.array([np.sum(weights * difference(definition, x, unit, 1e-5)) for unit in units]).reshape(x.shape)

    with jax.enable_x64(True):
        x, t = jnp.asarray(images), jnp.asarray(tangent)
        along = jax.jit(lambda x: jax.jvp(norm, (x,), (t,))[1])(x)
        gradient = jax.jit(lambda x: jax.vjp(norm, x)[1](jnp.asarray(weights))[0])(x)
        hessian = jax.jit(jax.hessian(lambda x: jnp.sum(weights * norm(x))))(x)
        curvature = np.tensordot(hessian, tangent, x.ndim)
    np.testing.assert_allclose(along, difference(definition, images, tangent, 1e-5), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(gradient, slope(images), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(curvature, difference(slope, images, tangent, 1e-3), rtol=1e-3, atol=1e-4)


@every_norm
def test_vmap_and_scan(norm, definition):
    images = np.random.default_rng(3).normal(size=(3, 2, 3, 2, 4)).astype(np.float32)
    expected = np.stack([definition(batch) for batch in images])
    np.testing.assert_allclose(jax.vmap(norm)(images), expected, rtol=1e-4, atol=1e-4)

    def twice(batch, _):
        return norm(batch), None

    final, _ = jax.lax.scan(twice, jnp.asarray(images[0]), length=2)
    np.testing.assert_allclose(final, definition(definition(images[0])), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("norm", "definition"),
    [pair for name, pair in NORMS.items() if name != "batch"],
    ids=[name for name in NORMS if name != "batch"],
)
def test_examples_are_independent_on_a_mesh(norm, definition):
    images = np.random.default_rng(4).normal(size=(8, 3, 2, 4)).astype(np.float32)
    result = mapped(norm, in_specs=SHARDED, out_specs=SHARDED)(images)
    np.testing.assert_allclose(result, definition(images), rtol=1e-4, atol=1e-4)


@every_norm
@pytest.mark.parametrize(
    "dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64], ids=lambda dtype: dtype.__name__
)
def test_types(norm, definition, dtype):
    with jax.enable_x64(True):
        images = jnp.asarray(np.random.default_rng(5).normal(1.0, 2.0, size=(2, 3, 2, 4)), dtype)
        result, wide = norm(images), None if norm is batch_norm else norm(images, dtype=jnp.float64)
    assert result.dtype == dtype
    # One rounding of the result, at most; values are below four.
    tolerance = 4 * float(jnp.finfo(dtype).eps) + 1e-14
    np.testing.assert_allclose(np.float64(result), definition(np.float64(images)), rtol=0, atol=tolerance)
    assert wide is None or wide.dtype == jnp.float64


def test_half_precision_squares_do_not_overflow():
    images = jnp.asarray(300 + 10 * IMAGES, jnp.float16)
    assert np.isinf(jnp.square(images)).any()
    for norm in (batch_norm, layer_norm, instance_norm, partial(group_norm, groups=3), local_response_norm):
        assert np.isfinite(np.float32(norm(images))).all()


def test_statistics_are_numpys():
    mean, variance = batch_statistics(jnp.asarray(IMAGES))
    np.testing.assert_allclose(mean, IMAGES.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, IMAGES.var((0, 1, 2)), rtol=1e-4)


def test_masked_examples_do_not_count():
    where = np.array([True, False, True, True, False, True, True, False])
    mean, variance = batch_statistics(jnp.asarray(IMAGES), where=jnp.asarray(where))
    np.testing.assert_allclose(mean, IMAGES[where].mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, IMAGES[where].var((0, 1, 2)), rtol=1e-4)
    empty = batch_statistics(jnp.asarray(IMAGES), where=jnp.zeros(8, bool))
    np.testing.assert_array_equal(np.stack(empty), np.zeros((2, 3)))
    # Without examples there is nothing to leave out.
    np.testing.assert_array_equal(np.stack(batch_statistics(jnp.ones((0, 5, 4, 3)))), np.full((2, 3), np.nan))


def test_masked_examples_have_no_gradient():
    where = np.arange(8) % 3 > 0
    images = np.where(where[:, None, None, None], IMAGES, np.nan)
    weights = np.float32([1, -2, 3])

    def loss(images):
        mean, variance = batch_statistics(images, where=jnp.asarray(where))
        return jnp.sum(weights * mean) + jnp.sum(weights * variance)

    kept = IMAGES[where].astype(np.float64)
    expected = np.zeros_like(images)
    expected[where] = weights * (1 + 2 * (kept - kept.mean((0, 1, 2)))) / kept[..., 0].size
    np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(images)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_axis_name_pools_over_devices(masked):
    where = jnp.asarray(np.arange(8) % 3 > 0) if masked else jnp.ones(8, bool)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])

    @partial(jax.shard_map, mesh=mesh, in_specs=(SHARDED, SHARDED), out_specs=PartitionSpec())
    def pooled(images, where):
        return batch_statistics(images, where=where if masked else None, axis_name="data")

    kept = IMAGES[np.asarray(where)]
    mean, variance = pooled(jnp.asarray(IMAGES), where)
    np.testing.assert_allclose(mean, kept.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, kept.var((0, 1, 2)), rtol=1e-4)


def test_axis_name_pools_under_vmap():
    means, _ = jax.vmap(partial(batch_statistics, axis_name="data"), axis_name="data")(IMAGES.reshape(4, 2, 5, 4, 3))
    np.testing.assert_allclose(means, np.tile(IMAGES.mean((0, 1, 2)), (4, 1)), rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_axis_index_groups_share_statistics(masked):
    groups = [[0, 3, 6, 1], [2, 4, 5, 7]]
    where = np.arange(8) % 3 > 0 if masked else np.ones(8, bool)

    def pooled(images, where):
        found = batch_statistics(images, where=where if masked else None, axis_name="data", axis_index_groups=groups)
        return jax.tree.map(lambda moment: moment[None], found)

    means, variances = mapped(pooled, in_specs=(SHARDED, SHARDED), out_specs=SHARDED)(IMAGES, where)
    for group in groups:
        kept = IMAGES[group][where[group]]
        np.testing.assert_allclose(means[jnp.asarray(group)], np.tile(kept.mean((0, 1, 2)), (4, 1)), rtol=1e-5)
        np.testing.assert_allclose(variances[jnp.asarray(group)], np.tile(kept.var((0, 1, 2)), (4, 1)), rtol=1e-4)


@pytest.mark.parametrize(
    "groups", [None, [list(range(8))], [[0, 1], [6, 7], [2, 5], [3, 4]]], ids=["none", "one", "four"]
)
def test_gradients_on_a_mesh_are_those_of_the_pooled_batch(groups):
    weights = np.random.default_rng(6).normal(size=IMAGES.shape).astype(np.float32)
    norm = partial(batch_norm, axis_name="data", axis_index_groups=groups)
    outputs, expected = np.empty((2, *IMAGES.shape))
    for group in groups or [list(range(8))]:
        pictures, g = IMAGES[group].astype(np.float64), weights[group]
        outputs[group] = y = standardize(pictures, (0, 1, 2), 1e-5)
        centred = g - g.mean((0, 1, 2)) - y * (g * y).mean((0, 1, 2))
        expected[group] = centred / np.sqrt(pictures.var((0, 1, 2)) + 1e-5)

    # From outside the mapped function, and from inside it with the loss summed over the mesh.
    outside = mapped(norm, in_specs=SHARDED, out_specs=SHARDED)
    found, pull = jax.vjp(outside, jnp.asarray(IMAGES))
    np.testing.assert_allclose(found, outputs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(pull(jnp.asarray(weights))[0], expected, rtol=1e-3, atol=1e-4)

    def slope(images, weights):
        return jax.grad(lambda images: jax.lax.psum(jnp.sum(weights * norm(images)), "data"))(images)

    inside = mapped(slope, in_specs=(SHARDED, SHARDED), out_specs=SHARDED)(IMAGES, weights)
    np.testing.assert_allclose(inside, expected, rtol=1e-3, atol=1e-4)


def test_batch_norm_is_the_papers_formula():
    scale, bias = np.float32([1, 2, 3]), np.float32([0, -1, 1])
    expected = (IMAGES - IMAGES.mean((0, 1, 2))) / np.sqrt(IMAGES.var((0, 1, 2)) + 1e-5) * scale + bias
    result = batch_norm(jnp.asarray(IMAGES), scale=jnp.asarray(scale), bias=jnp.asarray(bias))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_half_precision_keeps_its_type_and_float32_statistics():
    images = jnp.asarray(IMAGES, jnp.bfloat16)
    mean, variance = batch_statistics(images)
    assert (mean.dtype, variance.dtype) == (jnp.float32, jnp.float32)
    assert normalize(images, mean, variance).dtype == jnp.bfloat16


def test_float64_stays_float64():
    # The mean is so large that float32 would lose the deviation of 1e-4.
    images = 1.0 + 1e-4 * np.random.default_rng(1).normal(size=(8, 5, 4, 3))
    with jax.enable_x64(True):
        found = jnp.asarray(images)
        mean, variance = batch_statistics(found)
        normal = normalize(found, mean, variance, epsilon=0.0)
    assert (mean.dtype, variance.dtype, normal.dtype) == (np.float64, np.float64, np.float64)
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(variance, images.var((0, 1, 2)), rtol=1e-6)
    expected = (images - images.mean((0, 1, 2))) / images.std((0, 1, 2))
    np.testing.assert_allclose(normal, expected, rtol=1e-5, atol=1e-7)


def test_variance_is_never_negative():
    # Rounding alone decides the sign of E[x^2] - E[x]^2 here.
    images = jnp.asarray(1000 + 1e-3 * IMAGES)
    _, variance = batch_statistics(images)
    assert (np.asarray(variance) >= 0).all()
    for norm in (batch_norm, layer_norm, instance_norm, partial(group_norm, groups=3)):
        assert np.isfinite(norm(images)).all()


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_local_response_is_the_papers_and_pytorchs(size):
    images = np.random.default_rng(7).normal(0, 30, size=(2, 3, 6)).astype(np.float32)
    expected = local_response(images, size, 1e-4, 0.75, 2.0)
    np.testing.assert_allclose(local_response_norm(jnp.asarray(images), size=size), expected, rtol=1e-5)
    # PyTorch's formula: alpha / size, here with its default k.
    theirs = np.pad(images.astype(np.float64) ** 2, ((0, 0), (0, 0), (size // 2, size // 2)))
    means = np.lib.stride_tricks.sliding_window_view(theirs, size, axis=-1).mean(-1)
    result = local_response_norm(jnp.asarray(images), size=size, alpha=0.02 / size, k=1.0)
    np.testing.assert_allclose(result, images / (1.0 + 0.02 * means) ** 0.75, rtol=1e-5)


def test_layer_norm_takes_axes_from_numpy(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for axes in [np.array([1, 3]), (np.int64(1), np.int64(3))]:
        expected = standardize(IMAGES, (1, 3), 1e-6)
        np.testing.assert_allclose(layer_norm(jnp.asarray(IMAGES), axes=axes), expected, rtol=1e-4, atol=1e-4)


def test_layer_norm_takes_axes_in_any_spelling():
    images = jnp.asarray(IMAGES)
    expected = standardize(IMAGES, (1, 3), 1e-6)
    for axes in [(1, 3), (3, 1), (-1, 1), [-3, -1]]:
        np.testing.assert_allclose(layer_norm(images, axes=axes), expected, rtol=1e-4, atol=1e-4)


def test_normalisations_of_vectors():
    vectors = np.random.default_rng(8).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(group_norm(jnp.asarray(vectors), 2), grouped(vectors, 2, 1e-6), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(batch_norm(jnp.asarray(vectors)), standardize(vectors, 0, 1e-5), rtol=1e-4, atol=1e-5)


THREE, ONE = jnp.ones(3), jnp.ones(1)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (
            batch_statistics,
            {"where": jnp.ones(3, bool)},
            r"where has shape \(3,\); expected \(8,\), a flag per example",
        ),
        (batch_statistics, {"where": jnp.ones(8)}, "where: float32 came, bool was expected"),
        (batch_statistics, {"axis_index_groups": [[0, 1]]}, r"axis_index_groups=\[\[0, 1\]\] came without axis_name"),
        (batch_norm, {"scale": ONE}, r"scale has shape \(1,\); expected \(3,\), an entry per channel"),
        (normalize, {"mean": ONE, "variance": THREE}, r"mean has shape \(1,\); expected \(3,\)"),
        (normalize, {"mean": THREE, "variance": jnp.ones((8, 3))}, r"variance has shape \(8, 3\); expected \(3,\)"),
        (normalize, {"mean": THREE, "variance": THREE, "bias": jnp.ones(())}, r"bias has shape \(\); expected \(3,\)"),
        (normalize, {"mean": THREE, "variance": THREE, "epsilon": -1e-5}, "epsilon=-1e-05; expected zero or more"),
        (batch_norm, {"epsilon": -1.0}, "epsilon=-1.0; expected zero or more"),
        (layer_norm, {"epsilon": float("nan")}, "epsilon=nan; expected zero or more"),
        (layer_norm, {"scale": ONE}, r"scale has shape \(1,\); expected \(3,\)"),
        (layer_norm, {"axes": 4}, r"axes=4 of images of shape \(8, 5, 4, 3\); expected axes from 1 to 3"),
        (layer_norm, {"axes": -5}, "axes=-5 of images"),
        (layer_norm, {"axes": (0, 3)}, r"axes=\(0, 3\) .* so the batch axis 0 stays out"),
        (layer_norm, {"axes": (3, -1)}, r"axes=\(3, -1\) .* each once"),
        (layer_norm, {"axes": ()}, r"axes=\(\) of images"),
        (instance_norm, {"bias": jnp.ones(4)}, r"bias has shape \(4,\); expected \(3,\)"),
        (instance_norm, {"epsilon": -1.0}, "epsilon=-1.0; expected zero or more"),
        (group_norm, {"groups": 2}, r"groups=2 must divide the 3 channels of images of shape \(8, 5, 4, 3\)"),
        (layer_norm, {"axes": 1.0}, "axes=1.0 is not whole; expected an integer, or several, from 1 to 3"),
        (layer_norm, {"axes": np.array([1.0])}, r"axes=array\(\[1.\]\) is not whole"),
        (layer_norm, {"axes": (1, None)}, r"axes=\(1, None\) is not whole"),
        (group_norm, {"groups": 0}, "groups=0 is too small; expected at least 1"),
        (group_norm, {"groups": -3}, "groups=-3 is too small; expected at least 1"),
        (group_norm, {"groups": 3.0}, "groups=3.0 is not whole; expected an integer of at least 1"),
        (group_norm, {"groups": 3, "scale": ONE}, r"scale has shape \(1,\); expected \(3,\)"),
        (group_norm, {"groups": 3, "epsilon": -1.0}, "epsilon=-1.0; expected zero or more"),
        (local_response_norm, {"size": 4}, "size=4; expected an odd number of channels"),
        (local_response_norm, {"size": -1}, "size=-1 is too small; expected at least 1"),
        (local_response_norm, {"size": 3.0}, "size=3.0 is not whole; expected an integer of at least 1"),
        (local_response_norm, {"alpha": -0.1}, "alpha=-0.1 and k=2.0; expected alpha of zero or more and k above zero"),
        (local_response_norm, {"k": 0.0}, "alpha=0.0001 and k=0.0; expected alpha of zero or more and k above zero"),
    ],
)
def test_bad_arguments(function, options, message, monkeypatch):
    # Typecheckers are on in the tests, and would speak first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        function(jnp.asarray(IMAGES), **options)


ALL = [
    batch_statistics,
    partial(normalize, mean=THREE, variance=THREE),
    batch_norm,
    layer_norm,
    instance_norm,
    partial(group_norm, groups=3),
    local_response_norm,
]


@pytest.mark.parametrize("function", ALL, ids=lambda function: getattr(function, "func", function).__name__)
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (jnp.ones((2, 4, 4, 3), jnp.uint8), "images: uint8 came, floating point was expected"),
        (jnp.ones(3), r"images have shape \(3,\); expected \(batch, \*spatial, channels\)"),
    ],
    ids=["integers", "vector"],
)
def test_bad_images(function, images, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        function(images)


def test_instance_norm_needs_a_position():
    with pytest.raises(ValueError, match=r"images have shape \(8, 3\); expected .* with a spatial axis or more"):
        instance_norm(jnp.ones((8, 3)))


@pytest.mark.parametrize(
    "groups",
    [[[0, 1, 2], [3, 4, 5, 6, 7]], [[0, 1], [2, 3]], [[0, 1, 2, 3], [3, 4, 5, 6]], []],
    ids=["unequal", "incomplete", "overlapping", "none"],
)
def test_bad_replica_groups(groups):
    function = partial(batch_norm, axis_name="data", axis_index_groups=groups)
    with pytest.raises(ValueError, match="expected groups of one size that hold each of the 8 replicas of 'data' once"):
        mapped(function, in_specs=SHARDED, out_specs=SHARDED)(IMAGES)


FAR = np.random.default_rng(9).normal(size=(4, 6, 5, 4)).astype(np.float32)


@every_affine
@pytest.mark.parametrize("mean", [1e2, 1e3, 1e4])
def test_a_mean_of_many_deviations_costs_no_digits(norm, definition, mean):
    images = FAR + np.float32(mean)
    # Numbers of that size stand half a thousandth apart: a result is as exact as the images are.
    found = jax.jit(norm)(images)
    np.testing.assert_allclose(found, definition(images), atol=1e-7 * mean + 1e-4)
    assert abs(np.std(np.float64(found)) - np.std(definition(images))) < 5e-5


def test_four_pixels_around_a_thousand():
    # PyTorch's numbers.
    wave, expected = jnp.asarray([1000.3, 1000.1, 999.8, 999.9]), [1.432, 0.390, -1.172, -0.651]
    np.testing.assert_allclose(layer_norm(wave[None])[0], expected, atol=1e-3)
    for norm in (partial(group_norm, groups=1), instance_norm, batch_norm):
        np.testing.assert_allclose(norm(wave.reshape(1, 4, 1)).ravel(), expected, atol=2e-3)


def group_mean(images):
    runs = images.reshape(*images.shape[:-1], 2, -1).mean((1, 2, 4))
    return np.repeat(runs, images.shape[-1] // 2, axis=-1)[:, None, None]


AVERAGES = {
    "batch": (0, 1, 2),
    "layer": (3,),
    "layer_of_images": (1, 2, 3),
    "instance": (1, 2),
}


@pytest.mark.parametrize("name", list(NORMS)[:-1])
def test_gradients_far_from_zero_are_those_near_it(name):
    """They depend on deviations alone. The cotangents have a mean, which nothing may multiply by that of the images."""
    norm, definition = NORMS[name]
    average = group_mean if name == "group" else lambda x: x.mean(AVERAGES[name], keepdims=True)
    x = np.round(FAR * 64) / 64  # exact in float32 with 8192 added
    cotangent = np.random.default_rng(10).normal(3, 1, size=x.shape)
    y = definition(x)
    deviation = np.sqrt(average(np.float64(x) ** 2) - average(np.float64(x)) ** 2)
    expected = (cotangent - average(cotangent) - y * average(cotangent * y)) / deviation

    @jax.jit
    def pull(images):
        back = jax.vjp(lambda x, s, b: norm(x, scale=s, bias=b), images, jnp.ones(4), jnp.zeros(4))[1]
        return back(jnp.asarray(cotangent, jnp.float32))

    found = pull(jnp.asarray(x + 8192))
    for ours, right in zip(found, (expected, *((cotangent * z).sum((0, 1, 2)) for z in (y, 1))), strict=True):
        np.testing.assert_allclose(ours, right, atol=2e-3 * np.abs(right).max())


@pytest.mark.parametrize("groups", [None, [[0, 2], [1, 3]]], ids=["all", "pairs"])
@pytest.mark.parametrize("masked", [False, True])
def test_pooled_statistics_far_from_zero(groups, masked):
    # Two of four replicas differ in their means as well: the others' groups are the harder ones.
    images = np.stack([FAR + offset for offset in np.float32([1e4, 2e4, 1e4, 1e4])])
    where = np.random.default_rng(11).integers(0, 2, size=images.shape[:2]) > 0 if masked else np.ones((4, 4), bool)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])

    def pooled(images, where):
        options = {"axis_name": "data", "axis_index_groups": groups, "where": where if masked else None}
        return jax.tree.map(lambda moment: moment[None], batch_statistics(images, **options))

    mapped = jax.jit(jax.shard_map(pooled, mesh=mesh, in_specs=SHARDED, out_specs=SHARDED))
    means, variances = mapped(images.reshape(-1, *FAR.shape[1:]), where.reshape(-1))
    for group in groups or [[0, 1, 2, 3]]:
        kept = images[group][where[group]].astype(np.float64)
        np.testing.assert_allclose(means[np.array(group)], np.tile(kept.mean((0, 1, 2)), (len(group), 1)), rtol=1e-6)
        spread = np.tile(kept.var((0, 1, 2)), (len(group), 1))
        np.testing.assert_allclose(variances[np.array(group)], spread, rtol=1e-4)


def test_a_batch_split_by_the_compiler_is_reduced_once():
    """The second pass adds its own reduction in a branch that only far means take."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split, whole = jax.NamedSharding(mesh, SHARDED), jax.NamedSharding(mesh, PartitionSpec())
    run = jax.jit(batch_statistics, in_shardings=split, out_shardings=whole)
    images = np.concatenate([FAR, FAR[::-1] + 1]) + np.float32(1e4)
    mean, variance = run(images)
    np.testing.assert_allclose(mean, np.float64(images).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, np.float64(images).var((0, 1, 2)), rtol=1e-4)
    assert reductions(run.lower(images).compile()) == [8]
