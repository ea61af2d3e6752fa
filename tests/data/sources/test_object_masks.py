import numpy as np
import pytest

from cnnjax.data.sources.object_masks import draw_outlines, join_masks, stack_labels

# A picture of 4 rows of 5: a large object, a small one over it, and a crowd over all.
LARGE, SMALL = np.zeros((2, 4, 5), np.uint8)
LARGE[1:3, 1:4] = 1
SMALL[2, 2] = 1
CROWD = np.ones((4, 5), np.uint8)


def test_a_stack_keeps_what_overlaps_and_a_map_shows_the_small_over_the_large_over_crowds():
    masks = [SMALL, CROWD, LARGE]
    stack = join_masks(masks, (4, 5), "stack", 4)
    assert (stack.shape, stack.dtype) == ((4, 5, 4), np.uint8)
    for place, mask in enumerate([*masks, np.zeros((4, 5))]):
        np.testing.assert_array_equal(stack[..., place], mask)
    labels = join_masks(masks, (4, 5), "map", 4, crowd=np.array([False, True, False]))
    assert labels.dtype == np.int32
    expected = np.full((4, 5), 2)
    expected[1:3, 1:4], expected[2, 2] = 3, 1
    np.testing.assert_array_equal(labels, expected)
    # A crowd that is smaller than the objects lies below them too.
    tiny = join_masks([SMALL, LARGE], (4, 5), "map", 2, crowd=np.array([True, False]))
    assert (tiny == 2).sum() == 6


def test_no_objects_make_an_empty_map():
    assert not join_masks([], (2, 3), "map", 1).any()
    assert join_masks([], (2, 3), "stack", 2).shape == (2, 3, 2)


def test_labels_as_a_stack():
    np.testing.assert_array_equal(stack_labels(np.array([[0, 1], [3, 1]]), 3)[..., 0], [[0, 1], [0, 1]])
    assert stack_labels(np.array([[0, 1], [3, 1]]), 3).sum((0, 1)).tolist() == [2, 0, 1]


def draw(outlines, **options):
    options = {"crowd": np.zeros(len(outlines), bool), "tell": lambda row: f"annotation {row}"} | options
    return draw_outlines(outlines, (4, 5), "map", 3, **options)


def test_outlines_are_polygons_or_run_lengths():
    """Lengths by hand: down the columns, zeros first. The polygon is the golden of COCO's own code."""
    runs = {"size": [4, 5], "counts": [5, 2, 2, 2, 2, 2, 5]}
    np.testing.assert_array_equal(draw([runs]), LARGE)
    np.testing.assert_array_equal(draw([[[1, 1, 4, 1, 4, 3, 1, 3]]]), LARGE)
    np.testing.assert_array_equal(draw([{"size": [4, 5], "counts": "5220003"}]), LARGE)


@pytest.mark.parametrize(
    ("outline", "words"),
    [
        ({"size": [4, 5], "counts": [1, 2]}, "annotation 1: its segmentation is no mask .*; correct it, or remove it"),
        ({"size": [4, 5], "counts": "ü"}, "annotation 1: its segmentation is no mask"),
        ([[0, 0, 1, 1]], "annotation 1: its segmentation is no mask .*2 points"),
        ({"size": [5, 4], "counts": [20]}, "annotation 1: its mask has 5 rows of 4 pixels, its picture 4 of 5"),
    ],
)
def test_outlines_that_are_no_masks_are_named(outline, words):
    with pytest.raises(ValueError, match=words):
        draw([{"size": [4, 5], "counts": [20]}, outline])
