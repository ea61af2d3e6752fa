"""Plots hold the numbers they were given, with labels, legends and colours."""

import numpy as np
import pytest

from cnnjax.view.plots import Panel, Tile, bars, curves, dots, matrix, pictures


def test_curves_keep_a_names_colour_in_every_panel():
    panels = [Panel("first", {"a": ([0, 1], [2, 3]), "b": ([0, 1], [1, 1])}), Panel("second", {"b": ([0, 2], [4, 5])})]
    figure = curves(panels, x_label="shift / pixels", y_label="change", title="All")
    first, second = figure.axes
    assert [axes.get_title("left") for axes in figure.axes] == ["first", "second"]
    assert {axes.get_xlabel() for axes in figure.axes} == {"shift / pixels"}
    assert first.get_ylabel() == "change"
    assert np.array_equal(second.lines[0].get_xydata(), [[0, 4], [2, 5]])
    assert first.lines[1].get_color() == second.lines[0].get_color() != first.lines[0].get_color()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert first.get_ylim()[0] == 0


def test_one_line_needs_no_legend_and_scales_may_be_logarithmic():
    figure = curves([Panel("", {"a": ([1, 10], [1, 100])})], x_label="x", y_label="y", log="xy")
    assert not figure.legends
    assert (figure.axes[0].get_xscale(), figure.axes[0].get_yscale()) == ("log", "log")


def test_bars_stand_beside_their_names():
    figure = bars(["one", "two"], {"MACs / million": [3, 4], "parameters": [5, 6]}, title="Cost")
    left, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == [3, 4]
    assert [label.get_text() for label in left.get_yticklabels()] == ["one", "two"]
    assert (left.get_xlabel(), right.get_xlabel()) == ("MACs / million", "parameters")
    assert left.get_ylim()[0] > left.get_ylim()[1]  # from the top down


def test_numbers_on_a_logarithmic_scale_are_dots_on_every_panel():
    figure = bars(["one", "two"], {"a": [3, 4], "b": [0, 600]}, title="Cost", log=True)
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "log"]
    assert not any(axes.patches for axes in figure.axes)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), [3, 4])
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_xdata(), [np.nan, 600])  # zero has no place


def test_dots_of_one_name_stand_on_one_line_beside_what_they_are_compared_with():
    columns = {"gains": [3.0, np.nan], "gains none": [np.nan, 500.0]}
    figure = dots(["one", "two\x1b"], columns, label="side / pixels", title="Fields", line=("picture", 32.0))
    (axes,) = figure.axes
    first, second, upright = axes.lines
    np.testing.assert_array_equal(first.get_xydata(), [[3, 0], [np.nan, 1]])
    np.testing.assert_array_equal(second.get_xydata(), [[np.nan, 0], [500, 1]])
    assert list(upright.get_xdata()) == [32, 32]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["gains", "gains none", "picture: 32"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", r"two\x1b"]
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "side / pixels")


def test_a_law_is_seen_beneath_the_line_that_follows_it():
    panel = Panel("", {"measured": ([0, 1], [1, 2]), "law": ([0, 1], [1, 2])})
    measured, law = curves([panel], x_label="x", y_label="y", laws=("law",)).axes[0].lines
    assert law.get_zorder() < measured.get_zorder()
    assert law.get_linewidth() > 2 * measured.get_linewidth()


def test_of_many_bars_some_are_chosen_evenly():
    figure = bars([str(number) for number in range(101)], {"size": list(range(101))}, title="Many", limit=11)
    assert [bar.get_width() for bar in figure.axes[0].patches] == list(range(0, 101, 10))
    assert figure.get_suptitle() == "Many (11 of 101)"


def test_a_small_matrix_has_its_numbers_written_in():
    values = np.array([[1.0, 0.25], [0.25, 1.0]])
    figure = matrix(values, ["a", "b"], ["c", "d"], title="Similarity", label="CKA", limits=(0, 1))
    axes, scale = figure.axes
    assert [text.get_text() for text in axes.texts] == ["1.00", "0.25", "0.25", "1.00"]
    assert scale.get_ylabel() == "CKA"
    assert np.array_equal(axes.images[0].get_array(), values)


def test_tiles_have_a_scale_of_their_kind():
    tiles = [
        Tile(np.full((4, 4, 3), 0.5), "a picture"),
        Tile(np.array([[-2.0, 1.0]]), "signed", "signed"),
        Tile(np.eye(2), "heat", "heat", over=np.zeros((8, 8, 3))),
    ]
    figure = pictures(tiles, title="Three")
    assert [axes.get_title("center") for axes in figure.axes] == ["a picture", "signed", "heat"]
    assert figure.axes[1].images[0].get_clim() == (-2, 2)
    picture, heat = figure.axes[2].images
    # Eight by eight pixels, and the coarser map over all of them.
    assert list(picture.get_extent()) == list(heat.get_extent()) == [-0.5, 7.5, 7.5, -0.5]


def test_tiles_take_bytes_and_any_number_of_channels():
    levels = np.array([[0, 51], [102, 255]], np.uint8)
    many = np.random.default_rng(0).integers(0, 256, (4, 4, 4)).astype(np.uint8)
    tiles = [Tile(levels, "grey"), Tile(many, "four"), Tile(np.eye(2), "heat", "heat", over=levels)]
    grey, four, heat = pictures(tiles, title="Bytes").axes
    np.testing.assert_allclose(grey.images[0].get_array(), levels / 255)
    np.testing.assert_allclose(heat.images[0].get_array(), levels / 255)
    assert four.images[0].get_array().shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: curves([], x_label="x", y_label="y"), "panels: .* at least one is needed"),
        (lambda: curves([Panel("empty", {})], x_label="x", y_label="y"), "each with a line"),
        (lambda: bars(["a"], {"n": [1, 2]}, title=""), "names: 1, columns: {'n': 2}"),
        (lambda: pictures([], title=""), "no pictures"),
        (lambda: pictures([Tile(np.eye(2), "", "hot")], title=""), "kind='hot'; expected"),
    ],
    ids=["no panels", "no lines", "lengths", "no pictures", "kind"],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
