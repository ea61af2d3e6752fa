"""Hierarchical grouping: the two most similar neighbours are joined until one segment is left; each gives a box.

Reference: Uijlings et al. (2013), "Selective Search for Object Recognition", sections 3.1 and 3.2, algorithm 1.
"""

import heapq
from collections.abc import Set
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64, Integer, UInt8

Similarity: TypeAlias = Literal["colour", "texture", "size", "fill"]

_COLOUR_BINS, _TEXTURE_BINS, _DIRECTIONS = 25, 10, 8


@dataclass(frozen=True)
class Segments:
    """What the grouping knows of the segments of a picture.

    Attributes:
        colours: Histograms of the colours of each, 25 bins a channel, of sum 1.
        textures: Histograms of the derivatives of each, 10 bins for each of 8 directions of a channel, of sum 1.
        sizes: The pixels of each.
        boxes: The box around each, x_min, y_min, x_max, y_max; a pixel is 1 wide.
        neighbours: Pairs of segments that share a side of a pixel, the smaller number first.
        area: The pixels of the picture.
    """

    colours: Float64[np.ndarray, "segments bins"]
    textures: Float64[np.ndarray, "segments textures"]
    sizes: Int64[np.ndarray, "segments"]
    boxes: Int64[np.ndarray, "segments 4"]
    neighbours: Int64[np.ndarray, "pairs 2"]
    area: int


def colour_bins(image: Float64[np.ndarray, "height width channels"]) -> UInt8[np.ndarray, "height width channels"]:
    """The bin of each pixel of channels from 0 to 1."""
    return np.minimum(image * _COLOUR_BINS, _COLOUR_BINS - 1).astype(np.uint8)


def texture_bins(image: Float64[np.ndarray, "height width channels"]) -> UInt8[np.ndarray, "height width textures"]:
    """The bin of each pixel's derivative in eight directions of each channel, against the largest of the picture.

    A derivative is that of a Gaussian of sigma 1; what falls in a direction counts as nothing there, and rises in the
    opposite one.
    """
    import scipy.ndimage

    bins = np.empty((*image.shape[:2], image.shape[2] * _DIRECTIONS), np.uint8)
    for channel in range(image.shape[2]):
        along, down = (
            np.asarray(scipy.ndimage.gaussian_filter(image[..., channel], 1.0, order=order))
            for order in ((0, 1), (1, 0))
        )
        slopes = []
        for angle in np.arange(_DIRECTIONS // 2) * (2 * np.pi / _DIRECTIONS):
            slope = np.cos(angle) * along + np.sin(angle) * down
            slopes += [np.maximum(slope, 0.0), np.maximum(-slope, 0.0)]
        highest = max(slope.max() for slope in slopes)
        for direction, slope in enumerate(slopes):
            share = slope * (_TEXTURE_BINS / highest) if highest > 0 else slope
            bins[..., channel * _DIRECTIONS + direction] = np.minimum(share, _TEXTURE_BINS - 1)
    return bins


def describe(
    labels: Integer[np.ndarray, "height width"],
    colours: UInt8[np.ndarray, "height width channels"],
    textures: UInt8[np.ndarray, "height width textures"],
) -> Segments:
    """Measures segments that are numbered from 0 without gaps.

    Args:
        labels: The segment of each pixel.
        colours: The bins of `colour_bins`.
        textures: The bins of `texture_bins`.
    """
    import scipy.ndimage

    count = int(labels.max()) + 1
    found = [
        (part[1].start, part[0].start, part[1].stop, part[0].stop) for part in scipy.ndimage.find_objects(labels + 1)
    ]
    pairs = [
        np.stack([one[one != two], two[one != two]], -1)
        for one, two in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:]))
    ]
    names = np.sort(np.concatenate(pairs), -1).astype(np.int64)
    codes = np.unique(names[:, 0] * count + names[:, 1])
    return Segments(
        colours=_histograms(labels, colours, count, _COLOUR_BINS),
        textures=_histograms(labels, textures, count, _TEXTURE_BINS),
        sizes=np.bincount(labels.ravel(), minlength=count),
        boxes=np.asarray(found, np.int64),
        neighbours=np.stack([codes // count, codes % count], -1),
        area=labels.size,
    )


def group(segments: Segments, similarities: Set[Similarity]) -> Int64[np.ndarray, "regions 4"]:
    r"""The boxes of all segments and of all that they are joined to, the whole picture last.

    The similarity of two segments is the sum of those that are asked for, each at most 1:

    $$\sum_b \min(c_a^b, c_b^b), \quad \sum_b \min(t_a^b, t_b^b), \quad 1 - \frac{|a| + |b|}{|I|}, \quad
    1 - \frac{|BB_{ab}| - |a| - |b|}{|I|}$$

    of colour and texture histograms, of sizes, and of how well two segments fill the box around both. Among equal ones
    those are joined first that came first.

    Args:
        segments: As `describe` gives them, all hanging together.
        similarities: Which are added.

    Reference: Uijlings et al. (2013), section 3.2.
    """
    first = len(segments.sizes)
    bins = [
        values
        for name, values in (("colour", segments.colours), ("texture", segments.textures))
        if name in similarities
    ]
    whole = np.concatenate([*bins, np.zeros((first, 0))], -1)
    histograms = np.concatenate([whole, np.zeros((first - 1, whole.shape[1]))])
    sizes = np.concatenate([segments.sizes, np.zeros(first - 1, np.int64)])
    boxes = np.concatenate([segments.boxes, np.zeros((first - 1, 4), np.int64)])

    def similar(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        found = np.minimum(histograms[one], histograms[two]).sum(-1)
        both = sizes[one] + sizes[two]
        if "size" in similarities:
            found = found + 1 - both / segments.area
        if "fill" in similarities:
            sides = np.maximum(boxes[one, 2:], boxes[two, 2:]) - np.minimum(boxes[one, :2], boxes[two, :2])
            found = found + 1 - (sides[:, 0] * sides[:, 1] - both) / segments.area
        return found

    one, two = segments.neighbours.T
    queue = list(zip((-similar(one, two)).tolist(), one.tolist(), two.tolist(), strict=True))
    heapq.heapify(queue)
    around: dict[int, set[int]] = {number: set() for number in range(first)}
    for left, right in segments.neighbours.tolist():
        around[left].add(right)
        around[right].add(left)
    for joined in range(first, 2 * first - 1):
        # What was joined since stays in the queue, and is passed over.
        _, left, right = heapq.heappop(queue)
        while left not in around or right not in around:
            _, left, right = heapq.heappop(queue)
        sizes[joined] = total = sizes[left] + sizes[right]
        histograms[joined] = (histograms[left] * sizes[left] + histograms[right] * sizes[right]) / total
        boxes[joined, :2] = np.minimum(boxes[left, :2], boxes[right, :2])
        boxes[joined, 2:] = np.maximum(boxes[left, 2:], boxes[right, 2:])
        near = (around.pop(left) | around.pop(right)) - {left, right}
        for number in near:
            around[number] -= {left, right}
            around[number].add(joined)
        around[joined] = near
        others = sorted(near)
        alike = similar(np.asarray(others, np.int64), np.full(len(others), joined))
        for number, likeness in zip(others, alike.tolist(), strict=True):
            heapq.heappush(queue, (-likeness, number, joined))
    return boxes


def _histograms(
    labels: Integer[np.ndarray, "height width"],
    bins: UInt8[np.ndarray, "height width maps"],
    count: int,
    size: int,
) -> Float64[np.ndarray, "segments bins"]:
    """For each segment the shares of the bins of all maps, which sum to 1."""
    offsets = labels.ravel() * size
    found = [
        np.bincount(offsets + bins[..., number].ravel(), minlength=count * size).reshape(count, size)
        for number in range(bins.shape[-1])
    ]
    joined = np.concatenate(found, -1).astype(np.float64)
    return joined / joined.sum(-1, keepdims=True)
