"""Mixup and cutmix: every example with another one of its batch, and their labels in the same proportion.

Within the batch given: under `shard_map`, within a device's shard. All partners are the same number of places on, drawn
from 1 to the batch less one, in an order that shuffling has made random. Labels become float32 distributions over the
classes, and "tags" mix as they are; rows whose "valid" is False neither give nor take.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from cnnjax.data.augment.batch import Batch
from cnnjax.data.augment.draws import (
    Images,
    check_images,
    from_unit,
    image_keys,
    per_image,
    to_unit,
    uniform,
)
from cnnjax.data.augment.erase import inside


def mixup(key: Key[Array, ""], batch: Batch, *, alpha: float = 0.2, num_classes: int | None = None) -> Batch:
    r"""Adds pictures and labels of two examples, by shares drawn for each.

    $$\tilde{x} = \lambda x_i + (1 - \lambda) x_j, \qquad \tilde{y} = \lambda y_i + (1 - \lambda) y_j, \qquad
    \lambda \sim \mathrm{Beta}(\alpha, \alpha)$$

    Args:
        key: One key.
        batch: "image", and "label", integers (batch,) or distributions (batch, classes), or "tags" (batch, tags), or
            both; "valid", if there, says which rows count.
        alpha: Above 0; small ones leave most examples nearly alone, 1 makes all shares alike likely.
        num_classes: How many classes integer labels have.

    Raises:
        ValueError: `alpha` is not above 0, `num_classes` is missing or wrong, there is no label and no tags, their
            shapes do not fit, or the batch has boxes, masks or key points, which do not mix.

    Reference: Zhang et al. (2018), "mixup: Beyond Empirical Risk Minimization", section 2.
    """
    _check(key, batch, alpha)
    images, labels = batch["image"], _distributions(batch, num_classes)
    of_offset, of_share = jax.random.split(key)
    offset = _offset(of_offset, images.shape[0])
    shares = jnp.where(_mixing(batch, offset), _beta(of_share, images, alpha), 1.0)
    own, other = to_unit(images), to_unit(jnp.roll(images, -offset, 0))
    mixed = from_unit(other + per_image(shares) * (own - other), images.dtype)
    return {**batch, "image": mixed, **_mixed(labels, shares, offset)}


def cutmix(key: Key[Array, ""], batch: Batch, *, alpha: float = 1.0, num_classes: int | None = None) -> Batch:
    r"""Puts a rectangle of another example's picture in its place, and mixes labels by the areas.

    The rectangle has the picture's aspect and a share of $1 - \lambda$ of its area, $\lambda \sim \mathrm{Beta}(\alpha,
    \alpha)$; its centre is uniform over the picture, and what hangs over the border is cut, so the shares of the labels
    are those of the pixels as they are. Arguments and errors are those of `mixup`.

    Reference: Yun et al. (2019), "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
    Features", section 3.1 and appendix A.
    """
    _check(key, batch, alpha)
    images, labels = batch["image"], _distributions(batch, num_classes)
    of_offset, of_share, of_place = jax.random.split(key, 3)
    offset = _offset(of_offset, images.shape[0])
    height, width = images.shape[1:3]
    lengths = jnp.asarray([height, width], jnp.float32)[None]
    halves = lengths * jnp.sqrt(1.0 - _beta(of_share, images, alpha))[:, None] / 2.0
    centres = uniform(image_keys(of_place, images), shape=(2,)) * lengths
    pasted = inside(height, width, centres - halves, centres + halves)
    pasted = pasted & per_image(_mixing(batch, offset))
    shares = 1.0 - jnp.mean(pasted.astype(jnp.float32), (1, 2, 3))
    mixed = jnp.where(pasted, jnp.roll(images, -offset, 0), images)
    return {**batch, "image": mixed, **_mixed(labels, shares, offset)}


def _check(key: Key[Array, "..."], batch: Batch, alpha: float) -> None:
    check_images(batch["image"])
    if key.shape:
        raise ValueError(f"key has shape {key.shape}; expected one key, from which all partners are drawn")
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha={alpha}; expected a number above 0")
    placed = [name for name in ("boxes", "proposals", "masks", "keypoints") if name in batch]
    if placed:
        raise ValueError(f"the batch has {', '.join(placed)}, which do not mix: leave out mixup and cutmix")
    if "label" not in batch and "tags" not in batch:
        raise ValueError(f"the batch has {', '.join(batch)}; expected 'label' or 'tags', to mix with the pictures")


def _offset(key: Key[Array, ""], count: int) -> jax.Array:
    """How many places on partners are; 0 where an example is alone."""
    return jax.random.randint(key, (), min(1, count - 1), max(1, count))


def _beta(key: Key[Array, ""], images: Images, alpha: float) -> Float[Array, " batch"]:
    keys = image_keys(key, images)
    # Of alpha 1 the distribution is uniform, and needs none of the loops that draw the others.
    return uniform(keys) if alpha == 1 else jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)


def _mixing(batch: Batch, offset: jax.Array) -> jax.Array:
    """Which rows have a partner: those that count, where the partner counts too."""
    valid = batch["valid"] if "valid" in batch else jnp.ones(batch["image"].shape[0], bool)
    return valid & jnp.roll(valid, -offset, 0)


def _distributions(batch: Batch, num_classes: int | None) -> dict[str, Float[Array, "batch classes"]]:
    """What of a batch's "label" and "tags" can be mixed, in float32."""
    found = {}
    for name in (name for name in ("label", "tags") if name in batch):
        rows, count = batch[name], batch["image"].shape[0]
        if name == "label" and jnp.issubdtype(rows.dtype, jnp.integer) and rows.ndim == 1:
            if num_classes is None or num_classes < 2:
                raise ValueError(f"num_classes={num_classes}; expected how many classes the integer labels have")
            # In a byte, one_hot would count the classes modulo 256.
            rows = jax.nn.one_hot(rows.astype(jnp.int32), num_classes)
        if rows.ndim != 2 or rows.shape[0] != count:
            raise ValueError(
                f"{name} has shape {rows.shape}; expected ({count}, classes), or integers, one per example"
            )
        if name == "label" and num_classes not in (None, rows.shape[1]):
            raise ValueError(f"num_classes={num_classes}, and label has {rows.shape[1]} columns; expected one number")
        found[name] = rows.astype(jnp.float32)
    return found


def _mixed(
    labels: dict[str, Float[Array, "batch classes"]], shares: Float[Array, " batch"], offset: jax.Array
) -> dict[str, Float[Array, "batch classes"]]:
    def mix(rows: Float[Array, "batch classes"]) -> Float[Array, "batch classes"]:
        return shares[:, None] * rows + (1.0 - shares)[:, None] * jnp.roll(rows, -offset, 0)

    return {name: mix(rows) for name, rows in labels.items()}
