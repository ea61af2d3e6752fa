"""Mask R-CNN and, within it, Faster R-CNN on a pyramid: proposals, logits, detections, losses are torchvision's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.models.parts.architecture import StageMaps
from tests.models import torch_detector_goldens as goldens
from tests.models.detector_weights import check_gradients, filled, of_batch, true_objects
from tests.models.quick import run_unoptimised

GOLDENS = {
    name.removeprefix("mask_rcnn/"): array
    for name, array in np.load(goldens.FILE).items()
    if name.startswith("mask_rcnn/")
}
SHAPE = (1, goldens.HEIGHT, goldens.WIDTH, 3)
OPTIONS = {
    "num_classes": goldens.CLASSES,
    "backbone_options": {"scan": True},
    "test_after": goldens.PROPOSALS,
    "train_after": goldens.PROPOSALS,
    "most_detections": goldens.DETECTIONS,
}
# Here and there.
LOSSES = {
    "objectness": "loss_objectness",
    "proposal": "loss_rpn_box_reg",
    "class": "loss_classifier",
    "box": "loss_box_reg",
    "mask": "loss_mask",
}


@pytest.mark.usefixtures("unchecked_types")
def test_every_stage_is_torchvisions():
    model = models.create("mask_rcnn_resnet50_fpn", **OPTIONS)
    with jax.enable_x64(True):

        def run(variables, images):
            output, state = model.apply(variables, images, capture_intermediates=True, mutable=["intermediates"])
            return output, state["intermediates"]["fpn"]["__call__"][0]

        output, levels = run_unoptimised(run, filled(model, SHAPE), jnp.asarray(goldens.pictures()))
    for level, name in zip(levels, ("0", "1", "2", "3", "pool"), strict=True):
        np.testing.assert_allclose(level[..., ::64], GOLDENS[f"level/{name}"], rtol=0, atol=1e-9)
    assert output.regions.present.all()
    np.testing.assert_allclose(output.regions.boxes, GOLDENS["proposals"], rtol=0, atol=1e-9)
    logits, offsets = output.logits.reshape(-1, goldens.CLASSES + 1), output.offsets.reshape(len(GOLDENS["logits"]), -1)
    np.testing.assert_allclose(logits, GOLDENS["logits"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(offsets[:, :8], GOLDENS["offsets"], rtol=0, atol=1e-9)
    found = output.detections()
    for picture in range(goldens.BATCH):
        count = len(GOLDENS[f"found{picture}/scores"])
        assert found.present[picture].sum() == count > 10
        np.testing.assert_array_equal(found.classes[picture, :count] + 1, GOLDENS[f"found{picture}/labels"])
        np.testing.assert_allclose(found.scores[picture, :count], GOLDENS[f"found{picture}/scores"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(found.boxes[picture, :count], GOLDENS[f"found{picture}/boxes"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(found.masks[picture, :5], GOLDENS[f"found{picture}/masks"], rtol=0, atol=1e-9)


@pytest.mark.usefixtures("unchecked_types")
def test_losses_and_gradients_are_torchvisions():
    model = models.create(
        "mask_rcnn_resnet50_fpn", **OPTIONS, drawn_anchors=goldens.QUOTA, drawn_regions=4 * (goldens.PROPOSALS + 3)
    )
    with jax.enable_x64(True):
        variables = filled(model, SHAPE)

        def losses_of(params, variables, images, objects):
            inputs = models.PicturesWithObjects(images, objects)
            rngs = {"sampling": jax.random.key(0)}
            output = model.apply({**variables, "params": params}, inputs, train=True, rngs=rngs)
            parts = of_batch(output.losses(objects))
            return sum(parts.values()), parts

        gradients, parts = run_unoptimised(
            jax.grad(losses_of, has_aux=True),
            variables["params"],
            variables,
            jnp.asarray(goldens.pictures()),
            true_objects(masks=True),
        )
        for name, theirs in LOSSES.items():
            # torchvision's labels of anchors are in single precision.
            rtol = 1e-6 if name == "objectness" else 1e-9
            np.testing.assert_allclose(parts[name], GOLDENS[f"loss/{theirs}"], rtol=rtol, err_msg=name)
        kept = {name[9:]: norm for name, norm in GOLDENS.items() if name.startswith("gradient/")}
        check_gradients(model, {**variables, "params": gradients}, kept, SHAPE)


class Masks(models.MaskRCNN):
    """Logits of masks in given boxes."""

    @nn.compact
    def __call__(self, images, boxes, classes, present):
        maps = self.maps_of(images, train=False, found=StageMaps(self, None))
        if present is None:
            return self._masks(maps, boxes, classes)
        return self._first_masks(maps, boxes, classes, present)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("count", [0, 1, 3, 8])
def test_as_many_masks_as_are_needed_are_those_of_all(count):
    """Of eight slots one, four or all are computed; those of present regions are the same, and so are the gradients."""
    _, variant = models.builder_of("mask_rcnn_small")
    model = Masks(**{**variant, "num_classes": 2, "features": 8, "mask_features": 4, "mask_depth": 1})
    images = jnp.asarray(np.random.default_rng(0).standard_normal((2, 64, 64, 3)), jnp.float32)
    corners = np.random.default_rng(1).uniform(0, 30, (2, 8, 2)).astype(np.float32)
    boxes = jnp.asarray(np.concatenate([corners, corners + 20], axis=-1))
    classes = jnp.asarray(np.random.default_rng(2).integers(0, 2, (2, 8)))
    # One picture has fewer than the other.
    present = jnp.asarray(np.arange(8)[None] < np.array([[count], [count // 2]]))
    variables = jax.jit(model.init)(jax.random.key(0), images, boxes, classes, None)

    def loss(params, asked):
        logits = model.apply({**variables, "params": params}, images, boxes, classes, asked)
        logits = jnp.where(present[..., None, None], logits, 0.0)
        return jnp.sum(logits**2), logits

    def both(params):
        return [jax.grad(loss, has_aux=True)(params, asked) for asked in (present, None)]

    (of_few, few), (of_every, every) = run_unoptimised(both, variables["params"])
    np.testing.assert_allclose(few, every, atol=1e-5)
    assert few.any() == (count > 0)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4), of_few, of_every)
