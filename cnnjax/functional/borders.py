"""Where the instances of a label map end."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Integer


def label_borders(
    labels: Integer[Array, "*batch height width"], *, inner: bool = False
) -> Bool[Array, "*batch height width"]:
    r"""Edges of label maps: pixels one of whose four neighbours has another label.

    $$b_p = \bigvee_{q \in N_4(p)} (l_q \ne l_p)$$

    Borders between two instances count as those to the background, 0. They are two pixels wide, one on each side; with
    `inner` only pixels of instances are kept, so that borders to the background are one pixel wide. The picture's
    own border is none.

    Args:
        labels: 0 for the background, k for the k-th instance.
        inner: whether pixels of the background are left out.

    Returns:
        Whether each pixel is on a border.

    >>> label_borders(jnp.asarray([[0, 0, 1, 1, 1, 2, 2]])).astype(int).tolist()
    [[0, 1, 1, 0, 1, 1, 0]]
    """
    borders = jnp.zeros(labels.shape, bool)
    for axis in (labels.ndim - 2, labels.ndim - 1):
        differs = jnp.diff(labels, axis=axis) != 0
        sides = [(0, 0)] * labels.ndim
        for side in ((0, 1), (1, 0)):
            sides[axis] = side
            borders |= jnp.pad(differs, sides)
    return borders & (labels != 0) if inner else borders
