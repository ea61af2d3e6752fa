"""Grouping against the paper's algorithm written plainly, and by hand."""

import itertools

import numpy as np
import pytest

from cnnjax.data.proposals.grouping import Segments, colour_bins, describe, group, texture_bins

generator = np.random.default_rng(0)
ALL = frozenset({"colour", "texture", "size", "fill"})


def plain(segments, similarities):
    """Algorithm 1: all similarities anew for every joining, from lists of what each region holds."""
    regions = [
        (c, t, int(size), tuple(box))
        for c, t, size, box in zip(
            segments.colours, segments.textures, segments.sizes, segments.boxes.tolist(), strict=True
        )
    ]
    alive = set(range(len(regions)))
    near = {frozenset(pair) for pair in segments.neighbours.tolist()}

    def around(a, b):
        return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])

    def similarity(pair):
        (c1, t1, s1, b1), (c2, t2, s2, b2) = (regions[number] for number in sorted(pair))
        x0, y0, x1, y1 = around(b1, b2)
        terms = {
            "colour": sum(map(min, c1, c2)),
            "texture": sum(map(min, t1, t2)),
            "size": 1 - (s1 + s2) / segments.area,
            "fill": 1 - ((x1 - x0) * (y1 - y0) - s1 - s2) / segments.area,
        }
        return sum(terms[name] for name in similarities)

    while len(alive) > 1:
        pair = max(sorted(near, key=sorted), key=similarity)
        (c1, t1, s1, b1), (c2, t2, s2, b2) = (regions[number] for number in sorted(pair))
        new = len(regions)
        total = s1 + s2
        regions.append(((c1 * s1 + c2 * s2) / total, (t1 * s1 + t2 * s2) / total, total, around(b1, b2)))
        alive = (alive - pair) | {new}
        near = {frozenset(new if number in pair else number for number in other) for other in near if other != pair}
        near = {other for other in near if len(other) == 2}
    return [list(region[3]) for region in regions]


def cells(height, width, count):
    """A picture cut into the cells of random points, numbered by their first pixels."""
    points = generator.uniform(size=(count, 2)) * (height, width)
    y, x = np.mgrid[:height, :width]
    nearest = ((np.stack([y, x], -1)[:, :, None] - points) ** 2).sum(-1).argmin(-1)
    first = {}
    return np.asarray([[first.setdefault(value, len(first)) for value in row] for row in nearest.tolist()])


@pytest.mark.parametrize(
    "similarities",
    [ALL, ALL - {"colour"}, frozenset({"fill"}), frozenset({"size"})],
    ids=lambda one: "+".join(sorted(one)),
)
def test_regions_are_those_of_the_plain_algorithm(similarities):
    labels = cells(30, 40, 25)
    image = generator.uniform(size=(30, 40, 3)) * 0.5 + generator.uniform(size=(25, 3))[labels] * 0.5
    segments = describe(labels, colour_bins(image), texture_bins(image))
    found = group(segments, similarities)
    assert found.tolist() == plain(segments, sorted(similarities))
    assert found[-1].tolist() == [0, 0, 40, 30]


def test_segments_are_measured():
    labels = np.asarray([[0, 0, 1], [2, 0, 1]])
    colours = np.asarray([[0, 0, 3], [5, 1, 3]], np.uint8)[..., None]
    segments = describe(labels, colours, np.zeros((2, 3, 8), np.uint8))
    assert segments.sizes.tolist() == [3, 2, 1]
    assert segments.boxes.tolist() == [[0, 0, 2, 2], [2, 0, 3, 2], [0, 1, 1, 2]]
    # A corner is not enough: 1 and 2 are no neighbours.
    assert segments.neighbours.tolist() == [[0, 1], [0, 2]]
    assert segments.area == 6
    expected = np.zeros((3, 25))
    expected[0, :2], expected[1, 3], expected[2, 5] = [2 / 3, 1 / 3], 1, 1
    np.testing.assert_allclose(segments.colours, expected)
    np.testing.assert_allclose(segments.textures.sum(-1), 1)
    assert segments.textures[0].tolist() == [0.125, *[0.0] * 9] * 8


def test_the_most_similar_neighbours_are_joined_first():
    """Three in a row: the last two have the same colours."""
    labels = np.asarray([[0, 1, 2]])
    segments = describe(labels, np.asarray([[[0], [9], [9]]], np.uint8), np.zeros((1, 3, 8), np.uint8))
    assert group(segments, frozenset({"colour"})).tolist()[3:] == [[1, 0, 3, 1], [0, 0, 3, 1]]


def test_one_segment_is_its_own_region():
    segments = Segments(
        np.ones((1, 25)), np.ones((1, 80)), np.asarray([6]), np.asarray([[0, 0, 3, 2]]), np.zeros((0, 2), int), 6
    )
    assert group(segments, ALL).tolist() == [[0, 0, 3, 2]]


def test_bins_of_colours():
    assert colour_bins(np.asarray([[[0.0], [0.039], [0.041], [1.0]]])).ravel().tolist() == [0, 0, 1, 24]


def test_directions_of_slopes():
    """A ramp that rises to the right: nothing downwards, the same along both diagonals, nothing leftwards."""
    ramp = np.tile(np.arange(40.0) / 40, (40, 1))[..., None]
    right, left, right_down, left_up, down, up, left_down, right_up = texture_bins(ramp)[20, 20].tolist()
    assert (right, left, down, up, left_up, left_down) == (9, 0, 0, 0, 0, 0)
    # cos 45 degrees of the largest slope.
    assert right_down == right_up == 7
    turned = texture_bins(ramp.transpose(1, 0, 2))[20, 20].tolist()
    assert turned[4] == 9
    assert turned[0] == turned[1] == turned[5] == 0


def test_a_flat_picture_has_no_slopes():
    assert not texture_bins(np.zeros((5, 6, 3))).any()


def test_equal_similarities_are_joined_in_order():
    labels = np.arange(6).reshape(1, 6)
    segments = describe(labels, np.zeros((1, 6, 1), np.uint8), np.zeros((1, 6, 8), np.uint8))
    joined = group(segments, frozenset({"colour"})).tolist()[6:]
    assert joined[0] == [0, 0, 2, 1]
    assert all(a != b for a, b in itertools.pairwise(joined))
