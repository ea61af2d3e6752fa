"""Instance segmentation as a task: masks of a picture made by hand, beside those of the boxes alone."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.tasks import Instances
from cnnjax.tasks.instances import pasted, planes_of
from cnnjax.tasks.metrics import merge

TASK = Instances(("cell",))
MAP = np.zeros((1, 32, 32), np.int32)
MAP[0, 4:20, 4:20] = 1
BATCH = {
    "image": jnp.zeros((1, 32, 32, 3)),
    "boxes": jnp.asarray([[[4.0, 4, 20, 20], [0, 0, 0, 0]]]),
    "classes": jnp.zeros((1, 2), jnp.int32),
    "present": jnp.asarray([[True, False]]),
    "masks": jnp.asarray(MAP),
    "valid": jnp.asarray([True]),
    "id": jnp.asarray([0]),
}


def said(share):
    """The right box; of its mask the upper part."""
    masks = np.zeros((1, 1, 28, 28), np.float32)
    masks[:, :, : round(28 * share)] = 1
    return models.Detections(
        jnp.asarray([[[4.0, 4, 20, 20]]]),
        jnp.asarray([[0.9]]),
        jnp.asarray([[0]]),
        jnp.asarray([[True]]),
        jnp.asarray(masks),
    )


class Output:
    candidates = 1

    def __init__(self, found):
        self.found = found

    def detections(self):
        return self.found

    def class_scores(self):
        return jnp.zeros((1, 1))


@pytest.mark.parametrize(("share", "found"), [(1.0, True), (0.3, False)], ids=["whole", "a third"])
def test_masks_are_judged_by_their_own_overlap(share, found):
    output = Output(said(share))
    summary = TASK.summarize(merge([TASK.metrics(output, TASK.predict(output, BATCH), BATCH)]))
    assert summary["ap50"] == pytest.approx(1.0)
    assert summary["mask_ap50"] == pytest.approx(float(found))


def test_objects_come_with_masks():
    assert TASK.inputs(BATCH, train=True).objects.masks is BATCH["masks"]
    with pytest.raises(
        ValueError, match=r'and no "masks"; expected masks of instances: read them with --objects.masks'
    ):
        TASK.inputs({name: array for name, array in BATCH.items() if name != "masks"}, train=True)


def test_masks_as_planes_and_in_pictures():
    planes = planes_of(MAP[0], 2)
    assert planes.sum(axis=(1, 2)).tolist() == [256, 0]
    np.testing.assert_array_equal(planes_of(np.moveaxis(planes, 0, -1), 2), planes)
    whole = pasted(np.ones((1, 28, 28)), np.array([[4.0, 4, 20, 20]]), (32, 32))[0]
    # By the integer rule a mask is up to a pixel larger.
    assert whole[4:20, 4:20].all()
    assert not whole[22:].any()


def test_masks_are_drawn():
    output = Output(said(1.0))
    predictions = {name: np.asarray(array) for name, array in TASK.predict(output, BATCH).items()}
    figures = TASK.draw({name: np.asarray(array) for name, array in BATCH.items()}, predictions)
    assert "Where errors come from" in figures
