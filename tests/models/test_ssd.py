"""SSD: logits, detections, losses and gradients are torchvision's; default boxes, layouts and errors."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.functional.boxes import SSD300_COCO
from cnnjax.models.parts.layouts import OF_300, OF_512
from tests.models import torch_detector_goldens as goldens
from tests.models.detector_weights import check_gradients, filled, of_batch, true_objects
from tests.models.quick import run_unoptimised

GOLDENS = {
    name.removeprefix("ssd300/"): array for name, array in np.load(goldens.FILE).items() if name.startswith("ssd300/")
}
SHAPE = (1, 300, 300, 3)
OF_COCO = {"layout": replace(OF_300, boxes=SSD300_COCO), "clipping": "sides"}


@pytest.mark.usefixtures("unchecked_types")
def test_all_is_torchvisions():
    """Detections, the parts of the loss, and the gradient of every parameter, from one program."""
    model = models.create(
        "ssd300",
        num_classes=goldens.CLASSES,
        most_detections=goldens.DETECTIONS,
        most_candidates=50,
        **OF_COCO,
    )
    with jax.enable_x64(True):
        variables = filled(model, SHAPE)

        def loss_of(params, images, objects):
            output = model.apply({"params": params}, images, train=True)
            parts = of_batch(output.losses(objects))
            return sum(parts.values()), (parts, output, output.detections())

        gradients, (parts, output, found) = run_unoptimised(
            jax.grad(loss_of, has_aux=True),
            variables["params"],
            jnp.asarray(goldens.pictures(300)),
            true_objects(scale=2.0, pictures=1),
        )
        np.testing.assert_allclose(output.logits[0, ::40], GOLDENS["logits"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(output.offsets[0, ::40], GOLDENS["offsets"], rtol=0, atol=1e-9)
        assert found.present.all()
        np.testing.assert_array_equal(found.classes[0] + 1, GOLDENS["found/labels"])
        np.testing.assert_allclose(found.scores[0], GOLDENS["found/scores"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(found.boxes[0], GOLDENS["found/boxes"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(parts["class"], GOLDENS["loss/classification"], rtol=1e-9)
        np.testing.assert_allclose(parts["box"], GOLDENS["loss/bbox_regression"], rtol=1e-9)
        kept = {name[9:]: norm for name, norm in GOLDENS.items() if name.startswith("gradient/")}
        check_gradients(model, {"params": gradients}, kept, SHAPE)


@pytest.mark.parametrize(("layout", "maps"), [(OF_300, 6), (OF_512, 7)], ids=["300", "512"])
def test_extras_make_the_maps_of_the_layout(layout, maps):
    """By hand: (side + 2 padding - window) / stride + 1, from the second map on."""
    side, found = layout.boxes.maps[1], list(layout.boxes.maps[:2])
    for extra in layout.extras:
        side = (side + 2 * extra.padding - extra.kernel_size) // extra.strides + 1
        found.append(side)
    assert tuple(found) == layout.boxes.maps
    assert len(found) == maps


def test_what_cannot_be():
    model = models.create("ssd_small", num_classes=3)
    for size, options, message in (
        (96, {}, r"pictures of 96x96 came, and the default boxes are for 128x128; .*--image-size 128"),
        (128, {"backbone": "resnet20", "backbone_options": {}}, r"backbone='resnet20' has no stage of stride 8"),
    ):
        images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(model.clone(**options).init, jax.random.key(0), images)
    with pytest.raises(ValueError, match="3 extras came for 6 maps; expected two less"):
        replace(OF_300, extras=OF_300.extras[:3])
