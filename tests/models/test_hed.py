"""HED: what it computes, by hand; first values, loss, names of weights, and the trained weights where they are."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from sklearn.datasets import load_sample_image

from cnnjax import models
from cnnjax.experiment.settings import Net
from cnnjax.experiment.start import starting_variables
from cnnjax.models.weights import from_torch, head_names, load_torch_weights, save_weights, to_torch
from tests.models.quick import compiled, drawn, run_unoptimised

WEIGHTS = Path(__file__).parents[3] / "shared" / "data" / "vgg16_trunk" / "hed_bsds500.safetensors"
MEAN = np.asarray([123.68, 116.779, 103.939], np.float32)


def pictures(*shape):
    return np.random.default_rng(1).standard_normal((*shape, 3), np.float32)


@pytest.mark.usefixtures("unchecked_types")
def test_sides_are_convolved_resized_and_fused():
    """From the maps of the stages on, in NumPy and SciPy; sides that are powers of two, whose factors SciPy takes."""
    model, images = models.create("hed"), pictures(1, 32, 64)
    variables = drawn(model, images)
    params = variables["params"] | {"fuse": {"kernel": np.arange(1.0, 6).reshape(1, 1, 5, 1), "bias": np.ones(1)}}
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)

    def run(params, images):
        names = [stage.name for stage in model.stages]
        return model.apply({"params": params}, images, train=True), model.apply(
            {"params": params}, images, stages=names
        )

    output, maps = run_unoptimised(run, params, images)
    assert output.weight == 1.0
    fused = np.ones((1, 32, 64, 1))
    for number, x in enumerate(maps.values(), 1):
        side = x @ params[f"side{number}"]["kernel"][0, 0] + params[f"side{number}"]["bias"]
        factor = 2 ** (number - 1)
        side = scipy.ndimage.zoom(side, (1, factor, factor, 1), order=1, mode="nearest", grid_mode=True)
        np.testing.assert_allclose(output.auxiliary[number - 1], side, rtol=1e-4, atol=1e-4 * np.abs(side).max())
        fused = fused + number * side
    np.testing.assert_allclose(output.logits, fused, rtol=1e-4, atol=1e-4 * np.abs(fused).max())


def test_odd_rows_are_kept():
    """As "SAME" pools keep them: half of an odd number is rounded up, stage by stage."""
    model = models.create("hed")
    names = [stage.name for stage in model.stages]
    images = jax.ShapeDtypeStruct((1, 107, 53, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    maps = jax.eval_shape(lambda variables, images: model.apply(variables, images, stages=names), variables, images)
    assert [x.shape[1:3] for x in maps.values()] == [(107, 53), (54, 27), (27, 14), (14, 7), (7, 4)]
    assert jax.eval_shape(model.apply, variables, images).shape == (1, 107, 53, 1)


def test_fusion_starts_as_the_mean_of_the_sides_of_each_kind():
    model = models.create("hed", num_classes=2)
    fuse = models.initialize(jax.random.key(0), model, jnp.zeros((1, 16, 16, 3)))["params"]["fuse"]
    sides = np.random.default_rng(2).standard_normal((5, 2))
    np.testing.assert_allclose(sides.reshape(10) @ fuse["kernel"][0, 0], sides.mean(0), rtol=1e-6)


def test_a_trunk_alone_comes_from_a_file_of_vgg16(tmp_path):
    trunk = models.create("vgg16", num_classes=3, hidden=2)
    given = drawn(trunk, pictures(1, 32, 32))
    save_weights(trunk, given, tmp_path / "vgg16.safetensors", shape=(1, 32, 32, 3))
    model = models.create("hed")
    with pytest.warns(UserWarning, match=r"side1, .* start anew; left out classifier"):
        found = load_torch_weights(model, tmp_path / "vgg16.safetensors", fresh_head=jax.random.key(0))
    for stage in (f"stage{number}" for number in range(1, 6)):
        jax.tree.map(np.testing.assert_array_equal, found["params"]["backbone"][stage], given["params"][stage])


def test_weights_have_the_names_of_the_trained_file():
    model = models.create("hed")
    variables = drawn(model, pictures(1, 16, 16))
    tensors = to_torch(model, variables)
    kinds = ("weight", "bias")
    layers = [*(f"features.{number}" for number in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28))]
    heads = [*(f"side{number}" for number in range(1, 6)), "fuse"]
    assert set(tensors) == {f"{layer}.{kind}" for layer in layers + heads for kind in kinds}
    assert tensors["side4.weight"].shape == (1, 512, 1, 1)
    assert head_names(model) == {f"{layer}.{kind}" for layer in heads for kind in kinds}
    jax.tree.map(np.testing.assert_array_equal, from_torch(model, tensors), variables)


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the trained weights are not here")
@pytest.mark.usefixtures("unchecked_types")
def test_trained_weights_find_the_roof_and_leave_the_sky():
    """Of a photograph at half its size, as a run from the shell (`--weights`) loads them."""
    model, told = models.create("hed"), []
    variables = starting_variables(
        Net("hed", weights=str(WEIGHTS)), model, (1, 214, 320, 3), ("edge",), 0, say=told.append
    )
    assert told == [f"starting from the weights of {WEIGHTS}"]
    photograph = load_sample_image("china.jpg")[::2, ::2].astype(np.float32) - MEAN
    run = compiled(model.apply, variables, photograph[None])
    edges = np.asarray(jax.nn.sigmoid(run(variables, photograph[None])))[0, ..., 0]
    # The roof's right slope runs from (217, 66) to (262, 97) in the whole picture, columns first.
    slope = [edges[y // 2 - 3 : y // 2 + 4, x // 2].max() for x, y in ((217, 66), (228, 77), (245, 88), (262, 97))]
    assert min(slope) > 0.5
    assert edges[4:60, 175:316].mean() < 0.01
