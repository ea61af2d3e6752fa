"""Augmentation on the device, inside the compiled step: key first, one independent draw per image.

A transform is `(key, images, targets=None, *, options) -> images`, or `(images, targets)` where boxes, masks or key
points came along. Images are bytes, 0 to 255, or float32 in [0, 1], (batch, height, width, channels), and keep their
type. `key` is one key, split over the images, or one for each. `compose` joins transforms, `sometimes` leaves some
images alone, and `on_batch` makes of one what everything that trains goes through, `(key, batch) -> batch`, with keys
made from the examples' ids: a run that is resumed, or laid out on other devices, draws the same.
"""

from cnnjax.data.augment.batch import (
    Augment,
    Batch,
    Transform,
    compose,
    in_turn,
    on_batch,
    sometimes,
    standardize,
    unchanged,
)
from cnnjax.data.augment.colour import brightness, colour_jitter, contrast, grayscale, hue, saturation
from cnnjax.data.augment.constrained import iou_crop
from cnnjax.data.augment.crops import crop_and_resize, flip, pad_and_crop, random_resized_crop
from cnnjax.data.augment.distortion import elastic_grid, photometric_distortion
from cnnjax.data.augment.draws import keys_for
from cnnjax.data.augment.erase import cutout, random_erasing
from cnnjax.data.augment.filters import blur, noise, sharpness
from cnnjax.data.augment.geometry import affine, elastic, perspective, rotation, scale, shear, translation
from cnnjax.data.augment.mixing import cutmix, mixup
from cnnjax.data.augment.policies import rand_augment, trivial_augment
from cnnjax.data.augment.quarters import mosaic
from cnnjax.data.augment.targets import Targets
from cnnjax.data.augment.tone import autocontrast, equalize, invert, posterize, solarize
from cnnjax.data.augment.warp import displace, warp
from cnnjax.data.augment.zoom import expand, scale_jitter

__all__ = [
    "Augment",
    "Batch",
    "Targets",
    "Transform",
    "affine",
    "autocontrast",
    "blur",
    "brightness",
    "colour_jitter",
    "compose",
    "contrast",
    "crop_and_resize",
    "cutmix",
    "cutout",
    "displace",
    "elastic",
    "elastic_grid",
    "equalize",
    "expand",
    "flip",
    "grayscale",
    "hue",
    "in_turn",
    "invert",
    "iou_crop",
    "keys_for",
    "mixup",
    "mosaic",
    "noise",
    "on_batch",
    "pad_and_crop",
    "perspective",
    "photometric_distortion",
    "posterize",
    "rand_augment",
    "random_erasing",
    "random_resized_crop",
    "rotation",
    "saturation",
    "scale",
    "scale_jitter",
    "sharpness",
    "shear",
    "solarize",
    "sometimes",
    "standardize",
    "translation",
    "trivial_augment",
    "unchanged",
    "warp",
]
