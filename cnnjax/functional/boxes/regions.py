"""What a map of features has in each box, brought to one size: RoIAlign, of one map or a pyramid, and its levels.

Features are of one picture, height x width x channels, and boxes are in pixels of the picture. Map over a batch with
`jax.vmap`, which makes one table of all pictures.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cnnjax.functional.boxes.bins import sum_bins
from cnnjax.functional.boxes.coordinates import area, as_rows
from cnnjax.functional.operands import require_shape
from cnnjax.functional.precision import require_floating


def roi_align(
    features: Float[Array, "height width channels"],
    boxes: Float[Array, "boxes 4"],
    *,
    size: tuple[int, int],
    scale: float,
    aligned: bool,
    samples: int | None = 2,
) -> Float[Array, "boxes rows columns channels"]:
    """The mean of bilinear samples in each of the bins that a box is divided into.

    Samples lie in the middles of a regular grid over each bin. Beyond the map's border by up to one pixel they have
    the border's value, further out zero.

    Args:
        features: of one picture.
        boxes: in pixels of the picture.
        size: bins down and along; (7, 7) for boxes, (14, 14) for masks.
        scale: one over the map's stride.
        aligned: True puts the middle of the map's first pixel at half a stride, as the picture's geometry has it
            (detectron2). False leaves out that half pixel and takes boxes for one pixel wide at least, as the paper's
            program and torchvision's models do: weights that were trained with one are worse with the other.
        samples: on each axis of a bin. None takes as many as the bin has pixels, rounded up, for each box by itself
            (`sampling_ratio` 0 elsewhere), with dense products that cost far more; boxes then have no gradient.

    Returns:
        The boxes' bins.

    Raises:
        ValueError: a number is not positive, or the features or boxes have another shape.

    Reference: He et al. (2017), "Mask R-CNN", section 3, RoIAlign.

    >>> features = jnp.arange(16.0).reshape(4, 4, 1)
    >>> roi_align(features, jnp.asarray([[0.0, 0.0, 4.0, 4.0]]), size=(1, 1), scale=1.0, aligned=True).item()
    7.5
    """
    boxes = as_rows("boxes", boxes)
    levels = jnp.zeros(len(boxes), jnp.int32)
    return pyramid_roi_align([features], boxes, levels, size=size, scales=[scale], aligned=aligned, samples=samples)


def pyramid_roi_align(
    features: Sequence[Float[Array, "_ _ channels"]],
    boxes: Float[Array, "boxes 4"],
    levels: Int[Array, "boxes"],
    *,
    size: tuple[int, int],
    scales: Sequence[float],
    aligned: bool,
    samples: int | None = 2,
) -> Float[Array, "boxes rows columns channels"]:
    """`roi_align` of each box on its own level of a feature pyramid.

    The maps are joined into one table of pixels, so that there is one gather for all levels.

    Args:
        features: a map for each level, of one picture.
        boxes: in pixels of the picture.
        levels: the index of each box's map, as `pyramid_levels` gives it less that of the first map.
        size: bins down and along.
        scales: one over the stride of each map.
        aligned: as in `roi_align`.
        samples: as in `roi_align`.

    Returns:
        The boxes' bins.

    Raises:
        ValueError: the scales are not one for each map, the maps' channels differ, or as `roi_align`.

    Reference: Lin et al. (2017), "Feature Pyramid Networks for Object Detection", section 4.2.
    """
    if min(size) < 1 or (samples is not None and samples < 1):
        raise ValueError(f"size={size} and samples={samples}; expected numbers from 1 on")
    features = [jnp.asarray(level) for level in features]
    _check_maps(features, scales)
    dtype = features[0].dtype
    boxes = as_rows("boxes", boxes)
    levels = jnp.asarray(levels)
    require_shape("levels", levels, boxes.shape[:1], "a level for each box")
    if samples is None:
        return _align_densely(features, boxes, levels, size=size, scales=scales, aligned=aligned)
    heights, widths = (np.array([level.shape[axis] for level in features], np.int32) for axis in (0, 1))
    first = np.cumsum([0, *(level.shape[0] * level.shape[1] for level in features[:-1])]).astype(np.int32)
    table = jnp.concatenate([level.reshape(-1, level.shape[-1]) for level in features])
    of_box = jnp.asarray(scales, boxes.dtype)[levels]
    (y, high), (x, wide) = _extents(boxes, of_box, aligned)
    below, across = (jnp.asarray(sides)[levels] for sides in (heights, widths))
    row, down = _taps(y, high / size[0], size[0], samples, below)
    column, along = _taps(x, wide / size[1], size[1], samples, across)
    row = row * across[:, None, None] + jnp.asarray(first)[levels][:, None, None]
    return sum_bins(table, row, column, down.astype(dtype), along.astype(dtype))


def pyramid_levels(
    boxes: Float[Array, "boxes 4"],
    *,
    lowest: int = 2,
    highest: int = 5,
    canonical_size: float = 224.0,
    canonical_level: int = 4,
) -> Int[Array, "boxes"]:
    r"""The level of a feature pyramid on which a box is looked at: large boxes on coarse maps.

    $$k = \lfloor k_0 + \log_2(\sqrt{w h} / 224) + 10^{-6} \rfloor$$

    kept within the pyramid; the small number is torchvision's and detectron2's, against rounding.

    Args:
        boxes: in pixels of the picture.
        lowest: the finest level, of stride 2^lowest.
        highest: the coarsest.
        canonical_size: the side of a box that lies on the canonical level.
        canonical_level: the level $k_0$.

    Returns:
        Levels from `lowest` to `highest`; a box without area is on the lowest.

    Raises:
        ValueError: `lowest` is above `highest`, or `canonical_size` is not positive.

    Reference: Lin et al. (2017), "Feature Pyramid Networks for Object Detection", equation 1.

    >>> pyramid_levels(jnp.asarray([[0.0, 0.0, 224.0, 224.0], [0.0, 0.0, 10.0, 10.0]])).tolist()
    [4, 2]
    """
    if lowest > highest or not canonical_size > 0:
        raise ValueError(
            f"lowest={lowest}, highest={highest}, canonical_size={canonical_size}; expected lowest <= highest"
        )
    side = jnp.sqrt(area(as_rows("boxes", boxes)))
    level = jnp.floor(canonical_level + jnp.log2(side / canonical_size) + 1e-6)
    return jnp.clip(level, lowest, highest).astype(jnp.int32)


def sampled_mask(
    mask: Float[Array, "height width"], box: Float[Array, "4"], *, size: tuple[int, int]
) -> Float[Array, "rows columns"]:
    """What share of each bin of a box a mask covers: `roi_align` of one map, with as many samples as a bin has pixels.

    Not aligned to half a pixel, as torchvision makes the targets of Mask R-CNN. Boxes have no gradient.

    Args:
        mask: of one object, from 0 to 1.
        box: in pixels.
        size: bins down and along.

    Returns:
        From 0 to 1.
    """
    return roi_align(mask[..., None], box[None], size=size, scale=1.0, aligned=False, samples=None)[0, ..., 0]


def _check_maps(features: Sequence[jax.Array], scales: Sequence[float]) -> None:
    if not features or len(scales) != len(features) or not min(scales) > 0:
        raise ValueError(f"scales={tuple(scales)} came with {len(features)} maps; expected a number above 0 for each")
    for number, level in enumerate(features):
        require_floating(f"features of level {number}", level)
        if level.ndim != 3 or level.shape[-1] != features[0].shape[-1] or 0 in level.shape:
            raise ValueError(
                f"features of level {number}: shape {level.shape} came; expected (height, width, channels) of one"
                f" picture, with {features[0].shape[-1]} channels as on level 0; map over a batch with vmap"
            )


def _extents(boxes: jax.Array, scale: jax.Array, aligned: bool) -> tuple[tuple[jax.Array, jax.Array], ...]:
    """Start and length of each box on its map, of its rows and of its columns."""
    x_min, y_min, x_max, y_max = jnp.moveaxis(boxes * scale[:, None], -1, 0) - (0.5 if aligned else 0.0)
    high, wide = y_max - y_min, x_max - x_min
    if not aligned:
        high, wide = jnp.maximum(high, 1.0), jnp.maximum(wide, 1.0)
    return (y_min, high), (x_min, wide)


def _taps(start: jax.Array, step: jax.Array, bins: int, samples: int, side: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pixels that a bin's samples lie between along one axis, and their weights in the bin's mean.

    Both are boxes x bins x (two for each sample).
    """
    # In torchvision's order of operations, which decides how a sum rounds.
    bin_start = start[:, None] + jnp.arange(bins, dtype=start.dtype)[None] * step[:, None]
    within = (jnp.arange(samples, dtype=start.dtype) + 0.5)[None] * step[:, None] / samples
    low, high, share, inside = _between(bin_start[:, :, None] + within[:, None, :], side[:, None, None])
    weights = jnp.where(inside[..., None], jnp.stack([1 - share, share], axis=-1) / samples, 0.0)
    shape = (len(start), bins, 2 * samples)
    return jnp.stack([low, high], axis=-1).reshape(shape), weights.reshape(shape)


def _between(place: jax.Array, side: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The two pixels around a place along an axis, how far it is on the way, and whether it counts."""
    inside = (place >= -1) & (place <= side.astype(place.dtype))
    place = jnp.where(inside, jnp.maximum(place, 0), 0)
    last = side - 1
    low = jnp.minimum(jnp.floor(place).astype(jnp.int32), last)
    high = jnp.minimum(low + 1, last)
    share = jnp.where(low >= last, 0.0, place - low.astype(place.dtype))
    return low, high, share, inside


def _align_densely(
    features: Sequence[jax.Array],
    boxes: jax.Array,
    levels: jax.Array,
    *,
    size: tuple[int, int],
    scales: Sequence[float],
    aligned: bool,
) -> jax.Array:
    """With as many samples as a bin has pixels: two products with weights over the whole map, box by box."""
    boxes = jax.lax.stop_gradient(boxes)
    out = jnp.zeros((len(boxes), *size, features[0].shape[-1]), features[0].dtype)
    for level, (pixels, scale) in enumerate(zip(features, scales, strict=True)):
        (y, high), (x, wide) = _extents(boxes, jnp.full(len(boxes), scale, boxes.dtype), aligned)
        mine = levels == level
        down, along = (
            jnp.where(mine[:, None, None], _dense_weights(start, length, bins, side), 0).astype(pixels.dtype)
            for start, length, bins, side in ((y, high, size[0], pixels.shape[0]), (x, wide, size[1], pixels.shape[1]))
        )

        def one(weights: tuple[jax.Array, jax.Array], pixels: jax.Array = pixels) -> jax.Array:
            by_row = jnp.einsum("py,yxc->pxc", weights[0], pixels, precision="highest")
            return jnp.einsum("qx,pxc->pqc", weights[1], by_row, precision="highest")

        out = out + jax.lax.map(one, (down, along))
    return out


def _dense_weights(start: jax.Array, length: jax.Array, bins: int, side: int) -> jax.Array:
    """The weight of each pixel of an axis in the mean of each bin, whose samples are as many as its pixels."""
    step = length / bins
    # None in a box without area, whose bins are then zero.
    wanted = jnp.ceil(step)
    count = jnp.maximum(wanted, 1.0)

    def one_bin(bin_start: jax.Array) -> jax.Array:
        """Summed over the samples in turn, whose number no shape may depend on."""

        def add(sample: jax.Array, weights: jax.Array) -> jax.Array:
            sample = sample.astype(start.dtype)
            place = bin_start + (sample + 0.5) * step / count
            low, high, share, inside = _between(place, jnp.asarray(side, jnp.int32))
            counts = jnp.where(inside & (sample < wanted), 1 / count, 0.0)
            pixels = jnp.arange(side, dtype=jnp.int32)[None]
            lower = jnp.where(pixels == low[:, None], ((1 - share) * counts)[:, None], 0.0)
            upper = jnp.where(pixels == high[:, None], (share * counts)[:, None], 0.0)
            return weights + lower + upper

        # A bin with more pixels than the map has most of its samples outside.
        most = jnp.max(count, initial=1.0).astype(jnp.int32)
        return jax.lax.fori_loop(0, most, add, jnp.zeros((len(start), side), start.dtype))

    starts = [start + number * step for number in range(bins)]
    return jnp.stack([one_bin(each) for each in starts], axis=1)
