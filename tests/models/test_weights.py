"""Weight files: PyTorch's names and layouts, exact round trips, refusals that name both sides."""

import hashlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cnnjax import layers, models
from cnnjax.models.resnet import BasicBlock, ResNet
from cnnjax.models.weights import from_torch, load_torch_weights, save_weights, to_torch

VGG = models.VGG((1, 1, 1, 1, 1), num_classes=3, batch_norm=True)
RESNET = models.create("resnet20", scan=True)


def variables_of(model, shape=None):
    height, width, channels = shape or (32, 32, models.registry.designed_for(model)[2])
    images = jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    generator = np.random.default_rng(0)

    def draw(path, leaf):
        array = jnp.asarray(generator.standard_normal(leaf.shape, np.float32))
        return jnp.square(array) if path[-1].key == "var" else array

    return jax.tree_util.tree_map_with_path(draw, variables)


@pytest.mark.parametrize("name", ["resnet20", "lenet5_1998", "convnet", "mobilenet_v1", "preact_resnet164"])
def test_round_trip_is_exact(name, tmp_path):
    model = models.create(name)
    variables = variables_of(model)
    if name == "convnet":
        variables = variables_of(model, (28, 28, 1))
    save_weights(model, variables, tmp_path / "new" / "weights.safetensors")
    loaded = load_torch_weights(model, tmp_path / "new" / "weights.safetensors")
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)


def test_scanned_and_unrolled_models_share_files(tmp_path):
    variables = variables_of(RESNET)
    save_weights(RESNET, variables, tmp_path / "w.safetensors")
    unrolled = load_torch_weights(models.create("resnet20", scan=False), tmp_path / "w.safetensors")
    assert "stage1.block2.conv1.weight" in load_file(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(
        unrolled["params"]["stage2"]["block3"]["conv2"]["kernel"],
        variables["params"]["stage2"]["block2-3"]["conv2"]["kernel"][1],
    )


def test_layouts_are_pytorchs():
    """Convolutions (out, in, h, w); dense layers (out, in), after a flattening of (c, h, w)."""
    variables = variables_of(VGG)
    tensors = to_torch(VGG, variables)
    kernel = variables["params"]["stage2"]["conv1"]["kernel"]
    assert tensors["features.4.weight"].shape == (128, 64, 3, 3)
    assert tensors["features.4.weight"][5, 7, 0, 2] == kernel[0, 2, 7, 5]
    assert tensors["features.5.running_var"][3] == variables["batch_stats"]["stage2"]["bn1"]["var"][3]
    dense = variables["params"]["fc6"]["kernel"]
    # Channel 9 of the pixel in row 2, column 6 of 7x7 maps of 512 channels.
    assert tensors["classifier.0.weight"][11, 9 * 49 + 2 * 7 + 6] == dense[(2 * 7 + 6) * 512 + 9, 11]
    assert tensors["classifier.6.weight"].shape == (3, 4096)


def test_counters_of_batches_are_ignored():
    variables = variables_of(RESNET)
    loaded = from_torch(RESNET, {**to_torch(RESNET, variables), "bn1.num_batches_tracked": np.array(7)})
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)


def test_half_precision_files_fill_float32_models():
    tensors = {name: array.astype(np.float16) for name, array in to_torch(RESNET, variables_of(RESNET)).items()}
    loaded = from_torch(RESNET, tensors)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {jnp.dtype(jnp.float32)}


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    tensors = to_torch(RESNET, variables_of(RESNET))
    tensors["stage9.conv.weight"] = tensors.pop("stage1.block1.conv1.weight")
    tensors["bn1.weight"] = np.ones(5, np.float32)
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, tmp_path / "bad.safetensors")
    message = (
        r"bad\.safetensors does not hold the weights of CifarResNet: missing stage1\.block1\.conv1\.weight"
        r" \(here stage1/block1/conv1\); left over stage9\.conv\.weight;"
        r" misshapen bn1\.weight \(here bn1\) is \(5,\), expected \(16,\)$"
    )
    with pytest.raises(ValueError, match=message):
        load_torch_weights(RESNET, tmp_path / "bad.safetensors")


def test_another_number_of_classes_offers_a_fresh_head():
    variables = variables_of(RESNET)
    tensors = to_torch(RESNET, variables)
    other = models.create("resnet20", num_classes=7, scan=True)
    message = r"output\.weight \(here output\) is \(64, 10\), expected \(64, 7\).*fresh_head="
    with pytest.raises(ValueError, match=message):
        from_torch(other, tensors)
    with pytest.warns(UserWarning, match=r"the tensors: output starts anew$"):
        loaded = from_torch(other, tensors, fresh_head=jax.random.key(3))
    assert loaded["params"]["output"]["kernel"].shape == (64, 7)
    assert np.ptp(loaded["params"]["output"]["kernel"]) > 0
    np.testing.assert_array_equal(loaded["params"]["conv1"]["kernel"], variables["params"]["conv1"]["kernel"])


def test_files_that_are_none(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"nothing of the kind")
    (tmp_path / "w.pth").write_bytes(b"pickled")
    for name, message in (
        ("w.safetensors", "no safetensors file, or is damaged"),
        ("w.pth", "is a pickle"),
    ):
        with pytest.raises(ValueError, match=message):
            load_torch_weights(RESNET, tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no weights file"):
        load_torch_weights(RESNET, tmp_path / "absent.safetensors")


def test_checksum(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(RESNET, variables_of(RESNET), path)
    load_torch_weights(RESNET, path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match=r"has the sha256 .*; expected 00ff"):
        load_torch_weights(RESNET, path, sha256="00ff")


def test_the_hub_wants_a_commit_and_a_checksum(tmp_path, monkeypatch):
    import huggingface_hub

    path = tmp_path / "w.safetensors"
    save_weights(RESNET, variables_of(RESNET), path)
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda *names, **options: asked.append((names, options)) or str(path)
    )
    digest, commit = hashlib.sha256(path.read_bytes()).hexdigest(), "0" * 40
    for options in ({}, {"revision": "main", "sha256": digest}, {"revision": commit}):
        with pytest.raises(ValueError, match="need revision=, a commit of 40 hexadecimal digits"):
            load_torch_weights(RESNET, "timm/some_net", **options)
    load_torch_weights(RESNET, "timm/some_net", revision=commit, sha256=digest)
    assert asked == [(("timm/some_net", "model.safetensors"), {"revision": commit})]
    with pytest.raises(ValueError, match="has the sha256"):
        load_torch_weights(RESNET, "timm/some_net", revision=commit, sha256="1" * 64)


class Tiny(nn.Module):
    """A net with all kinds of tensors, a head, and another head."""

    num_classes: int | None = 3
    auxiliary: bool = True

    @nn.compact
    def __call__(self, images, *, train=False):
        x = layers.BatchNorm(name="bn")(layers.Conv(4, (3, 3), name="conv")(images), train=train).mean((1, 2))
        if self.num_classes is None:
            return x
        if self.auxiliary:
            layers.Dense(self.num_classes, name="aux")(x)
        return layers.Dense(self.num_classes, name="output")(x)


PICTURES = (1, 4, 4, 1)
TINY = variables_of(Tiny(), PICTURES[1:])
TENSORS = to_torch(Tiny(), TINY, shape=PICTURES)


def load_tiny(tensors, model=None, **options):
    return from_torch(Tiny() if model is None else model, tensors, shape=PICTURES, **options)


@pytest.mark.parametrize(
    ("options", "left_out"),
    [
        ({"num_classes": None}, "aux.bias, aux.weight, output.bias, output.weight"),
        ({"num_classes": None, "auxiliary": False}, "aux.bias, aux.weight, output.bias, output.weight"),
        ({"auxiliary": False}, "aux.bias, aux.weight"),
    ],
)
def test_a_model_without_a_head_leaves_the_head_of_the_file(options, left_out):
    model = Tiny(**options)
    with pytest.warns(UserWarning, match=rf"^the tensors: left out {left_out}, since the model has no such head$"):
        loaded = load_tiny(TENSORS, model)
    kept = {
        module: TINY["params"][module] for module in ("conv", "bn", "output")[: 2 if "num_classes" in options else 3]
    }
    jax.tree.map(np.testing.assert_array_equal, loaded, {**TINY, "params": kept})
    # What is of no head is an error as before.
    with pytest.raises(ValueError, match=r"left over other\.weight$"):
        load_tiny({**TENSORS, "other.weight": TENSORS["bn.bias"]}, model)


def test_names_in_the_warning_of_a_head_do_not_steer_the_terminal(tmp_path):
    save_weights(Tiny(), TINY, tmp_path / "w\x1b[2J.safetensors", shape=PICTURES)
    with pytest.warns(UserWarning, match=r"w\\x1b\[2J\.safetensors: left out"):
        load_torch_weights(Tiny(None), tmp_path / "w\x1b[2J.safetensors", shape=PICTURES)


def test_the_head_has_pytorchs_name_where_the_net_has():
    full = ResNet(BasicBlock, (1, 1), num_classes=3)
    tensors = to_torch(full, variables_of(full))
    with pytest.warns(UserWarning, match=r"left out fc\.bias, fc\.weight, since"):
        from_torch(full.clone(num_classes=None), tensors)


def test_a_file_of_ours_gives_its_features(tmp_path):
    save_weights(Tiny(), TINY, tmp_path / "w.safetensors", shape=PICTURES)
    with pytest.warns(UserWarning, match=r"w\.safetensors: left out aux\.bias, .*output\.weight, since"):
        loaded = load_torch_weights(Tiny(None), tmp_path / "w.safetensors", shape=PICTURES)
    np.testing.assert_array_equal(loaded["params"]["conv"]["kernel"], TINY["params"]["conv"]["kernel"])


def test_a_file_without_a_head_offers_a_fresh_one():
    tensors = {name: array for name, array in TENSORS.items() if not name.startswith("output")}
    with pytest.raises(ValueError, match=r"missing output\.bias \(here output\), output\.weight .*fresh_head="):
        load_tiny(tensors)
    with pytest.warns(UserWarning, match=r"output starts anew$"):
        loaded = load_tiny(tensors, fresh_head=jax.random.key(3))
    assert np.ptp(loaded["params"]["output"]["kernel"]) > 0
    np.testing.assert_array_equal(loaded["params"]["conv"]["kernel"], TINY["params"]["conv"]["kernel"])


def test_parts_that_the_model_has_not_are_left_out_where_a_head_starts_anew():
    tensors = {name: array for name, array in TENSORS.items() if not name.startswith("output")}
    tensors |= {"side1.weight": np.ones((1, 1), np.float32), "fuse.bias": np.ones(1, np.float32)}
    with pytest.raises(ValueError, match=r"left over fuse\.bias, side1\.weight"):
        load_tiny(tensors)
    with pytest.warns(
        UserWarning, match=r"output starts anew; left out fuse\.bias, side1\.weight, since the model has"
    ):
        loaded = load_tiny(tensors, fresh_head=jax.random.key(3))
    np.testing.assert_array_equal(loaded["params"]["conv"]["kernel"], TINY["params"]["conv"]["kernel"])
    with pytest.raises(ValueError, match=r"left over conv\.other"):
        load_tiny(tensors | {"conv.other": np.ones(1, np.float32)}, fresh_head=jax.random.key(3))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "state_dict.module._orig_mod."])
def test_prefixes_of_wrappers_are_taken_off(prefix):
    tensors = {f"{prefix}{name}": array for name, array in TENSORS.items()}
    loaded = load_tiny({**tensors, f"{prefix}bn.num_batches_tracked": np.array(7), "n_averaged": np.array(7)})
    jax.tree.map(np.testing.assert_array_equal, loaded, TINY)


def test_parts_compiled_alone_and_modules_named_like_wrappers():
    compiled = {name.replace("bn.", "bn._orig_mod."): array for name, array in TENSORS.items()}
    jax.tree.map(np.testing.assert_array_equal, load_tiny(compiled), TINY)

    class Wrapped(nn.Module):
        @nn.compact
        def __call__(self, images):
            return layers.Dense(2, name="model")(images)

    array = np.ones((2, 3), np.float32)
    for prefix in ("", "module."):
        tensors = {f"{prefix}model.weight": array, f"{prefix}model.bias": array[:, 0]}
        assert from_torch(Wrapped(), tensors, shape=(1, 3))["params"]["model"]["kernel"].shape == (3, 2)


def test_another_prefix_of_all_names_is_named():
    with pytest.raises(ValueError, match=r"; all of its names begin with 'backbone\.': take that off$"):
        load_tiny({f"backbone.{name}": array for name, array in TENSORS.items()})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("bn.weight", lambda array: array.astype(np.int32), r"not of floating point bn\.weight \(here bn\) is int32"),
        ("bn.weight", lambda array: array > 0, r"not of floating point bn\.weight \(here bn\) is bool"),
        ("bn.bias", lambda array: array * np.nan, r"not finite in float32 bn\.bias \(here bn\)"),
        ("output.bias", lambda array: array.astype(np.float64) * 1e300, r"not finite in float32 output\.bias"),
        ("bn.running_var", np.negative, r"variances below zero bn\.running_var \(here bn\)"),
    ],
)
def test_numbers_that_are_no_weights(name, change, message):
    with pytest.raises(ValueError, match=f"does not hold the weights of Tiny: {message}"):
        load_tiny({**TENSORS, name: change(TENSORS[name])}, fresh_head=jax.random.key(0))


def test_names_that_come_twice(tmp_path):
    with pytest.raises(ValueError, match=r"holds bn\.bias twice, as bn\.bias and as module\.bn\.bias"):
        load_tiny({**TENSORS, "module.bn.bias": TENSORS["bn.bias"]})
    entry = b'"bn.bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = b"{" + entry + b"," + entry + b"}"
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(ValueError, match=r"w\.safetensors holds bn\.bias more than once"):
        load_torch_weights(Tiny(), tmp_path / "w.safetensors", shape=PICTURES)


def test_types_of_files(tmp_path):
    """Halves and quarters are exact in bfloat16, which is read; floats of eight bits are refused."""
    variables = jax.tree.map(lambda leaf: jnp.full_like(leaf, 1.25), TINY)
    tensors = {name: array.astype(jnp.bfloat16) for name, array in to_torch(Tiny(), variables, shape=PICTURES).items()}
    path = tmp_path / "w.safetensors"
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path)
    jax.tree.map(np.testing.assert_array_equal, load_torch_weights(Tiny(), path, shape=PICTURES), variables)
    header = b'{"bn.bias":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(1))
    with pytest.raises(ValueError, match=r"holds a type that NumPy has not .*; save its tensors as float32"):
        load_torch_weights(Tiny(), path, shape=PICTURES)


def test_variables_of_another_model_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match="variables are not those of CifarResNet: they differ in"):
        save_weights(RESNET, {"params": {"conv1": {"kernel": jnp.ones(1)}}}, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())
