"""Graph segmentation of Felzenszwalb and Huttenlocher on the host: the small segments that selective search groups.

The greedy pass looks at every edge of the grid in the order of the weights, which is slow in Python. Two kinds of edges
can never join anything again, and are dropped, block by block, in NumPy: those within one segment, and those of a
segment whose limit is at or below the weights that are still to come, as it will not grow. So the result is that of the
plain loop, ties included. (A minimum spanning tree would not do: where two segments border on a third that is finished,
they can still be joined by an edge that is heavier than the path through it, and so is in no such tree.)
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

# Edges are pruned in so many blocks: more cost more passes of NumPy, fewer leave more to the loop.
_BLOCKS = 24


class Edges(NamedTuple):
    """Neighbours on the grid of pixels, lightest first.

    Attributes:
        first: The number of a pixel, row by row.
        second: That of its neighbour.
        weights: How different the two are.
        sides: Height and width of the picture.
    """

    first: Int64[np.ndarray, "edges"]
    second: Int64[np.ndarray, "edges"]
    weights: Float64[np.ndarray, "edges"]
    sides: tuple[int, int]


def segment(
    image: Float[np.ndarray, "height width channels"], *, scale: float, smallest: int, sigma: float = 0.8
) -> Int64[np.ndarray, "height width"]:
    r"""Numbers the segments of a picture from 0, in the order of their first pixels row by row.

    Two segments are joined by the lightest edge between them if its weight is below the limits of both,

    $$\mathrm{Int}(C) + k / |C|$$

    with $\mathrm{Int}$ the heaviest edge that joined the segment, and $|C|$ its pixels. Segments that are too small are
    then joined to the neighbour of the lightest edge.

    Args:
        image: Channels from 0 to 1.
        scale: k, for channels from 0 to 255, as in the paper and in skimage.segmentation.felzenszwalb.
        smallest: The least pixels of a segment ("min_size").
        sigma: Of the Gaussian smoothing beforehand, in pixels.

    Reference: Felzenszwalb and Huttenlocher (2004), "Efficient Graph-Based Image Segmentation", sections 3 and 4.

    >>> segment(np.asarray([[[0.0], [0.0], [1.0]]]), scale=50, smallest=1, sigma=0.0).tolist()
    [[0, 0, 1]]
    """
    return join(grid_edges(smooth(image, sigma)), scale=scale, smallest=smallest)


def smooth(
    image: Float[np.ndarray, "height width channels"], sigma: float
) -> Float64[np.ndarray, "height width channels"]:
    """Each channel smoothed by a Gaussian; as it is with a `sigma` of 0."""
    import scipy.ndimage

    return np.asarray(scipy.ndimage.gaussian_filter(np.asarray(image, np.float64), (sigma, sigma, 0)))


def grid_edges(image: Float64[np.ndarray, "height width channels"]) -> Edges:
    """Every pixel with its eight neighbours, by the Euclidean distance of the channels, lightest first.

    Equal weights stay in this order: edges to the right, downwards, downwards to the right, and upwards to the right,
    each row by row.
    """
    numbers = np.arange(image.shape[0] * image.shape[1]).reshape(image.shape[:2])
    ends = [
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[1:], np.s_[:-1]),
        (np.s_[1:, 1:], np.s_[:-1, :-1]),
        (np.s_[1:, :-1], np.s_[:-1, 1:]),
    ]
    weights = np.concatenate([np.sqrt(np.square(image[one] - image[two]).sum(-1)).ravel() for one, two in ends])
    order = np.argsort(weights, kind="stable")
    first, second = (np.concatenate([numbers[pair[end]].ravel() for pair in ends])[order] for end in (0, 1))
    return Edges(first, second, weights[order], (image.shape[0], image.shape[1]))


def join(edges: Edges, *, scale: float, smallest: int) -> Int64[np.ndarray, "height width"]:
    """The segments that edges in order give; arguments and result are those of `segment`."""
    limit_of_one = scale / 255
    count = edges.sides[0] * edges.sides[1]
    # Of every pixel its segment; of every segment, which is named by its first pixel, what limits and measures it.
    segments, limits, sizes = np.arange(count), np.full(count, limit_of_one), np.ones(count, np.int64)
    for block in np.array_split(np.arange(len(edges.weights)), _BLOCKS):
        if not len(block):
            continue
        part = slice(block[0], block[-1] + 1)
        first, second, weights = segments[edges.first[part]], segments[edges.second[part]], edges.weights[part]
        # By the lightest weight of the block: a limit above it may rise before an edge's own turn.
        useful = (first != second) & (weights[0] < np.minimum(limits[first], limits[second]))
        _join_below_limits(first[useful], second[useful], weights[useful], segments, limits, sizes, limit_of_one)
    _join_small(segments[edges.first], segments[edges.second], segments, sizes, smallest)
    return np.unique(segments, return_inverse=True)[1].reshape(edges.sides)


def _join_below_limits(
    first: Int[np.ndarray, "edges"],
    second: Int[np.ndarray, "edges"],
    weights: Float64[np.ndarray, "edges"],
    segments: Int64[np.ndarray, "pixels"],
    limits: Float64[np.ndarray, "pixels"],
    sizes: Int64[np.ndarray, "pixels"],
    scale: float,
) -> None:
    """The greedy pass over some edges between segments; changes the last three arrays in place."""
    names, first_places, second_places = _numbered(first, second, len(segments))
    parents, limit, size = list(range(len(names))), limits[names].tolist(), sizes[names].tolist()
    for one, two, weight in zip(first_places.tolist(), second_places.tolist(), weights.tolist(), strict=True):
        # Union-find, written out: a call for each edge would double the time.
        while parents[one] != one:
            parents[one] = one = parents[parents[one]]
        while parents[two] != two:
            parents[two] = two = parents[parents[two]]
        if one != two and weight < limit[one] and weight < limit[two]:
            if two < one:
                one, two = two, one
            parents[two] = one
            size[one] += size[two]
            limit[one] = weight + scale / size[one]
    limits[names], sizes[names] = limit, size
    _rename(names, parents, segments)


def _join_small(
    first: Int64[np.ndarray, "edges"],
    second: Int64[np.ndarray, "edges"],
    segments: Int64[np.ndarray, "pixels"],
    sizes: Int64[np.ndarray, "pixels"],
    smallest: int,
) -> None:
    """Joins segments of fewer pixels than `smallest` to a neighbour, in the order of edges; in place."""
    useful = (first != second) & (np.minimum(sizes[first], sizes[second]) < smallest)
    first, second = first[useful], second[useful]
    # After the first edge of two segments they are joined, or both large enough: others say nothing new.
    pairs = np.minimum(first, second) * len(segments) + np.maximum(first, second)
    kept = np.sort(np.unique(pairs, return_index=True)[1])
    names, first_places, second_places = _numbered(first[kept], second[kept], len(segments))
    parents, size = list(range(len(names))), sizes[names].tolist()
    for one, two in zip(first_places.tolist(), second_places.tolist(), strict=True):
        while parents[one] != one:
            parents[one] = one = parents[parents[one]]
        while parents[two] != two:
            parents[two] = two = parents[parents[two]]
        if one != two and (size[one] < smallest or size[two] < smallest):
            if two < one:
                one, two = two, one
            parents[two] = one
            size[one] += size[two]
    _rename(names, parents, segments)


def _numbered(
    first: Int64[np.ndarray, "edges"], second: Int64[np.ndarray, "edges"], count: int
) -> tuple[Int64[np.ndarray, "names"], Int64[np.ndarray, "edges"], Int64[np.ndarray, "edges"]]:
    """The segments that some edges have, in order, and both ends of the edges as places among them."""
    present = np.zeros(count, bool)
    present[first] = present[second] = True
    places = np.cumsum(present) - 1
    return np.flatnonzero(present), places[first], places[second]


def _rename(names: Int64[np.ndarray, "names"], parents: list[int], segments: Int64[np.ndarray, "pixels"]) -> None:
    """Gives every pixel the segment that its own was joined to; in place."""
    roots = np.asarray(parents, np.int64)
    while len(roots) and np.any(roots[roots] != roots):
        roots = roots[roots]
    renamed = np.arange(len(segments))
    renamed[names] = names[roots]
    segments[:] = renamed[segments]
