"""Masks of the objects of a picture, from COCO's outlines or from label maps: one map, or a mask for each slot."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int, Int32, UInt8

from cnnjax.image_size import Size


def draw_outlines(
    outlines: Sequence[Any],
    sides: Size,
    form: Literal["map", "stack"],
    slots: int,
    *,
    crowd: Bool[np.ndarray, "objects"],
    tell: Callable[[int], str],
) -> Int32[np.ndarray, "height width"] | UInt8[np.ndarray, "height width slots"]:
    """The masks of the objects of one picture.

    Args:
        outlines: Of each object, COCO's run-length code, or a list of polygons.
        sides: Height and width of the picture.
        form: "map" for one whole number for each pixel, or "stack" for a mask for each slot.
        slots: How many masks a stack has.
        crowd: Which objects are regions of many, which others are drawn over.
        tell: Names an object by its number, with its file and entry.

    Raises:
        ValueError: If an outline is no mask, or one of another size than the picture.
    """
    masks = [_mask(outline, sides, lambda number=number: tell(number)) for number, outline in enumerate(outlines)]
    return join_masks(masks, sides, form, slots, crowd=crowd)


def join_masks(
    masks: Sequence[UInt8[np.ndarray, "height width"]],
    sides: Size,
    form: Literal["map", "stack"],
    slots: int,
    *,
    crowd: Bool[np.ndarray, "objects"] | None = None,
) -> Int32[np.ndarray, "height width"] | UInt8[np.ndarray, "height width slots"]:
    """One mask per object to a stack, or to a map, in which crowds lie lowest and small objects over large ones.

    >>> small, large = np.array([[0, 1]], np.uint8), np.array([[1, 1]], np.uint8)
    >>> join_masks([small, large], (1, 2), "map", 2).tolist()
    [[2, 1]]
    """
    if form == "stack":
        stack = np.zeros((*sides, slots), np.uint8)
        for number, mask in enumerate(masks):
            stack[..., number] = mask
        return stack
    areas = np.array([np.count_nonzero(mask) for mask in masks], np.int64)
    single = np.ones(len(masks), bool) if crowd is None else ~crowd
    labels = np.zeros(sides, np.int32)
    for number in np.lexsort((-areas, single)):
        labels[masks[number] > 0] = number + 1
    return labels


def stack_labels(labels: Int[np.ndarray, "height width"], slots: int) -> UInt8[np.ndarray, "height width slots"]:
    """A map of instances, 1 and on, as a mask for each slot."""
    return (labels[..., None] == np.arange(1, slots + 1, dtype=labels.dtype)).astype(np.uint8)


def _mask(outline: Any, sides: Size, tell: Callable[[], str]) -> UInt8[np.ndarray, "height width"]:
    from cnnjax.functional.masks import decode_rle, polygons_to_rle

    try:
        code = outline if isinstance(outline, Mapping) else polygons_to_rle(outline, *sides)
        mask = decode_rle(code)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{tell()}: its segmentation is no mask ({error}); correct it, or remove it") from error
    if mask.shape != sides:
        raise ValueError(
            f"{tell()}: its mask has {mask.shape[0]} rows of {mask.shape[1]} pixels, its picture {sides[0]} of"
            f" {sides[1]}; expected the same: correct it, or remove it"
        )
    return mask
