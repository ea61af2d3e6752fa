"""Maps at another resolution."""

from collections.abc import Sequence

import jax
from jaxtyping import Array, Float

from cnnjax.functional.geometry import per_axis
from cnnjax.functional.precision import require_floating


def resize_bilinear(
    images: Float[Array, "batch height width channels"], size: Sequence[int]
) -> Float[Array, "batch new_height new_width channels"]:
    r"""Interpolates between the four nearest pixels; for maps that grow, since it does not blur before it leaves out.

    Pixels are squares: the middle of row i lies at $i + \frac{1}{2}$, and a row of n, resized to m, is read at

    $$\left(i + \tfrac{1}{2}\right) \frac{n}{m} - \tfrac{1}{2}$$

    where $i = 0, ..., m - 1$; beyond the first and the last pixel's middle that pixel holds on. Elsewhere this is
    `align_corners=False`, or `half_pixel_centers=True`.

    Args:
        images: maps of floating point.
        size: new height and width, in pixels.

    Returns:
        Maps of the same type.

    Raises:
        ValueError: maps are not floating point, have no pixels, or the size is not two numbers of 1 or more.

    >>> import jax.numpy as jnp
    >>> row = jnp.asarray([0.0, 4.0]).reshape(1, 1, 2, 1)
    >>> resize_bilinear(row, (1, 4)).ravel().tolist()
    [0.0, 1.0, 3.0, 4.0]
    """
    require_floating("images", images)
    height, width = per_axis(size, 2, "size")
    if images.ndim != 4 or not images.size:
        raise ValueError(f"images have shape {images.shape}; expected (batch, height, width, channels), none of them 0")
    batch, channels = images.shape[0], images.shape[-1]
    # Not antialiased, which would read more than four pixels where maps shrink.
    return jax.image.resize(images, (batch, height, width, channels), "bilinear", antialias=False)
