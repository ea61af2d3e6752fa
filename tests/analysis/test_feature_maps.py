"""Feature maps against Flax's own capture and against layers applied by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import layers
from cnnjax.analysis import feature_maps, first_kernel

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32))


class Pair(nn.Module):
    """Returns two arrays."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(3, name="zeta")(x)
        return x, nn.Dense(2, name="alpha")(nn.relu(x))


class Net(nn.Module):
    """Names out of alphabetical order, one module called twice, and `train` without a default."""

    @nn.compact
    def __call__(self, x, *, train):
        x = layers.BatchNorm(name="stem")(x, train=train)
        shared = nn.Dense(3, name="shared")
        x = shared(nn.relu(shared(x)))
        first, second = Pair(name="pair")(x)
        return nn.Dense(1, name="end")(jnp.concatenate([first, second], -1))


BY_HAND = jax.tree.map(
    lambda leaf: np.random.default_rng(1).uniform(0.5, 1.5, leaf.shape).astype(np.float32),
    jax.eval_shape(lambda: Net().init(jax.random.key(0), IMAGES, train=False)),
)
VARIABLES = jax.tree.map(jnp.asarray, BY_HAND)


def dense(x, *path):
    params = BY_HAND["params"]
    for part in path:
        params = params[part]
    return x @ params["kernel"] + params["bias"]


@pytest.fixture(scope="module")
def maps():
    return feature_maps(Net(), VARIABLES, IMAGES)


def test_values_are_the_layers_applied_by_hand(maps):
    norm, stats = BY_HAND["params"]["stem"], BY_HAND["batch_stats"]["stem"]
    stem = (np.asarray(IMAGES) - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * norm["scale"] + norm["bias"]
    once = dense(stem, "shared")  # before the activation
    twice = dense(np.maximum(once, 0), "shared")
    zeta = dense(twice, "pair", "zeta")
    alpha = dense(np.maximum(zeta, 0), "pair", "alpha")
    expected = {"stem": stem, "shared": once, "shared (2)": twice, "pair/zeta": zeta, "pair/alpha": alpha}
    expected["end"] = dense(np.concatenate([zeta, alpha], -1), "end")
    assert {*maps} == {*expected, "pair"}
    for name, value in expected.items():
        np.testing.assert_allclose(maps[name], value, rtol=1e-4, atol=1e-4, err_msg=name)
    assert isinstance(maps["pair"], tuple)
    for found, value in zip(maps["pair"], (zeta, alpha), strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-4)


def test_values_are_flaxs_capture(maps):
    _, captured = Net().apply(VARIABLES, IMAGES, train=False, capture_intermediates=True, mutable=["intermediates"])
    for name in ("stem", "end"):
        (expected,) = captured["intermediates"][name]["__call__"]
        np.testing.assert_array_equal(maps[name], expected)


def test_order_is_that_of_computation(maps):
    names = list(maps)
    assert [name for name in names if name != "pair"] == [
        *("stem", "shared", "shared (2)"),
        *("pair/zeta", "pair/alpha", "end"),
    ]
    assert names.index("shared (2)") < names.index("pair") < names.index("end")


def test_a_module_called_again_has_a_name_of_its_own(maps):
    (found,) = feature_maps(Net(), VARIABLES, IMAGES, names="shared (2)").items()
    assert found[0] == "shared (2)"
    np.testing.assert_array_equal(found[1], maps["shared (2)"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("end", {"end"}),
        ("pair/*", {"pair/zeta", "pair/alpha"}),
        ("*a", {"pair/zeta", "pair/alpha"}),
        (("st?m", "shared"), {"stem", "shared", "shared (2)"}),
    ],
    ids=["name", "all of a module", "ending", "several"],
)
def test_patterns(names, expected):
    assert {*feature_maps(Net(), VARIABLES, IMAGES, names=names)} == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("shard", "no layer matches 'shard'; there are shared$"),
        (("end", "pair/zetta"), "no layer matches 'pair/zetta'; there are pair/zeta"),
        ("quite different", "no layer matches 'quite different'; there are .*stem.*shared.*pair.*end"),
    ],
    ids=str,
)
def test_unknown_names_list_near_matches(names, message):
    with pytest.raises(ValueError, match=message):
        feature_maps(Net(), VARIABLES, IMAGES, names=names)


def test_it_runs_under_jit():
    found = jax.jit(lambda images: feature_maps(Net(), VARIABLES, images, names="end"))(IMAGES)
    np.testing.assert_allclose(found["end"], Net().apply(VARIABLES, IMAGES, train=False), rtol=1e-4)


def test_a_model_without_train():
    model = nn.Sequential([nn.Dense(2), nn.relu])
    variables = {"params": {"layers_0": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}}}
    (value,) = feature_maps(model, variables, IMAGES).values()
    np.testing.assert_allclose(value, np.repeat(IMAGES.sum(-1, keepdims=True), 2, -1), rtol=1e-4, atol=1e-6)


def bare(images):
    with jax.named_scope("first"):
        images = jnp.tanh(images)
    with jax.named_scope("second"):
        images = images * 2
    with jax.named_scope("first"):
        return images + 1


def test_layers_of_a_function():
    found = feature_maps(bare, IMAGES)
    assert list(found) == ["first", "second", "first (2)"]
    np.testing.assert_allclose(found["second"], 2 * np.tanh(IMAGES), rtol=1e-5)
    np.testing.assert_array_equal(feature_maps(bare, IMAGES, names="first (2)")["first (2)"], bare(IMAGES))
    with pytest.raises(ValueError, match="no layer matches 'third'; there are first, second"):
        feature_maps(bare, IMAGES, names="third")


def test_a_models_layers_as_a_functions():
    def function(images):
        return Net().apply(VARIABLES, images, train=False)

    maps, modules = feature_maps(function, IMAGES, names=("stem", "end")), feature_maps(Net(), VARIABLES, IMAGES)
    for name in ("stem", "end"):
        np.testing.assert_allclose(maps[name], modules[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("as_function", [True, False], ids=["function", "model"])
def test_under_jit_what_is_not_asked_for_is_not_compiled(as_function):
    def find(images):
        if as_function:
            return feature_maps(lambda x: Net().apply(VARIABLES, x, train=False), images, names="stem")
        return feature_maps(Net(), VARIABLES, images, names="stem")

    assert "dot(" not in jax.jit(find).lower(IMAGES).compile().as_text()


def test_inputs_are_counted():
    with pytest.raises(ValueError, match="1 inputs came; expected variables and images"):
        feature_maps(Net(), VARIABLES)
    with pytest.raises(ValueError, match="2 inputs came; expected images"):
        feature_maps(bare, VARIABLES, IMAGES)


def test_the_first_kernel_that_takes_the_pictures():
    params = {"norm": {"scale": jnp.ones(3)}, "stem": {"conv": {"kernel": jnp.ones((5, 5, 3, 8))}}}
    name, kernel = first_kernel(params, 3)
    assert (name, kernel.shape) == ("stem/conv", (5, 5, 3, 8))
    assert first_kernel(params, 1) is None
