"""Augmentation on the device, inside the compiled step: key first, one independent draw per image.

Everything that trains goes through one door, `(key, batch) -> batch`, so that a task whose labels move with the
picture (boxes, masks, key points) can move them by the same draw.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Key, Shaped

Batch: TypeAlias = Mapping[str, Any]
Augment: TypeAlias = Callable[[jax.Array, Batch], Batch]


def shift(
    key: Key[Array, ""], images: Shaped[Array, "batch height width channels"], *, pixels: int
) -> Shaped[Array, "batch height width channels"]:
    """Moves every image by its own draw of at most `pixels` along each axis, zeros coming in: pad and crop.

    Raises:
        ValueError: `pixels` is negative.

    Reference: He et al. (2016), "Deep Residual Learning for Image Recognition", section 4.2.
    """
    if pixels < 0:
        raise ValueError(f"pixels={pixels}; expected 0 or more")
    padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    corners = jax.random.randint(key, (images.shape[0], 2), 0, 2 * pixels + 1)

    def crop(image: jax.Array, corner: jax.Array) -> jax.Array:
        return lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

    return jax.vmap(crop)(padded, corners)


def flip(
    key: Key[Array, ""], images: Shaped[Array, "batch height width channels"]
) -> Shaped[Array, "batch height width channels"]:
    """Mirrors each image left to right with probability one half."""
    mirrored = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def on_images(*transforms: Callable[[jax.Array, jax.Array], jax.Array]) -> Augment:
    """Applies transforms `(key, images) -> images` one after the other to `batch["image"]`."""

    def augment(key: jax.Array, batch: Batch) -> Batch:
        images = batch["image"]
        for number, transform in enumerate(transforms):
            images = transform(jax.random.fold_in(key, number), images)
        return {**batch, "image": images}

    return augment


def unchanged(key: jax.Array, batch: Batch) -> Batch:
    """No augmentation."""
    return batch


def standardize(batch: Batch, *, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Batch:
    """Images of 0..255 to float32, each channel shifted and scaled by statistics given on the scale of 0..1."""
    images = batch["image"].astype(jnp.float32) / 255.0
    centred = images - jnp.asarray(mean, jnp.float32).reshape(1, 1, 1, -1)
    return {**batch, "image": centred / jnp.asarray(deviation, jnp.float32).reshape(1, 1, 1, -1)}
