"""From settings to an augmentation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.data.pictures.pixels import Pixels
from cnnjax.experiment import Augmentation
from cnnjax.experiment.augmentation import check_augmentation, make_augment

PICTURES = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8, 1)
BATCH = {
    "image": jnp.asarray(PICTURES),
    "label": jnp.asarray([0, 0, 0, 1]),
    "id": jnp.arange(4),
    "valid": jnp.ones(4, bool),
}


def test_no_augmentation_changes_nothing():
    changed = make_augment(Augmentation(), num_classes=2)(jax.random.key(0), BATCH)
    jax.tree.map(np.testing.assert_array_equal, dict(changed), BATCH)


def test_augmentations_follow_the_settings():
    """Traced: what each does is tested in its own room."""
    settings = Augmentation(
        shift=1, flip=True, rotation=10.0, scale=0.1, elastic=2.0, colour_jitter=0.3, policy="trivial_augment",
        erasing=0.5, cutout=2, mixup=0.2, cutmix=1.0,
    )  # fmt: skip
    coloured = BATCH | {"image": jnp.tile(BATCH["image"], 3)}
    changed = jax.eval_shape(make_augment(settings, num_classes=2), jax.random.key(0), coloured)
    assert (changed["image"].shape, changed["image"].dtype) == ((4, 8, 8, 3), jnp.uint8)
    assert (changed["label"].shape, changed["label"].dtype) == ((4, 2), jnp.float32)


def test_those_of_detectors_move_boxes_and_keep_the_size():
    settings = Augmentation(photometric=True, expand=4.0, iou_crop=True, flip=True)
    boxes = jnp.asarray([[[1.0, 1.0, 6.0, 7.0], [0.0, 0.0, 0.0, 0.0]]] * 4)
    batch = BATCH | {"image": jnp.tile(BATCH["image"], 3), "boxes": boxes, "present": jnp.asarray([[True, False]] * 4)}
    changed = make_augment(settings, num_classes=2)(jax.random.key(1), batch)
    assert (changed["image"].shape, changed["boxes"].shape) == ((4, 8, 8, 3), (4, 2, 4))
    assert not np.array_equal(changed["boxes"], boxes)
    np.testing.assert_array_equal(changed["present"], (changed["boxes"][..., 2:] > changed["boxes"][..., :2]).all(-1))


def test_a_shift_moves_pictures_and_leaves_labels():
    changed = make_augment(Augmentation(shift=8), num_classes=2)(jax.random.key(0), BATCH)
    assert not np.array_equal(changed["image"], PICTURES)
    np.testing.assert_array_equal(changed["label"], BATCH["label"])


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"mixup": 0.2}, "mixup"), ({"policy": "rand_augment", "cutout": 2}, "policy, cutout")],
    ids=["mixup", "policy"],
)
def test_colours_are_changed_on_scales_that_are_known(settings, named):
    around_zero = Pixels("float32", -2.0, 2.0, (0.0,), (1.0,))
    with pytest.raises(ValueError, match=f"augmentation {named} takes bytes, or floats from 0 to 1, .* from -2 to 2;"):
        check_augmentation(Augmentation(**settings), around_zero)
    check_augmentation(Augmentation(**settings), Pixels("uint8", 0, 255, (0.0,), (1.0,)))
    check_augmentation(Augmentation(shift=2, flip=True, cutmix=1.0), around_zero)
