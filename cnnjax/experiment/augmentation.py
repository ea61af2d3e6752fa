"""The augmentations that an experiment asks for, as functions of a batch on the device."""

from functools import partial
from typing import Any

from cnnjax.data import augment
from cnnjax.data.pictures.pixels import Pixels
from cnnjax.experiment.settings import Augmentation

# Augmentations that compute with the values of pixels, or put in some of their own.
_ON_COLOURS = ("photometric", "expand", "colour_jitter", "policy", "erasing", "cutout", "mixup")
_POLICIES = {"rand_augment": augment.rand_augment, "trivial_augment": augment.trivial_augment}


def check_augmentation(settings: Augmentation, pixels: Pixels) -> None:
    """Does nothing if what changes colours is used on bytes or floats from 0 to 1 only, which is what it knows.

    Raises:
        ValueError: it is used on floats of another scale.
    """
    chosen = [name for name in _ON_COLOURS if getattr(settings, name) not in (0, "none")]
    if chosen and not pixels.from_zero_to_one:
        raise ValueError(
            f"augmentation {', '.join(chosen)} takes bytes, or floats from 0 to 1, and the pictures have values from"
            f" {pixels.low:g} to {pixels.high:g}; bring them to one of these, or leave it out"
        )


def make_augment(settings: Augmentation, *, num_classes: int) -> augment.Augment:
    """What the settings say happens to a training batch on the device; random crops are made before it gets there."""
    strength = settings.colour_jitter
    transforms = {
        "shift": partial(augment.pad_and_crop, pixels=settings.shift),
        "flip": augment.flip,
        "rotation": partial(augment.rotation, degrees=settings.rotation),
        "scale": partial(augment.scale, factors=settings.scale),
        "elastic": partial(augment.elastic, alpha=settings.elastic),
        "photometric": augment.photometric_distortion,
        "expand": _of_the_same_size(partial(augment.expand, ratio=(1.0, max(1.0, settings.expand)))),
        "iou_crop": _of_the_same_size(augment.iou_crop),
        "colour_jitter": partial(
            augment.colour_jitter, brightness=strength, contrast=strength, saturation=strength, hue=strength / 4
        ),
        "policy": _POLICIES.get(settings.policy),
        "erasing": partial(augment.random_erasing, probability=settings.erasing),
        "cutout": partial(augment.cutout, side=settings.cutout),
    }
    chosen = [transform for name, transform in transforms.items() if transform and getattr(settings, name)]
    mixes = {"mixup": augment.mixup, "cutmix": augment.cutmix}
    mixing = [
        partial(mix, alpha=getattr(settings, name), num_classes=num_classes)
        for name, mix in mixes.items()
        if getattr(settings, name)
    ]
    return augment.in_turn(*([augment.on_batch(augment.compose(*chosen))] if chosen else []), *mixing)


def _of_the_same_size(transform: augment.Transform) -> augment.Transform:
    """A transform that brings pictures to a size, which is here the one that they have."""

    def transformed(key: Any, images: Any, targets: augment.Targets | None = None) -> Any:
        return transform(key, images, targets, size=images.shape[1:3])

    return transformed
