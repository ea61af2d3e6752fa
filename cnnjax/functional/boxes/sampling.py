"""Which boxes a loss is of: a random sample with a share of positives, or the negatives that are hardest."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cnnjax.functional.operands import require_mask


class Sample(NamedTuple):
    """Boxes drawn by their index: first the positive ones, then the negative ones, then empty places.

    Attributes:
        indices: which boxes; 0 in an empty place.
        positive: the box is a positive one.
        present: the place is filled.
    """

    indices: Int[Array, "count"]
    positive: Bool[Array, "count"]
    present: Bool[Array, "count"]


def sample_boxes(
    key: jax.Array, positive: Bool[Array, "boxes"], negative: Bool[Array, "boxes"], *, count: int, positives: int
) -> Sample:
    """Draws `count` boxes without replacement, at most `positives` of them positive; every choice is equally likely.

    Where there are fewer positives, negatives take their places; where there are too few of both, places stay empty.
    What is drawn is exactly all there is where the numbers asked for exceed the supply.

    Args:
        key: the randomness.
        positive: the boxes with an object.
        negative: the boxes that are background; a box in neither is ignored.
        count: 256 for region proposals, 512 (or 128) for the head.
        positives: half of them for region proposals, a quarter for the head.

    Returns:
        A `Sample` of `count` places.

    Raises:
        ValueError: not 0 <= positives <= count, `count` is 0, or the masks differ in shape.

    Reference: Ren et al. (2015), "Faster R-CNN", section 3.1.3; Girshick (2015), "Fast R-CNN", section 2.3.

    >>> both = jnp.asarray([True, False, False]), jnp.asarray([False, True, False])
    >>> sample_boxes(jax.random.key(0), *both, count=3, positives=2)
    Sample(indices=Array([0, 1, 0], dtype=int32), positive=Array([ True, False, False], dtype=bool), \
present=Array([ True,  True, False], dtype=bool))
    """
    if not 0 <= positives <= count or count < 1:
        raise ValueError(f"positives={positives} of count={count}; expected 0 <= positives <= count, and one at least")
    positive = jnp.asarray(positive)
    require_mask(positive, positive.shape[:1], "a flag per box")
    require_mask(negative, positive.shape, "a flag per box, as many as of positive")
    number = positive.shape[0]
    # Keys that are drawn apart order each kind at random; what is of another kind comes last.
    order = jax.random.uniform(key, (number,), jnp.float32)
    first = _drawn(order, positive, positives)
    taken = jnp.minimum(jnp.sum(positive, dtype=jnp.int32), positives)
    second = _drawn(order, negative, count)
    left = jnp.minimum(jnp.sum(negative, dtype=jnp.int32), count - taken)
    place = jnp.arange(count, dtype=jnp.int32)
    is_positive, present = place < taken, place < taken + left
    indices = jnp.where(
        is_positive,
        first[jnp.minimum(place, len(first) - 1)] if positives and number else 0,
        second[jnp.clip(place - taken, 0, max(len(second) - 1, 0))] if number else 0,
    )
    return Sample(jnp.where(present, indices, 0).astype(jnp.int32), is_positive, present)


def hard_negatives(
    losses: Float[Array, "boxes"], positive: Bool[Array, "boxes"], *, ratio: float = 3.0
) -> Bool[Array, "boxes"]:
    """The negatives of largest loss, `ratio` times as many as there are positives: none in a picture without any.

    Of equal losses the first counts.

    Args:
        losses: of the class, for each box of a picture.
        positive: the boxes with an object.
        ratio: negatives for each positive, 3 in the paper.

    Returns:
        Which boxes are the negatives that count.

    Raises:
        ValueError: `ratio` is negative, or the shapes differ.

    Reference: Liu et al. (2016), "SSD", section 2.2, hard negative mining.

    >>> hard_negatives(jnp.asarray([0.1, 5.0, 0.3, 0.2]), jnp.asarray([False, True, False, False]), ratio=2).tolist()
    [False, False, True, True]
    """
    if not ratio >= 0:
        raise ValueError(f"ratio={ratio}; expected zero or more negatives for each positive")
    losses = jnp.asarray(losses)
    require_mask(positive, losses.shape, "a flag per box, as many as losses")
    hardness = jnp.where(positive, -jnp.inf, losses)
    rank = jnp.argsort(jnp.argsort(-hardness, stable=True), stable=True)
    return ~positive & (rank.astype(losses.dtype) < ratio * jnp.sum(positive, dtype=losses.dtype))


def _drawn(order: jax.Array, kind: jax.Array, count: int) -> jax.Array:
    """Boxes of a kind in random order, as many as asked for or as there are of any kind."""
    return lax.top_k(jnp.where(kind, order, -1.0), min(count, len(order)))[1]
