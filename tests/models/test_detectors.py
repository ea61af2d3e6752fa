"""Every registered detector: counts as published, stages, types, gradients, pictures without objects and with many."""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cnnjax import analysis, models
from cnnjax.tasks import Detection
from cnnjax.train.parallel import make_mesh
from experiments.cost_table import PUBLISHED
from tests.models.quick import drawn, run_unoptimised

DETECTORS = [name for name in models.names() if models.logits_of(name) in ("boxes", "instances")]
SMALL = [name for name in DETECTORS if name.endswith("small")]

# The published counts, and boxes of a picture before suppression.
BOXES = {"ssd300": 8732, "ssd512": 24564, "yolov1": 98, "faster_rcnn_vgg16": 300, "faster_rcnn_resnet50_fpn": 1000}
AT_90 = {
    "ssd300": 35_641_826,
    "ssd512": 37_513_116,
    "faster_rcnn_resnet50_fpn": 41_755_286,
    "mask_rcnn_resnet50_fpn": 44_401_393,
}
TRAINABLE = {"faster_rcnn_resnet50_fpn": 41_449_656, "mask_rcnn_resnet50_fpn": 44_077_773}


def shapes(name, **options):
    model = models.create(name, **options)
    pictures = jax.ShapeDtypeStruct((1, *models.image_shape(name)), jnp.float32)
    return jax.eval_shape(model.init_with_output, jax.random.key(0), pictures)


def count(variables):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("name", DETECTORS)
def test_counts_are_those_published(name):
    output, variables = shapes(name)
    assert count(variables) == PUBLISHED[name][0]
    assert output.candidates == BOXES.get(name, output.candidates)
    assert isinstance(output, models.Detecting)
    found = jax.eval_shape(lambda output: output.detections(), output)
    assert (found.masks is not None) == (models.logits_of(name) == "instances")


@pytest.mark.parametrize("name", AT_90)
def test_counts_at_ninety_classes(name):
    assert count(shapes(name, num_classes=90)[1]) == AT_90[name]


@pytest.mark.parametrize("name", TRAINABLE)
def test_counts_with_trainable_normalisation(name):
    assert count(shapes(name, frozen_norm=False)[1]) == TRAINABLE[name]


def test_another_backbone_with_the_strides():
    """SSD on a ResNet has no fc6 and fc7; Faster R-CNN takes a MobileNet."""
    _, variables = shapes("ssd300", backbone="resnet18")
    assert "fc" not in variables["params"]
    _, variables = shapes("faster_rcnn_resnet50_fpn", backbone="mobilenet_v1", frozen_norm=False)
    assert set(variables["params"]) == {"backbone", "fpn", "rpn", "box_head", "predictor"}


@pytest.mark.parametrize("name", SMALL)
def test_half_precision_computes_boxes_in_single(name):
    output, variables = shapes(name, num_classes=3, dtype=jnp.bfloat16)
    found = jax.eval_shape(lambda output: output.detections(), output)
    assert (found.boxes.dtype, found.scores.dtype) == (jnp.float32, jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables["params"])} == {jnp.dtype(jnp.float32)}


def objects_of(counts, slots, side):
    """Random boxes in the first slots of each picture, with masks that fill them."""
    random = np.random.default_rng(0)
    boxes = np.zeros((len(counts), slots, 4), np.float32)
    masks = np.zeros((len(counts), side, side), np.int32)
    for picture, number in enumerate(counts):
        low = random.uniform(0, side - 20, (number, 2))
        boxes[picture, :number] = np.concatenate([low, low + random.uniform(8, 20, (number, 2))], axis=1)
        for slot, (left, top, right, bottom) in enumerate(boxes[picture, :number].astype(int)):
            masks[picture, top:bottom, left:right] = slot + 1
    present = np.arange(slots)[None] < np.asarray(counts)[:, None]
    classes = random.integers(0, 3, (len(counts), slots)).astype(np.int32)
    return models.Objects(*map(jnp.asarray, (boxes, classes, present, masks)))


@cache
def trained(name):
    """Losses of pictures with two and no objects, and with none at all, and gradients; from one program."""
    model = models.create(name, num_classes=3)
    side = models.image_shape(name)[0]
    images = np.random.default_rng(1).standard_normal((2, side, side, 3)).astype(np.float32)
    variables = drawn(model, images)

    def run(variables, images, objects, empty):
        def losses(params, objects):
            inputs = models.PicturesWithObjects(images, objects)
            rngs = {"sampling": jax.random.key(0), "dropout": jax.random.key(1)}
            everything = {**variables, "params": params}
            output, _ = model.apply(everything, inputs, train=True, rngs=rngs, mutable=["batch_stats"])
            parts = output.losses(objects)
            return sum(jnp.sum(part.total / jnp.maximum(part.count, 1)) for part in parts.values()), parts

        gradients, parts = jax.grad(losses, has_aux=True)(variables["params"], objects)
        return gradients, parts, losses(variables["params"], empty)[1]

    return run_unoptimised(run, variables, images, objects_of((2, 0), 4, side), objects_of((0, 0), 4, side))


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_every_parameter(name):
    gradients, parts, _ = trained(name)
    for part in parts.values():
        assert np.isfinite(part.total).all()
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), path
        # The maps for objects of other sizes have none to find here, and their negatives may not be among the hardest.
        of_size = path[0].key.startswith(("class", "box", "extra")) or path[-2].key == "box"
        assert np.any(leaf != 0) or of_size, jax.tree_util.keystr(path)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", SMALL)
def test_pictures_without_objects(name):
    """There is nothing to find: boxes and masks have no loss, and what is said of the background is finite."""
    _, _, empty = trained(name)
    for kind, part in empty.items():
        assert np.isfinite(part.total).all(), kind
        if kind in ("box", "proposal", "mask"):
            assert not part.total.any(), kind


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", ["ssd_small", "yolo_small", "faster_rcnn_small"])
def test_two_hundred_objects(name):
    model = models.create(name, num_classes=3)
    side = models.image_shape(name)[0]
    images = np.random.default_rng(1).standard_normal((1, side, side, 3)).astype(np.float32)

    def run(variables, images, objects):
        inputs = models.PicturesWithObjects(images, objects)
        rngs = {"sampling": jax.random.key(0), "dropout": jax.random.key(1)}
        output, _ = model.apply(variables, inputs, train=True, rngs=rngs, mutable=["batch_stats"])
        return output.losses(objects)

    parts = run_unoptimised(run, drawn(model, images), images, objects_of((200,), 200, side))
    assert all(np.isfinite(part.total).all() for part in parts.values())
    assert parts["box"].total[0] > 0


@pytest.mark.usefixtures("unchecked_types")
def test_analyses_know_layers_by_name():
    """Receptive fields of what anchors rest on, maps, costs, and Grad-CAM of the score of a class."""
    model = models.create("ssd_small", num_classes=3)
    images = jnp.asarray(np.random.default_rng(0).standard_normal((1, 128, 128, 3)), jnp.float32)
    net = models.bind(model, drawn(model, images))
    summary = analysis.summary(net, images.shape)
    names = [row["layer"] for row in summary.rows()]
    assert {"backbone/stage4", "fc", "extra1", "class1", "box5"} <= set(names)
    maps = analysis.feature_maps(net, images, layers=("fc", "class2"))
    assert {name: array.shape for name, array in dict(maps).items()} == {"fc": (1, 8, 8, 128), "class2": (1, 8, 8, 24)}
    shown = analysis.grad_cam(lambda images: net(images).class_scores(), images, layer=None)
    assert shown.ndim == 3
    assert np.isfinite(shown).all()


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", ["ssd_small", "faster_rcnn_small"])
def test_eight_devices_give_what_one_gives(name):
    """Loss and gradients of eight pictures, some without objects, one on each device."""
    # No layer normalises by the batch, and quotas are above the supply, so that nothing is drawn.
    own = (
        {"batch_norm": False}
        if name == "ssd_small"
        else {"drawn_anchors": 4096, "drawn_regions": 128, "train_after": 20}
    )
    model = models.create(name, num_classes=3, backbone_options={"width": 2}, hidden=4, **own)
    task = Detection(("a", "b", "c"))
    images = np.random.default_rng(1).standard_normal((8, 128, 128, 3)).astype(np.float32)
    objects = objects_of((2, 0, 1, 4, 0, 3, 1, 2), 4, 128)
    variables = drawn(model, images)
    batch = {"image": images, "valid": np.ones(8, bool), **objects._asdict()}
    del batch["masks"]

    def loss_of(params, batch):
        rngs = {"sampling": jax.random.key(0)}
        output = model.apply({**variables, "params": params}, task.inputs(batch, train=True), train=True, rngs=rngs)
        return task.loss(output, batch)[0].value

    step = jax.value_and_grad(loss_of)
    one = run_unoptimised(step, variables["params"], batch)
    mesh = make_mesh(8)
    rows, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (mesh.axis_names, ()))
    placed = jax.device_put(batch, rows)
    eight = run_unoptimised(step, jax.device_put(variables["params"], whole), placed)
    assert len(placed["image"].sharding.device_set) == 8
    np.testing.assert_allclose(one[0], eight[0], rtol=1e-5)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-5), one[1], eight[1])
