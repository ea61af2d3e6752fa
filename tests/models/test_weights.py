"""Weight files: PyTorch's names and layouts, exact round trips, refusals that name both sides."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cnnjax import models
from cnnjax.models.weights import from_torch, load_torch_weights, save_weights, to_torch

VGG = models.VGG((1, 1, 1, 1, 1), num_classes=3, batch_norm=True)
RESNET = models.create("resnet20", scan=True)


def variables_of(model, side=32):
    channels = models.registry.designed_for(model)[2]
    images = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    leaves, structure = jax.tree.flatten(variables)
    generator = np.random.default_rng(0)
    return structure.unflatten([jnp.asarray(generator.standard_normal(leaf.shape, np.float32)) for leaf in leaves])


@pytest.mark.parametrize("name", ["resnet20", "lenet5_1998", "convnet", "mobilenet_v1", "preact_resnet164"])
def test_round_trip_is_exact(name, tmp_path):
    model = models.create(name)
    variables = variables_of(model)
    if name == "convnet":
        variables = variables_of(model, 28)
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


def test_variables_of_another_model_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match="variables are not those of CifarResNet: they differ in"):
        save_weights(RESNET, {"params": {"conv1": {"kernel": jnp.ones(1)}}}, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())
