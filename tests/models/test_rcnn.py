"""R-CNN beside plain NumPy: warped regions, the softmax's regions, what SVMs and regressions say, chunks of regions."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.models.export import export
from cnnjax.models.rcnn import warped
from cnnjax.models.weights import load_torch_weights, save_weights
from tests.models.quick import drawn, run_unoptimised

TINY = {
    "num_classes": 2,
    "backbone_options": {"width": 4, "batch_norm": False},
    "hidden": 6,
    "crop": 32,
    "context": 2,
    "drawn_regions": 60,
    "dropout": 0.0,
    "score_threshold": 0.0,
    "nms_threshold": 1.0,
}
IMAGES = np.random.default_rng(0).standard_normal((2, 40, 48, 3)).astype(np.float32)
CORNERS = np.random.default_rng(1).uniform(0, 24, (2, 9, 2))
PROPOSALS = np.concatenate([CORNERS, CORNERS + np.random.default_rng(2).uniform(4, 16, (2, 9, 2))], axis=-1)
PROPOSALS = np.concatenate([PROPOSALS, np.zeros((2, 2, 4))], axis=1).astype(np.float32)
OBJECTS = models.Objects(
    jnp.asarray([[[5.0, 5, 25, 30], [30.0, 20, 44, 40]]] * 2),
    jnp.asarray([[1, 0]] * 2),
    jnp.asarray([[True, True]] * 2),
)


def loops_of_warping(image, box, size, context):
    """One bilinear sample for each pixel, from a box that the context widens; zero beyond the border."""
    height, width, channels = image.shape
    x_min, y_min, x_max, y_max = box
    share = size / (size - 2 * context)
    x, y = (x_min + x_max) / 2, (y_min + y_max) / 2
    wide, high = (x_max - x_min) * share, (y_max - y_min) * share
    out = np.zeros((size, size, channels))
    for row in range(size):
        for column in range(size):
            # In the grid whose whole numbers are middles of pixels.
            at_y = y - high / 2 + (row + 0.5) * high / size - 0.5
            at_x = x - wide / 2 + (column + 0.5) * wide / size - 0.5
            if not (-1 <= at_y <= height and -1 <= at_x <= width):
                continue
            at_y, at_x = min(max(at_y, 0), height - 1), min(max(at_x, 0), width - 1)
            top, left = int(at_y), int(at_x)
            down, along = at_y - top, at_x - left
            below, beside = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = (1 - along) * image[top, left] + along * image[top, beside]
            lower = (1 - along) * image[below, left] + along * image[below, beside]
            out[row, column] = (1 - down) * upper + down * lower
    return out


def test_regions_are_warped_with_what_is_around_them():
    image = IMAGES[0]
    boxes = np.array([[10, 12, 30, 20], [0, 0, 48, 40], [40, 30, 60, 50]], np.float32)
    found = warped(jnp.asarray(image), jnp.asarray(boxes), size=20, context=4)
    expected = [loops_of_warping(image, box, 20, 4) for box in boxes]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert not np.asarray(found[2, -1, -1]).any(), "the mean pixel is beyond the border"


def test_a_box_fills_all_but_the_context():
    """A white square within black: 227 - 2 * 16 pixels of each side are white."""
    image = np.zeros((100, 100, 1), np.float32)
    image[30:60, 20:70] = 1
    found = np.asarray(warped(jnp.asarray(image), jnp.asarray([[20.0, 30, 70, 60]]), size=227, context=16))[0, ..., 0]
    assert abs(int((found[113] > 0.5).sum()) - 195) <= 1
    assert abs(int((found[:, 113] > 0.5).sum()) - 195) <= 1


@cache
def model_and_variables():
    model = models.create("rcnn_small", **TINY)
    variables = drawn(model, IMAGES)
    random = np.random.default_rng(5)
    fitted = jax.tree.map(lambda leaf: random.normal(0, 0.01, leaf.shape).astype(np.float32), variables["fitted"])
    return model, {**variables, "fitted": fitted}


@pytest.mark.usefixtures("unchecked_types")
def test_the_net_is_taught_by_regions_with_a_softmax_alone():
    """Background is all that overlaps no object by a half; offsets are not learned."""
    model, variables = model_and_variables()
    inputs = models.PicturesWithProposals(IMAGES, PROPOSALS, OBJECTS)
    trained = run_unoptimised(
        lambda v, i: model.apply(v, i, train=True, rngs={"sampling": jax.random.key(0)}), variables, inputs
    )
    losses = trained.losses(OBJECTS)
    assert list(losses) == ["class"]
    regions = trained.regions
    # Nine proposals and two true boxes; those without an area are none.
    assert np.asarray(regions.present).sum(axis=1).tolist() == [11, 11]
    logits, labels = (np.asarray(array, np.float64) for array in (regions.logits, regions.labels))
    for picture in range(2):
        rows = np.flatnonzero(regions.present[picture])
        values = logits[picture][rows]
        expected = np.log(np.exp(values).sum(1)) - values[np.arange(len(rows)), labels[picture][rows].astype(int)]
        np.testing.assert_allclose(losses["class"].total[picture], expected.sum(), rtol=1e-5)
        assert losses["class"].count[picture] == 11


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("ready", [0.0, 1.0])
def test_scores_and_boxes_are_those_of_the_last_stage(ready):
    """The softmax and the proposals; or logistic margins, and boxes that are moved, by plain NumPy."""
    model, variables = model_and_variables()
    fitted = variables["fitted"] if ready else jax.tree.map(np.zeros_like, variables["fitted"])
    fitted = {"svms": {**fitted["svms"], "ready": np.float32(ready)}}
    variables = {**variables, "fitted": fitted}
    inputs = models.PicturesWithProposals(IMAGES, PROPOSALS)
    out, noted = run_unoptimised(lambda v, i: model.apply(v, i, mutable=["intermediates"]), variables, inputs)
    described = noted["intermediates"]["described"][0]
    hidden, pooled = (np.asarray(array, np.float64) for array in (described.hidden, described.pooled))
    svms = fitted["svms"]
    kernel, bias = (np.asarray(variables["params"]["softmax"][name], np.float64) for name in ("kernel", "bias"))
    for picture in range(2):
        expected = []
        for region in range(9):
            x_min, y_min, x_max, y_max = PROPOSALS[picture, region].astype(float)
            wide, high = x_max - x_min, y_max - y_min
            logits = hidden[picture, region] @ kernel + bias
            shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
            margins = hidden[picture, region] @ svms["svm_kernel"] + svms["svm_bias"]
            shifts = (pooled[picture, region] @ svms["box_kernel"] + svms["box_bias"]).reshape(2, 4)
            for kind, (right, down, wider, higher) in enumerate(shifts):
                score = 1 / (1 + np.exp(-margins[kind])) if ready else shares[kind + 1]
                x, y = (x_min + x_max) / 2 + right * wide, (y_min + y_max) / 2 + down * high
                half = wide * np.exp(wider) / 2, high * np.exp(higher) / 2
                box = np.clip([x - half[0], y - half[1], x + half[0], y + half[1]], 0, [48, 40, 48, 40])
                expected.append((kind, score, box))
        present = np.asarray(out.found.present[picture])
        assert present.sum() == 18
        for box, score, kind in zip(
            out.found.boxes[picture][present],
            out.found.scores[picture][present],
            out.found.classes[picture][present],
            strict=True,
        ):
            near = [value for of, at, value in expected if of == kind and abs(at - score) < 1e-4]
            assert min(np.abs(box - value).max() for value in near) < 2e-3


@pytest.mark.usefixtures("unchecked_types")
def test_regions_may_be_computed_in_parts():
    model, variables = model_and_variables()
    inputs = models.PicturesWithProposals(IMAGES, PROPOSALS)
    # 22 regions of both pictures, eight at once: three parts of four for each, the last one filled up.
    parts = models.create("rcnn_small", **TINY, at_once=8)
    whole, cut = (run_unoptimised(one.apply, variables, inputs) for one in (model, parts))
    np.testing.assert_allclose(whole.logits, cut.logits, atol=1e-4)


def test_the_published_net_has_the_published_parameters():
    """AlexNet's 56,868,224 up to fc7, and 21 times 4,097 of the softmax; SVMs and regressions are no parameters."""
    model = models.create("rcnn")
    inputs = jax.ShapeDtypeStruct((1, 500, 500, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 56_868_224 + 86_037 == 56_954_261
    assert shapes["fitted"]["svms"]["box_kernel"].shape == (9216, 80)
    assert shapes["fitted"]["svms"]["svm_kernel"].shape == (4096, 20)


@pytest.mark.usefixtures("unchecked_types")
def test_stages_are_those_of_whole_pictures():
    model = models.create("rcnn", backbone_options={"dropout": 0.0})
    shapes = jax.eval_shape(
        lambda key, x: model.init_with_output(key, x, stages=["backbone/pool5"])[0],
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, 227, 227, 3), jnp.float32),
    )
    assert shapes["backbone/pool5"].shape == (1, 6, 6, 256)


def test_a_classifier_alone_starts_it_and_its_own_file_is_whole(tmp_path):
    """AlexNet in public names gives the trunk, fc6 and fc7; a file of R-CNN holds SVMs and regressions too."""
    alexnet = models.create("alexnet_owt", num_classes=5)
    taught = drawn(alexnet, np.zeros((1, 224, 224, 3), np.float32))
    save_weights(alexnet, taught, tmp_path / "alexnet.safetensors", shape=(1, 224, 224, 3))
    net = models.create("rcnn", num_classes=3, backbone="alexnet_owt")
    shape = (1, 227, 227, 3)
    with pytest.warns(UserWarning, match="softmax, svms start anew"):
        start = load_torch_weights(net, tmp_path / "alexnet.safetensors", fresh_head=jax.random.key(0), shape=shape)
    for ours, theirs in ((start["params"]["backbone"]["conv1"], "conv1"), (start["params"]["box_head"]["fc7"], "fc7")):
        jax.tree.map(np.testing.assert_array_equal, ours, taught["params"][theirs])
    start["fitted"]["svms"]["ready"] = jnp.ones(())
    save_weights(net, start, tmp_path / "rcnn.safetensors", shape=shape)
    jax.tree.map(
        np.testing.assert_array_equal, load_torch_weights(net, tmp_path / "rcnn.safetensors", shape=shape), start
    )


def test_it_is_not_exported_without_its_proposals():
    with pytest.raises(ValueError, match=r"RCNN takes proposals beside its pictures, .* faster_rcnn_vgg16"):
        export(models.create("rcnn_small"), {}, (128, 128, 3))
