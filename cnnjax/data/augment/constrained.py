"""Crops that keep a good part of an object, as SSD draws them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.data.augment.crops import check_size, crop_and_resize
from cnnjax.data.augment.draws import (
    Images,
    Keys,
    Result,
    check_images,
    image_keys,
    interval_of,
    split_each,
    uniform,
)
from cnnjax.data.augment.targets import Targets, check_targets
from cnnjax.functional.boxes import is_valid, pairwise_iou


def iou_crop(
    key: Keys,
    images: Images,
    targets: Targets | None = None,
    *,
    size: tuple[int, int],
    overlaps: tuple[float | None, ...] = (None, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9),
    scale: tuple[float, float] = (0.3, 1.0),
    aspect: tuple[float, float] = (0.5, 2.0),
    tries: int = 50,
) -> Result:
    """A random part of the picture that overlaps an object by a least IoU, brought to `size`, as SSD draws it.

    Parts are drawn, `tries` of them; one fits a least overlap if a box whose centre lies in it has that IoU with it.
    Of the least overlaps that some part fits, and of the whole picture (None), one is drawn, and then the first part
    that fits it is taken. Where none is possible, as in a picture without objects, it is the whole picture.

    An object stays if the centre of its box lies in the part; its box is cut at the border. The boxes of the others
    become (0, 0, 0, 0), which is empty; masks and key points show and say where they were all the same.

    Args:
        key: One key, or one per image.
        images: Bytes or float32 in [0, 1].
        targets: What moves along; boxes are needed.
        size: Height and width of what comes out.
        overlaps: Least IoUs of the part with an object, 0 to 1, or None for the whole picture.
        scale: The least and the largest square root of the part's share of the area, drawn alike likely.
        aspect: The least and the largest ratio of width to height, next to that of the picture; those at which the
            part would be longer than the picture are left out.
        tries: How many parts are drawn.

    Raises:
        ValueError: there are no boxes, a range is not one, `overlaps` are none or outside [0, 1], `tries` below 1, or
            as `crop_and_resize`.

    Reference: Liu et al. (2016), "SSD: Single Shot MultiBox Detector", section 2.2, "Data augmentation".
    """
    check_images(images)
    check_targets(targets, images)
    check_size(size)
    if targets is None or targets.boxes is None:
        raise ValueError("targets have no boxes; expected those of the objects, one of which the part is to overlap")
    if not overlaps or not all(overlap is None or 0 <= overlap <= 1 for overlap in overlaps):
        raise ValueError(f"overlaps={overlaps}; expected least IoUs from 0 to 1, or None for the whole picture")
    if tries < 1:
        raise ValueError(f"tries={tries}; expected 1 or more")
    scales = interval_of("scale", scale, lowest=1e-2, highest=1.0)
    aspects = interval_of("aspect", aspect, lowest=1e-2, highest=1e2)
    height, width = images.shape[1:3]
    of_parts, of_choice = split_each(image_keys(key, images), 2)
    parts = _parts(uniform(of_parts, shape=(tries, 4)), scales, aspects)
    parts = parts * jnp.asarray([width, height, width, height], jnp.float32)[None, None]
    boxes = targets.boxes.astype(jnp.float32)
    kept = jax.vmap(_kept)(parts, boxes)
    # At a least overlap of zero an object has to stay all the same.
    best = jnp.max(jnp.where(kept, jax.vmap(pairwise_iou)(parts, boxes), -1.0), -1, initial=-1.0)
    least = jnp.asarray([2.0 if overlap is None else overlap for overlap in overlaps], jnp.float32)
    fits = best[:, None] >= least[None, :, None]
    whole = (least > 1)[None]
    chances = jnp.where(fits.any(-1) | whole, uniform(of_choice, shape=(len(overlaps),)), -1.0)
    chosen = jnp.argmax(chances, -1)[:, None]
    first = jnp.take_along_axis(jnp.argmax(fits, -1), chosen, 1)
    windows = jnp.take_along_axis(parts, first[..., None], 1)[:, 0]
    cropped = jnp.take_along_axis(fits.any(-1), chosen, 1)
    windows = jnp.where(cropped, windows, jnp.asarray([0, 0, width, height], jnp.float32)[None])
    # Boxes with a NaN stay what they are, so that it is seen.
    staying = jax.vmap(_kept)(windows[:, None], boxes)[:, 0] | ~cropped | jnp.isnan(boxes).any(-1)
    staying = staying[..., None]
    targets = targets._replace(boxes=jnp.where(staying, targets.boxes, jnp.zeros_like(targets.boxes)))
    return crop_and_resize(images, windows, targets, size=size)


def _parts(
    draws: Float[Array, "batch tries 4"], scales: tuple[float, float], aspects: tuple[float, float]
) -> Float[Array, "batch tries 4"]:
    """Boxes in shares of the picture's sides, from uniform draws."""
    scale = scales[0] + (scales[1] - scales[0]) * draws[..., 0]
    # Both sides are at most 1. If that leaves no aspect of the range, the nearest one is taken.
    low = jnp.clip(jnp.square(scale), aspects[0], aspects[1])
    high = jnp.clip(1.0 / jnp.square(scale), aspects[0], aspects[1])
    root = jnp.sqrt(low + (high - low) * draws[..., 1])
    sides = jnp.minimum(jnp.stack([scale * root, scale / root], -1), 1.0)
    corners = draws[..., 2:] * (1.0 - sides)
    return jnp.concatenate([corners, corners + sides], -1)


def _kept(parts: Float[Array, "tries 4"], boxes: Float[Array, "n 4"]) -> jax.Array:
    """Which boxes, in the columns, are not empty and have their centre in each part, in the rows."""
    centres = 0.5 * (boxes[:, :2] + boxes[:, 2:])[None]
    inside = ((centres > parts[:, None, :2]) & (centres < parts[:, None, 2:])).all(-1)
    return inside & is_valid(boxes)[None]
