"""From transforms of images to what a training step calls, `(key, batch) -> batch`, and what joins them.

A transform is `(key, images, targets=None) -> images`, or `(images, targets)` where targets came, its options bound by
`functools.partial`.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.data.augment.draws import (
    Images,
    Keys,
    Result,
    check_number,
    image_keys,
    keys_for,
    split_each,
    to_unit,
    uniform,
)
from cnnjax.data.augment.targets import Targets, choose, joined
from cnnjax.data.pictures.pixels import kind_of

Batch: TypeAlias = Mapping[str, Any]
Augment: TypeAlias = Callable[[jax.Array, Batch], Batch]
Transform: TypeAlias = Callable[..., Result]


def compose(*transforms: Transform) -> Transform:
    """Applies transforms in order; number i draws from each image's key with i folded in.

    >>> from functools import partial
    >>> from cnnjax.data import augment
    >>> change = augment.compose(augment.flip, partial(augment.rotation, degrees=15.0))
    >>> change(jax.random.key(0), jnp.zeros((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """

    def composed(key: Keys, images: Images, targets: Targets | None = None) -> Result:
        keys = image_keys(key, images)
        for number, transform in enumerate(transforms):
            folded = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            images, targets = _both(transform, folded, images, targets)
            # Fused on CPUs, one transform would be computed anew for each of the pixels that the next one reads.
            images = lax.optimization_barrier(images)
        return joined(images, targets)

    return composed


def sometimes(transform: Transform, *, probability: float) -> Transform:
    """Applies a transform that keeps the size to some images, each with a probability.

    All are computed, so the cost is that of the transform.

    Raises:
        ValueError: `probability` is outside [0, 1]; when called, if the transform changes the size.
    """
    check_number("probability", probability, 0.0, 1.0, "that of a changed image")

    def chosen(key: Keys, images: Images, targets: Targets | None = None) -> Result:
        of_choice, of_transform = split_each(image_keys(key, images), 2)
        changed, placed = _both(transform, of_transform, images, targets)
        if changed.shape != images.shape:
            raise ValueError(f"the transform makes {changed.shape} of {images.shape}; expected one that keeps the size")
        some = uniform(of_choice) < probability
        pictures = jnp.where(some[:, None, None, None], changed, images)
        return pictures if targets is None or placed is None else (pictures, choose(some, placed, targets))

    return chosen


def on_batch(transform: Transform) -> Augment:
    """Applies a transform to `batch["image"]`, each by a key of its own with the example's "id" folded in.

    "boxes", "masks", "keypoints", "present" and "proposals", where the batch has them, move along as `Targets`; the
    rest stays.

    Raises:
        ValueError: when called, if the batch has no "id".
    """

    def augment(key: jax.Array, batch: Batch) -> Batch:
        if "id" not in batch:
            raise ValueError(
                f"the batch has {', '.join(batch)}; expected 'id' too, from which each image's key is made"
            )
        keys = keys_for(key, batch["id"])
        placed = {name: batch[name] for name in Targets._fields if name in batch}
        images, targets = _both(transform, keys, batch["image"], Targets(**placed) if placed else None)
        moved = {} if targets is None else {name: getattr(targets, name) for name in placed}
        return {**batch, "image": images, **moved}

    return augment


def in_turn(*augments: Augment) -> Augment:
    """Applies functions of batches, as of `on_batch` or `mixup`, in order, each with its number folded into the key."""

    def augment(key: jax.Array, batch: Batch) -> Batch:
        for number, change in enumerate(augments):
            batch = change(jax.random.fold_in(key, number), batch)
        return batch

    return augment


def unchanged(key: jax.Array, batch: Batch) -> Batch:
    """No augmentation."""
    return batch


def standardize(batch: Batch, *, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Batch:
    """Images to float32, each channel shifted and scaled: (x - mean) / deviation.

    Bytes count from 0 to 1, a 255th of them, as do `mean` and `deviation` then; floats count as they are.

    Raises:
        ValueError: the images are neither bytes nor floats, or there are neither one mean and deviation nor one for
            each channel.
    """
    kind_of("images", batch["image"])
    images = to_unit(jnp.asarray(batch["image"])).astype(jnp.float32)
    if not {len(mean), len(deviation)} <= {1, images.shape[-1]}:
        raise ValueError(
            f"pictures have {images.shape[-1]} channels, and {len(mean)} means and {len(deviation)} deviations came;"
            " expected one for each channel, or one for all"
        )
    centred = images - jnp.asarray(mean, jnp.float32).reshape(1, 1, 1, -1)
    return {**batch, "image": centred / jnp.asarray(deviation, jnp.float32).reshape(1, 1, 1, -1)}


def _both(transform: Transform, keys: Keys, images: Images, targets: Targets | None) -> tuple[Images, Targets | None]:
    """Images and targets of a transform, which gives the images alone where no targets come."""
    return (transform(keys, images), None) if targets is None else transform(keys, images, targets)
