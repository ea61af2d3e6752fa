"""Normalising layers against Flax's: the same variables, by name and shape, give the same outputs and statistics."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from cnnjax import layers

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 9, 4)).astype(np.float32))
KEY = jax.random.key(0)
PARAMS = {"scale": jnp.float32([1, 2, 3, 4]), "bias": jnp.float32([0, 1, 0, -1])}
PAIRS = {
    "layer": (layers.LayerNorm, {}, nn.LayerNorm, {}),
    "layer_of_images": (layers.LayerNorm, {"axes": (1, 2, 3)}, nn.LayerNorm, {"reduction_axes": (1, 2, 3)}),
    "instance": (layers.InstanceNorm, {}, nn.InstanceNorm, {}),
    "group": (layers.GroupNorm, {"groups": 2}, nn.GroupNorm, {"num_groups": 2}),
}
every_pair = pytest.mark.parametrize(("ours", "own", "theirs", "flax"), PAIRS.values(), ids=PAIRS.keys())


def shapes(variables):
    return jax.tree.map(jnp.shape, variables)


def types_of(variables):
    return jax.tree.map(lambda leaf: leaf.dtype, variables)


@every_pair
@pytest.mark.parametrize(
    "options",
    [{}, {"use_scale": False}, {"use_bias": False, "epsilon": 0.1}, {"scale_init": nn.initializers.normal()}],
    ids=["default", "no_scale", "no_bias", "scale_init"],
)
def test_equals_flax(ours, own, theirs, flax, options):
    norm, reference = ours(**own, **options), theirs(**flax, **options)
    variables = reference.init(KEY, IMAGES)
    # The same names, shapes and initial values.
    jax.tree.map(np.testing.assert_array_equal, norm.init(KEY, IMAGES), variables)
    learned = {"params": {name: PARAMS[name] for name in variables.get("params", {})}}
    np.testing.assert_allclose(norm.apply(learned, IMAGES), reference.apply(learned, IMAGES), rtol=1e-4, atol=1e-4)


@every_pair
def test_types_equal_flax(ours, own, theirs, flax):
    images = IMAGES.astype(jnp.bfloat16)
    types = {"dtype": jnp.float32, "param_dtype": jnp.bfloat16}
    norm, reference = ours(**own, **types), theirs(**flax, **types)
    with jax.numpy_dtype_promotion("standard"):  # Flax subtracts float32 statistics from bfloat16
        variables = reference.init(KEY, images)
        expected = reference.apply(variables, images)
    assert types_of(norm.init(KEY, images)) == types_of(variables)
    result = norm.apply(variables, images)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    assert ours(**own).apply({"params": PARAMS}, images).dtype == jnp.bfloat16


def test_thirty_two_groups_as_in_the_paper():
    images = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 64)).astype(np.float32))
    variables = nn.GroupNorm().init(KEY, images)
    result = layers.GroupNorm().apply(variables, images)
    np.testing.assert_allclose(result, nn.GroupNorm().apply(variables, images), rtol=1e-4, atol=1e-4)


def test_gradients_equal_flax():
    weights = np.random.default_rng(2).normal(size=IMAGES.shape).astype(np.float32)
    norm, reference = layers.GroupNorm(2), nn.GroupNorm(2)
    found, expected = (
        jax.grad(lambda variables, module=module: jnp.sum(weights * module.apply(variables, IMAGES)))(
            {"params": PARAMS}
        )
        for module in (norm, reference)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)


def test_batch_norm_equals_flax():
    norm, reference = layers.BatchNorm(momentum=0.8), nn.BatchNorm(momentum=0.8)
    variables = norm.init(KEY, IMAGES, train=True)
    assert shapes(variables) == shapes(reference.init(KEY, IMAGES, use_running_average=False))
    scaled = variables | {"params": PARAMS}
    ours, new = norm.apply(scaled, IMAGES, train=True, mutable=["batch_stats"])
    theirs, expected = reference.apply(scaled, IMAGES, use_running_average=False, mutable=["batch_stats"])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), new, expected)
    moved = scaled | new
    np.testing.assert_allclose(
        norm.apply(moved, IMAGES, train=False),
        reference.apply(moved, IMAGES, use_running_average=True),
        rtol=1e-4,
        atol=1e-4,
    )


def test_masked_batch_norm_equals_flax():
    where = jnp.asarray([True, False, True, True])
    norm, reference = layers.BatchNorm(momentum=0.8), nn.BatchNorm(momentum=0.8)
    variables = norm.init(KEY, IMAGES, train=True)
    ours = norm.apply(variables, IMAGES, train=True, where=where, mutable=["batch_stats"])
    mask = where[:, None, None, None]
    theirs = reference.apply(variables, IMAGES, use_running_average=False, mask=mask, mutable=["batch_stats"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, theirs)


def test_float32_of_half_precision_equals_flax():
    # Of bfloat16 pictures in float32: nothing is rounded to bfloat16 on the way out.
    images = IMAGES.astype(jnp.bfloat16)
    norm, reference = layers.BatchNorm(dtype=jnp.float32), nn.BatchNorm(dtype=jnp.float32)
    stats = {"mean": jnp.float32([0, 0.1, -0.2, 0.3]), "var": jnp.float32([1, 0.5, 2, 0.9])}
    variables = {"params": PARAMS, "batch_stats": stats}
    with jax.numpy_dtype_promotion("standard"):  # Flax subtracts float32 statistics from bfloat16
        theirs, _ = reference.apply(variables, images, use_running_average=False, mutable=["batch_stats"])
        expected = reference.apply(variables, images, use_running_average=True)
    ours, _ = norm.apply(variables, images, train=True, mutable=["batch_stats"])
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(norm.apply(variables, images, train=False), expected, rtol=1e-5, atol=1e-5)


def test_running_statistics_of_float64_stay_float32():
    with jax.enable_x64(True):
        images = jnp.asarray(np.asarray(IMAGES, np.float64))
        variables = layers.BatchNorm().init(KEY, images, train=True)
        output, new = layers.BatchNorm().apply(variables, images, train=True, mutable=["batch_stats"])
    assert output.dtype == jnp.float64
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(new["batch_stats"]["mean"], 0.1 * np.mean(IMAGES, (0, 1, 2)), rtol=1e-4, atol=1e-7)


def test_initialisation_leaves_the_running_statistics_alone():
    stats = layers.BatchNorm().init(KEY, IMAGES + 5, train=True)["batch_stats"]
    np.testing.assert_array_equal(stats["mean"], np.zeros(4))
    np.testing.assert_array_equal(stats["var"], np.ones(4))


@pytest.mark.parametrize("groups", [None, [[0, 1], [2, 3]]], ids=["all", "pairs"])
def test_replicas_share_statistics(groups):
    norm = layers.BatchNorm(axis_name="data", axis_index_groups=groups)
    # Without a mesh, for initialisation needs no axis.
    variables = norm.init(KEY, IMAGES, train=True)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    one = PartitionSpec("data")

    def step(images):
        output, new = norm.apply(variables, images, train=True, mutable=["batch_stats"])
        return output, new["batch_stats"]["mean"][None]

    output, means = jax.shard_map(step, mesh=mesh, in_specs=one, out_specs=one)(IMAGES)
    for group in groups or [[0, 1, 2, 3]]:
        pictures = np.asarray(IMAGES)[group]
        expected = (pictures - pictures.mean((0, 1, 2))) / np.sqrt(pictures.var((0, 1, 2)) + 1e-5)
        np.testing.assert_allclose(np.asarray(output)[group], expected, rtol=1e-4, atol=1e-4)
        expected = np.tile(0.1 * pictures.mean((0, 1, 2)), (len(group), 1))
        np.testing.assert_allclose(np.asarray(means)[group], expected, rtol=1e-4, atol=1e-6)


def test_local_response_norm_is_the_papers():
    images = 30 * np.asarray(IMAGES, np.float64)
    expected = np.empty_like(images)
    for i in range(4):
        energy = (images[..., max(0, i - 1) : i + 2] ** 2).sum(-1)
        expected[..., i] = images[..., i] / (1.0 + 2e-4 * energy) ** 0.5
    norm = layers.LocalResponseNorm(size=3, alpha=2e-4, beta=0.5, k=1.0)
    assert norm.init(KEY, IMAGES) == {}
    np.testing.assert_allclose(norm.apply({}, 30 * IMAGES), expected, rtol=1e-5, atol=1e-5)
    assert layers.LocalResponseNorm(dtype=jnp.bfloat16).apply({}, IMAGES).dtype == jnp.bfloat16


class Stage(nn.Module):
    """A norm with a name of its own."""

    norm: nn.Module

    def __call__(self, images, **options):
        return self.norm(images, **options)


@pytest.mark.parametrize(
    ("norm", "options", "message"),
    [
        (layers.BatchNorm(), {"train": True, "where": jnp.ones(3, bool)}, r"where has shape \(3,\)"),
        (layers.BatchNorm(epsilon=-1.0), {"train": False}, "epsilon=-1.0"),
        (layers.BatchNorm(axis_index_groups=[[0]]), {"train": True}, "came without axis_name"),
        (layers.LayerNorm(axes=4), {}, "axes=4 of images"),
        (layers.InstanceNorm(epsilon=-1.0), {}, "epsilon=-1.0"),
        (layers.GroupNorm(), {}, r"groups=32 must divide the 4 channels"),
        (layers.LocalResponseNorm(size=2), {}, "size=2; expected an odd number"),
    ],
)
def test_errors_name_the_layer(norm, options, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    variables = {"params": {"norm": PARAMS}, "batch_stats": {"norm": {"mean": jnp.zeros(4), "var": jnp.ones(4)}}}
    with pytest.raises(ValueError, match=f"layer norm: .*{message}"):
        Stage(norm).apply(variables, IMAGES, mutable=["batch_stats"], **options)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", ["mean", "var"])
def test_running_statistics_of_another_shape_are_refused(name, train):
    stats = {"mean": jnp.zeros(4), "var": jnp.ones(4)} | {name: jnp.ones(1)}
    variables = {"params": PARAMS, "batch_stats": stats}
    with pytest.raises(ValueError, match=rf"layer BatchNorm: batch_stats {name} has shape \(1,\); expected \(4,\)"):
        layers.BatchNorm().apply(variables, IMAGES, train=train, mutable=["batch_stats"])


def test_batch_norm_is_told_whether_it_trains():
    with pytest.raises(TypeError, match="train"):
        layers.BatchNorm().init(KEY, IMAGES)


def test_frozen_normalisation_is_batch_normalisation_at_inference_and_has_no_parameters():
    numbers = {"mean": [0.1, 0.2, 0.3, 0.4], "var": [1, 2, 3, 4.0], "scale": [2, 1, 1, 0.5], "bias": [0, 1, 0, -1.0]}
    numbers = {name: jnp.float32(values) for name, values in numbers.items()}
    frozen = layers.FrozenBatchNorm(epsilon=1e-3)
    assert set(frozen.init(KEY, IMAGES, train=True)) == {"batch_stats"}
    found = [frozen.apply({"batch_stats": numbers}, IMAGES, train=train) for train in (True, False)]
    of_batch = {"mean": numbers["mean"], "var": numbers["var"]}
    variables = {"params": {"scale": numbers["scale"], "bias": numbers["bias"]}, "batch_stats": of_batch}
    expected = nn.BatchNorm(use_running_average=True, epsilon=1e-3).apply(variables, IMAGES)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[0], found[1])
