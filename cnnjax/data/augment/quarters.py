"""Mosaic: every example with the three that follow it in its batch, around a random point."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from cnnjax.data.augment.batch import Batch
from cnnjax.data.augment.crops import check_size, crop_and_resize
from cnnjax.data.augment.draws import Fill, check_images, image_keys, interval_of, keys_for, uniform
from cnnjax.data.augment.targets import Targets, check_targets

# Elements with one entry per object, which are joined.
_OF_OBJECTS = ("boxes", "classes", "present", "crowd", "difficult", "truncated", "area", "keypoints", "visibility")


def mosaic(
    key: Key[Array, ""],
    batch: Batch,
    *,
    size: tuple[int, int],
    centre: tuple[float, float] = (0.25, 0.75),
    factors: tuple[float, float] = (0.5, 1.0),
    fill: Fill = 0.5,
) -> Batch:
    """Lays four pictures around a random point: each example's own at the upper left, then the next three in the batch.

    Each picture is brought to `size`, shrunk by a factor of its own, and laid with one corner on the point; what hangs
    over its quarter is cut, and what it leaves free is `fill`. Examples come to have four times as many slots, the own
    first: those of "boxes", "classes", "present", "crowd", "difficult", "truncated", "area" (which is not measured
    anew), "keypoints", "visibility" and "proposals" where the batch has them. Slots whose box is cut away are empty,
    and not present. "masks" are label maps of slot numbers plus 1, (batch, height, width), counted on through the
    quarters, or have a last axis of slots. The rest stays that of the own example.

    Args:
        key: One key; with the batch's "id" folded in where there is one, so that a draw belongs to an example.
        batch: "image" and "boxes" at least; the order of a shuffled batch says who meets whom.
        size: Height and width of what comes out.
        centre: The least and the largest share of the sides at which the point lies, alike likely.
        factors: The least and the largest factor, alike likely.
        fill: What is free, 0 to 1: one number, or one for each channel.

    Raises:
        ValueError: the batch has no boxes, `centre` is not a range within 0 to 1, `factors` not one above 0, or as
            `crop_and_resize`.

    Reference: Bochkovskiy, Wang and Liao (2020), "YOLOv4: Optimal Speed and Accuracy of Object Detection", section 3.3.
    """
    images = batch["image"]
    check_images(images)
    check_size(size)
    if "boxes" not in batch:
        raise ValueError(f"the batch has {', '.join(batch)}; expected 'boxes' too")
    targets = Targets(**{name: batch[name] for name in Targets._fields if name in batch})
    check_targets(targets, images)
    places = interval_of("centre", centre, lowest=0.0, highest=1.0)
    low, high = interval_of("factors", factors, lowest=1e-3, highest=1e3)
    sides = jnp.asarray([size[::-1]], jnp.float32)
    draws = uniform(keys_for(key, batch["id"]) if "id" in batch else image_keys(key, images), shape=(6,))
    points = sides * (places[0] + (places[1] - places[0]) * draws[:, :2])
    scales = low + (high - low) * draws[:, 2:]
    rows, columns = (jnp.arange(length, dtype=jnp.float32) + 0.5 for length in size)
    on_right = (columns[None] > points[:, :1])[:, None, :, None]
    below = (rows[None] > points[:, 1:])[:, :, None, None]
    slots = batch["boxes"].shape[1]
    picture, parts = jnp.zeros((images.shape[0], *size, images.shape[3]), images.dtype), []
    for quarter, (right, down) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
        shifted, rolled = jax.tree.map(lambda array, by=quarter: jnp.roll(array, -by, 0), (images, targets))
        # The corner of the picture that lies on the point, in its own pixels, and how many of them one pixel covers.
        whole = jnp.asarray([images.shape[2:0:-1]], jnp.float32)
        corner = whole * jnp.asarray([[1 - right, 1 - down]], jnp.float32)
        step = whole / sides / scales[:, quarter : quarter + 1]
        windows = jnp.concatenate([corner - points * step, corner + (sides - points) * step], -1)
        changed, moved = crop_and_resize(shifted, windows, rolled, size=size, fill=fill)
        here = (on_right == bool(right)) & (below == bool(down))
        picture = jnp.where(here, changed, picture)
        ends = jnp.where(jnp.asarray([[right, down]], bool), sides, points)
        starts = jnp.where(jnp.asarray([[right, down]], bool), points, 0.0)
        cut = [None if some is None else _cut(some, starts, ends) for some in (moved.boxes, moved.proposals)]
        parts.append((*cut, _kept(moved.masks, here, quarter * slots), moved.keypoints))
    boxes, proposals, masks, keypoints = zip(*parts, strict=True)
    joined = {
        name: jnp.concatenate([jnp.roll(batch[name], -quarter, 0) for quarter in range(4)], 1)
        for name in _OF_OBJECTS
        if name in batch
    }
    joined["boxes"] = jnp.concatenate(boxes, 1)
    if "proposals" in batch:
        joined["proposals"] = jnp.concatenate(proposals, 1)
    if "keypoints" in batch:
        joined["keypoints"] = jnp.concatenate(keypoints, 1)
    if "masks" in batch:
        joined["masks"] = sum(masks[1:], masks[0]) if masks[0].ndim == 3 else jnp.concatenate(masks, -1)
    if "present" in batch:
        joined["present"] = joined["present"] & (joined["boxes"][..., 2:] > joined["boxes"][..., :2]).all(-1)
    return {**batch, "image": picture, **joined}


def _cut(boxes: jax.Array, starts: jax.Array, ends: jax.Array) -> jax.Array:
    low, high = (jnp.clip(corner, starts[:, None], ends[:, None]) for corner in (boxes[..., :2], boxes[..., 2:]))
    empty = (high <= low).any(-1, keepdims=True)
    return jnp.where(empty, 0.0, jnp.concatenate([low, high], -1)).astype(boxes.dtype)


def _kept(masks: jax.Array | None, here: jax.Array, before: int) -> jax.Array | None:
    """Masks of one quarter, zero in the others; label maps count on from the slots of the quarters before."""
    if masks is None:
        return None
    if masks.ndim == 4:
        return jnp.where(here, masks, jnp.zeros_like(masks))
    counted = jnp.where(masks > 0, masks + jnp.asarray(before, masks.dtype), masks)
    return jnp.where(here[..., 0], counted, jnp.zeros_like(masks))
