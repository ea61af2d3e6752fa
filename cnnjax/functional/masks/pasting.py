"""Small masks, as a head predicts them for each box, laid into the picture."""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.functional.operands import require_shape
from cnnjax.functional.precision import at_least_float32, require_floating

PasteRule: TypeAlias = Literal["integer", "float"]


def paste(
    masks: Float[Array, "masks rows columns"],
    boxes: Float[Array, "masks 4"],
    size: tuple[int, int],
    *,
    rule: PasteRule,
) -> Float[Array, "masks height width"]:
    r"""Every mask of probabilities stretched over its box in a picture that is zero elsewhere.

    The stretching is linear in rows and in columns, so that it is two products of matrices, which need no loop and
    have the same shape for every box:

    $$P_{nyx} = \sum_{k,l} A_{nyk} \, M_{nkl} \, B_{nxl}$$

    With "float" (detectron2's rule) a pixel's middle is looked up where it lies in the box, and the mask is zero beyond
    its border: $A_{nyk} = \max(0, 1 - |u - k|)$ with $u = (y + 1/2 - y_0) / (y_1 - y_0) \cdot K - 1/2$ for K rows.

    With "integer" (torchvision's rule) the mask is framed with zeros, its box is enlarged by as much, $(K + 2) / K$,
    its corners are cut towards zero to whole pixels, and the framed mask is resized to the pixels from corner to
    corner, both included. Masks so come out up to a pixel larger and shifted.

    A pixel is taken to be in the mask where the result is at least 0.5. A box that is empty or has a NaN gets, by the
    float rule, no pixel at all. By the integer rule it still covers the pixel of its corner.

    Args:
        masks: probabilities, one mask for each box; 28 by 28 for a Mask R-CNN.
        boxes: (x_min, y_min, x_max, y_max) in pixels of the picture, also beyond its border.
        size: (height, width) of the picture, in pixels.
        rule: "float" or "integer".

    Raises:
        ValueError: masks and boxes are not as many, not floating point, or the rule is unknown.

    Reference: He et al. (2017), "Mask R-CNN", section 3.1; torchvision's `paste_masks_in_image`; detectron2's function
    of that name. Elsewhere the threshold is "mask_threshold".

    >>> paste(jnp.ones((1, 2, 2)), jnp.asarray([[1.0, 0.0, 3.0, 1.0]]), (2, 4), rule="float")[0].tolist()
    [[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    masks, boxes = jnp.asarray(masks), jnp.asarray(boxes)
    for name, array in (("masks", masks), ("boxes", boxes)):
        require_floating(name, array)
    if masks.ndim != 3 or 0 in masks.shape[1:]:
        raise ValueError(f"masks: shape {masks.shape} came, (masks, rows, columns) was expected; use vmap for a batch")
    require_shape("boxes", boxes, (masks.shape[0], 4), "a box for each mask")
    if rule not in _WEIGHTS:
        raise ValueError(f"rule={rule!r}; expected {' or '.join(map(repr, _WEIGHTS))}")
    dtype = at_least_float32(masks.dtype)
    boxes = boxes.astype(at_least_float32(boxes.dtype))
    weigh = jax.vmap(_WEIGHTS[rule], in_axes=(0, 0, None, None))
    across = weigh(boxes[:, 0], boxes[:, 2], masks.shape[2], size[1]).astype(dtype)
    down = weigh(boxes[:, 1], boxes[:, 3], masks.shape[1], size[0]).astype(dtype)
    masks = masks.astype(dtype)
    return jnp.einsum("nyk,nkl,nxl->nyx", down, masks, across, precision=jax.lax.Precision.HIGHEST)


def _float_weights(low: jax.Array, high: jax.Array, cells: int, size: int) -> jax.Array:
    """How much each of the mask's cells counts for each pixel along one axis, by the float rule."""
    span = high - low
    there = span > 0
    pixels = jnp.arange(size, dtype=low.dtype) + 0.5
    places = (pixels - low) / jnp.where(there, span, 1.0) * cells - 0.5
    return jnp.where(there, _tent(places, cells), 0.0)


def _integer_weights(low: jax.Array, high: jax.Array, cells: int, size: int) -> jax.Array:
    """As `_float_weights`, by the integer rule."""
    framed = cells + 2
    middle, half = (low + high) * 0.5, (high - low) * 0.5 * (framed / cells)
    first, last = (jnp.trunc(edge) for edge in (middle - half, middle + half))
    count = jnp.maximum(last - first + 1, 1.0)
    pixels = jnp.arange(size, dtype=low.dtype) - first
    places = jnp.maximum(framed / count * (pixels + 0.5) - 0.5, 0.0)
    # Beyond the last cell the last one counts alone. The frame is cell 0 and the last, and is zero.
    weights = _tent(jnp.minimum(places, framed - 1.0), framed)[:, 1:-1]
    return jnp.where(((pixels >= 0) & (pixels <= last - first))[:, None], weights, 0.0)


def _tent(places: jax.Array, cells: int) -> jax.Array:
    """Linear interpolation as a matrix: a row for each place."""
    return jnp.maximum(1.0 - jnp.abs(places[:, None] - jnp.arange(cells, dtype=places.dtype)[None]), 0.0)


_WEIGHTS = {"float": _float_weights, "integer": _integer_weights}
