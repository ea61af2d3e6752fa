"""Feature maps against Flax's own capture and against layers applied by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import layers
from cnnjax.analysis import FeatureMaps, feature_maps, feature_statistics, first_kernel, similarity, summary
from cnnjax.models import bind

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
NET = bind(Net(), VARIABLES)


def dense(x, *path):
    params = BY_HAND["params"]
    for part in path:
        params = params[part]
    return x @ params["kernel"] + params["bias"]


@pytest.fixture(scope="module")
def maps():
    return feature_maps(NET, IMAGES)


def test_values_are_the_layers_applied_by_hand(maps):
    norm, stats = BY_HAND["params"]["stem"], BY_HAND["batch_stats"]["stem"]
    stem = (np.asarray(IMAGES) - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * norm["scale"] + norm["bias"]
    once = dense(stem, "shared")  # before the activation
    twice = dense(np.maximum(once, 0), "shared")
    zeta = dense(twice, "pair", "zeta")
    alpha = dense(np.maximum(zeta, 0), "pair", "alpha")
    expected = {"stem": stem, "shared": once, "shared (2)": twice, "pair/zeta": zeta, "pair/alpha": alpha}
    expected["end"] = dense(np.concatenate([zeta, alpha], -1), "end")
    expected |= {"pair[0]": zeta, "pair[1]": alpha}
    assert {*maps} == {*expected}
    for name, value in expected.items():
        np.testing.assert_allclose(maps[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_values_are_flaxs_capture(maps):
    _, captured = Net().apply(VARIABLES, IMAGES, train=False, capture_intermediates=True, mutable=["intermediates"])
    for name in ("stem", "end"):
        (expected,) = captured["intermediates"][name]["__call__"]
        np.testing.assert_allclose(maps[name], expected, rtol=1e-5, atol=1e-6)


def test_order_is_that_of_computation(maps):
    assert [*maps] == ["stem", "shared", "shared (2)", "pair[0]", "pair[1]", "pair/zeta", "pair/alpha", "end"]


def test_layers_are_those_of_the_summary(maps):
    # Of a layer that several arrays leave, the table has the last.
    rows = {row["layer"]: row["shape"] for row in summary(NET, IMAGES.shape).rows()}
    assert [*dict.fromkeys(name.split("[")[0] for name in maps)] == [*rows]
    assert rows["pair"] == "2x4x4x2" == "x".join(map(str, maps["pair[1]"].shape))
    for name in rows.keys() - {"pair"}:
        assert rows[name] == "x".join(map(str, maps[name].shape))


def test_a_module_called_again_has_a_name_of_its_own(maps):
    (found,) = feature_maps(NET, IMAGES, layers="shared (2)").items()
    assert found[0] == "shared (2)"
    np.testing.assert_array_equal(found[1], maps["shared (2)"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("end", {"end"}),
        ("pair/*", {"pair/zeta", "pair/alpha"}),
        ("*a", {"pair/zeta", "pair/alpha"}),
        (("st?m", "shared*"), {"stem", "shared", "shared (2)"}),
        ("pair", {"pair[0]", "pair[1]"}),
        ("pair[1]", {"pair[1]"}),
        ("shared", {"shared"}),
    ],
    ids=["name", "all of a module", "ending", "several", "several arrays", "one of several arrays", "first call"],
)
def test_patterns(names, expected):
    assert {*feature_maps(NET, IMAGES, layers=names)} == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("shard", "no layer matches 'shard'; there are shared, shared \\(2\\)$"),
        (("end", "pair/zetta"), "no layer matches 'pair/zetta'; there are pair/zeta"),
        ("quite different", "no layer matches 'quite different'; there are .*stem.*shared.*pair.*end"),
    ],
    ids=str,
)
def test_unknown_names_list_near_matches(names, message):
    with pytest.raises(ValueError, match=message):
        feature_maps(NET, IMAGES, layers=names)


def test_it_runs_under_jit():
    found = jax.jit(lambda images: feature_maps(NET, images, layers="end"))(IMAGES)
    np.testing.assert_allclose(found["end"], Net().apply(VARIABLES, IMAGES, train=False), rtol=1e-4)


def test_a_model_without_train():
    model = nn.Sequential([nn.Dense(2), nn.relu])
    variables = {"params": {"layers_0": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}}}
    value = feature_maps(bind(model, variables), IMAGES)["layers_0"]
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
    np.testing.assert_array_equal(feature_maps(bare, IMAGES, layers="first (2)")["first (2)"], bare(IMAGES))
    with pytest.raises(ValueError, match="no layer matches 'third'; there are first, second"):
        feature_maps(bare, IMAGES, layers="third")


def test_under_jit_what_is_not_asked_for_is_not_compiled():
    find = jax.jit(lambda images: feature_maps(NET, images, layers="stem"))
    assert "dot(" not in find.lower(IMAGES).compile().as_text()


def test_a_model_alone_is_told_to_be_bound():
    with pytest.raises(ValueError, match=r"the model Net came without its variables; .* models\.bind"):
        feature_maps(Net(), IMAGES)


def test_the_result_is_a_mapping_that_prints_draws_and_goes_on(maps, tmp_path):
    assert isinstance(maps, FeatureMaps)
    assert repr(feature_maps(NET, IMAGES, layers="end")) == "FeatureMaps(end (2, 4, 4, 1))"
    assert str(maps).splitlines()[2].split() == ["stem", "2x4x4x3", "float32"]
    with pytest.raises(KeyError, match=r"no layer is named 'pair'; there are pair\[1\], pair\[0\]"):
        maps["pair"]
    assert maps.statistics().rows() == feature_statistics(dict(maps)).rows()
    np.testing.assert_array_equal(maps.similarity(debiased=False).values, similarity(dict(maps), debiased=False).values)
    # Eight lines of three tiles; where there are fewer channels, the rest is empty.
    captions = [axes.get_title("center") for axes in maps.draw().axes]
    assert len(captions) == 8 * 3
    assert captions[0].split("\n")[0] == "stem, 0"
    assert captions[-2:] == ["", ""]
    low, high = float(maps["stem"][0, ..., 0].min()), float(maps["stem"][0, ..., 0].max())
    assert captions[0].split("\n")[1] == f"{low:.2g} to {high:.2g}"
    maps.save(tmp_path / "maps")
    assert (tmp_path / "maps.csv").read_text().splitlines()[0] == "layer,shape,dtype"
    with pytest.raises(ValueError, match="no layer has maps"):
        feature_maps(lambda x: jnp.tanh(x).sum((1, 2)), IMAGES).draw()


def test_the_first_kernel_that_takes_the_pictures():
    params = {"norm": {"scale": jnp.ones(3)}, "stem": {"conv": {"kernel": jnp.ones((5, 5, 3, 8))}}}
    net = bind(Net(), {"params": params})
    name, kernel = first_kernel(net, 3)
    assert (name, kernel.shape) == ("stem/conv", (5, 5, 3, 8))
    assert first_kernel(net, 1) is None
    with pytest.raises(ValueError, match=r"net is a function; expected one with weights: models\.bind"):
        first_kernel(bare, 3)
