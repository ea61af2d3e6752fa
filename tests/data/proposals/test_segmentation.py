"""Segmentation against the plain loop over all edges, and against scikit-image where it is installed."""

import numpy as np
import pytest

from cnnjax.data.proposals.segmentation import Edges, grid_edges, join, segment, smooth

generator = np.random.default_rng(0)


def plain(edges, scale, smallest):
    """The paper's algorithm without any pruning; segments are numbered by their first pixels."""
    count = edges.sides[0] * edges.sides[1]
    parts = {number: {number} for number in range(count)}
    part_of = list(range(count))
    heaviest = dict.fromkeys(range(count), 0.0)

    def unite(one, two):
        kept, gone = min(one, two), max(one, two)
        for number in parts[gone]:
            part_of[number] = kept
        parts[kept] |= parts.pop(gone)
        return kept

    triples = list(zip(edges.first.tolist(), edges.second.tolist(), edges.weights.tolist(), strict=True))
    for first, second, weight in triples:
        one, two = part_of[first], part_of[second]
        if one != two and weight < min(heaviest[part] + scale / 255 / len(parts[part]) for part in (one, two)):
            heaviest[unite(one, two)] = weight
    for first, second, _ in triples:
        one, two = part_of[first], part_of[second]
        if one != two and min(len(parts[one]), len(parts[two])) < smallest:
            unite(one, two)
    return np.unique(part_of, return_inverse=True)[1].reshape(edges.sides)


def blotches(height, width, channels=3):
    """Patches of some colours with noise, which give segments of many sizes."""
    patches = generator.uniform(size=(height // 6 + 1, width // 6 + 1, channels))
    return np.kron(patches, np.ones((6, 6, 1)))[:height, :width] * 0.5 + generator.uniform(
        0, 0.3, (height, width, channels)
    )


@pytest.mark.parametrize("sides", [(24, 31), (1, 17), (17, 1), (1, 1), (2, 2)])
@pytest.mark.parametrize(("scale", "smallest"), [(5, 1), (50, 10), (100, 20)])
def test_segments_are_those_of_the_plain_loop(sides, scale, smallest):
    edges = grid_edges(smooth(blotches(*sides), 0.8))
    found = join(edges, scale=scale, smallest=smallest)
    np.testing.assert_array_equal(found, plain(edges, scale, smallest))
    assert np.bincount(found.ravel()).min() >= min(smallest, found.size)


@pytest.mark.parametrize("levels", [2, 4])
def test_equal_weights_are_taken_in_order(levels):
    """Few levels of grey without smoothing: nearly all edges tie."""
    edges = grid_edges(generator.integers(0, levels, (20, 23, 1)) / levels)
    for scale, smallest in ((20, 1), (300, 4), (1000, 9)):
        np.testing.assert_array_equal(join(edges, scale=scale, smallest=smallest), plain(edges, scale, smallest))


def test_an_edge_outside_of_the_minimum_spanning_tree_can_join():
    """Pixels 0 and 1 border on a finished segment, 2 to 8, by lighter edges than on each other, and are joined."""
    pairs = [*((n, n + 1, 0.0) for n in range(2, 8)), (0, 2, 5.0), (1, 2, 5.1), (0, 1, 6.0)]
    first, second, weights = (np.asarray(column) for column in zip(*pairs, strict=True))
    # Limits: 7 for a pixel alone, and 7 / 7 for the segment.
    found = join(Edges(first, second, weights, (1, 9)), scale=7 * 255, smallest=1)
    assert found.tolist() == [[0, 0, 1, 1, 1, 1, 1, 1, 1]]


def test_edges_of_a_small_grid():
    edges = grid_edges(np.asarray([[[0.0], [1.0]], [[3.0], [7.0]]]))
    found = list(zip(edges.first.tolist(), edges.second.tolist(), edges.weights.tolist(), strict=True))
    assert found == [(1, 0, 1.0), (2, 1, 2.0), (2, 0, 3.0), (3, 2, 4.0), (3, 1, 6.0), (3, 0, 7.0)]


def test_the_distance_is_over_all_channels():
    edges = grid_edges(np.asarray([[[0.0, 0.0], [3.0, 4.0]]]))
    assert edges.weights.tolist() == [5.0]


def test_channels_are_not_smoothed_into_one_another():
    image = np.zeros((9, 9, 2))
    image[4, 4, 0] = 1.0
    smoothed = smooth(image, 0.8)
    assert 0 < smoothed[4, 3, 0] < smoothed[4, 4, 0] < 1
    assert not smoothed[..., 1].any()


@pytest.mark.parametrize("scale", [10, 50, 100])
@pytest.mark.parametrize("smallest", [1, 30])
def test_segments_are_those_of_scikit_image(scale, smallest):
    segmentation = pytest.importorskip("skimage.segmentation")
    image = blotches(60, 80)
    expected = segmentation.felzenszwalb(image, scale=scale, sigma=0.8, min_size=smallest)
    np.testing.assert_array_equal(segment(image, scale=scale, smallest=smallest), expected)
