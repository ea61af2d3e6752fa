import io
import threading

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnnjax import view
from cnnjax.view import field_figures, figures

ROWS = [
    {"step": 5, "epoch": 0.5, "split": "train", "loss": 2.0, "accuracy": 0.25, "learning_rate": 1e-3},
    {"step": 10, "epoch": 1.0, "split": "train", "loss": 1.0, "accuracy": 0.5, "learning_rate": 5e-4},
    {"step": 10, "epoch": 1.0, "split": "test", "loss": 1.25, "accuracy": 0.375, "entropy": 3},
    {"step": 15, "epoch": 1.5, "split": "train", "loss": 0.5, "accuracy": 0.75, "learning_rate": 1e-4},
    {"step": 20, "epoch": 2.0, "split": "test", "loss": 0.75, "accuracy": 0.625, "entropy": 2},
]


def lines(axes):
    return {line.get_label(): np.stack(line.get_data()).tolist() for line in axes.lines}


def captions(figure):
    return [axes.get_title("center") for axes in figure.axes if axes.get_title("center")]


class TestLearningCurves:
    def test_lines_carry_the_rows(self):
        loss, accuracy, entropy, rate = figures.learning_curves(ROWS).axes
        assert lines(loss) == {"train": [[0.5, 1, 1.5], [2, 1, 0.5]], "test": [[1, 2], [1.25, 0.75]]}
        assert lines(accuracy)["test"] == [[1, 2], [0.375, 0.625]]
        assert lines(entropy) == {"test": [[1, 2], [3, 2]]}
        assert lines(rate) == {"train": [[0.5, 1, 1.5], [1e-3, 5e-4, 1e-4]]}

    def test_panels_are_labelled_in_order(self):
        rows = [{"examples_per_second": 9.0, "learning_rate": 0.1, "recall": 0.5, "loss": 1.0, "epoch": 1.0}]
        axes = figures.learning_curves(rows).axes
        assert [a.get_ylabel() for a in axes] == ["loss", "recall", "learning rate", "examples / s"]
        assert {a.get_xlabel() for a in axes} == {"epoch"}

    def test_legend_only_where_there_are_two_lines(self):
        loss, _, entropy, _ = figures.learning_curves(ROWS).axes
        assert [text.get_text() for text in loss.get_legend().get_texts()] == ["train", "test"]
        assert entropy.get_legend() is None

    def test_some_metrics_may_be_chosen(self):
        assert figures.metrics_of(ROWS) == ["loss", "accuracy", "entropy", "learning_rate"]
        (axes,) = figures.learning_curves(ROWS, ["accuracy"]).axes
        assert axes.get_ylabel() == "accuracy"
        with pytest.raises(ValueError, match="a metric"):
            figures.learning_curves(ROWS, ["recall"])

    def test_accuracy_reads_in_percent(self):
        axes = figures.learning_curves(ROWS).axes
        assert axes[1].yaxis.get_major_formatter()(0.5) == "50%"
        assert axes[0].yaxis.get_major_formatter()(0.5) == "0.5"

    def test_one_row_is_a_visible_point(self):
        (axes,) = figures.learning_curves([{"step": 7, "split": "train", "loss": 2.5}]).axes
        assert axes.get_xlabel() == "step"
        assert lines(axes) == {"train": [[7], [2.5]]}
        assert axes.lines[0].get_marker() == "o"

    def test_values_that_are_not_finite_are_counted(self):
        rows = [{"epoch": e, "split": "train", "loss": v} for e, v in enumerate([1.0, np.nan, np.inf, 2.0])]
        (axes,) = figures.learning_curves(rows).axes
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train (2 not finite)"]

    def test_words_and_missing_values_are_no_metrics(self):
        rows = [{"epoch": 1.0, "split": "train", "loss": 1.0, "note": "warm-up", "recall": None}]
        assert [axes.get_ylabel() for axes in figures.learning_curves(rows).axes] == ["loss"]

    @pytest.mark.parametrize("rows", [[], [{"epoch": 1.0, "split": "train"}], [{"split": "train", "loss": 1.0}]])
    def test_nothing_to_draw_raises(self, rows):
        with pytest.raises(ValueError, match="rows: "):
            figures.learning_curves(rows)


class TestFilters:
    def test_one_input_is_grey_on_one_symmetric_scale(self):
        kernel = np.random.default_rng(0).normal(size=(5, 3, 1, 6)).astype(np.float32)
        *tiles, bar = figures.filters(kernel, name="conv1").axes
        largest = np.abs(kernel).max()
        assert len(tiles) == 6
        assert bar.get_ylabel() == "weight"
        for index, axes in enumerate(tiles):
            (image,) = axes.images
            np.testing.assert_array_equal(image.get_array(), kernel[:, :, 0, index])
            np.testing.assert_allclose(image.get_clim(), (-largest, largest), rtol=1e-6)

    def test_pairs_are_numbered_from_input_to_output(self):
        kernel = np.arange(2 * 2 * 2 * 3, dtype=np.float32).reshape(2, 2, 2, 3)
        figure = figures.filters(kernel, name="conv2")
        assert captions(figure) == ["0 → 0", "1 → 0", "0 → 1", "1 → 1", "0 → 2", "1 → 2"]
        np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), kernel[:, :, 1, 1])

    def test_three_inputs_are_colours_each_filter_on_its_own_scale(self):
        kernel = np.zeros((1, 2, 3, 2), np.float32)
        kernel[0, 0, :, 0] = [4, -4, 0]
        kernel[0, 1, :, 1] = [0, 0, 0.01]
        first, second = (axes.images[0].get_array() for axes in figures.filters(kernel, name="conv1").axes)
        np.testing.assert_allclose(first, [[[1, 0, 0.5], [0.5, 0.5, 0.5]]])
        np.testing.assert_allclose(second, [[[0.5, 0.5, 0.5], [0.5, 0.5, 1]]])

    @pytest.mark.parametrize(
        ("shape", "title"),
        [
            ((2, 2, 3, 70), "stem: first 64 of 70 filters of 2\N{MULTIPLICATION SIGN}2\N{MULTIPLICATION SIGN}3"),
            ((2, 2, 1, 6), "stem: 6 filters of 2\N{MULTIPLICATION SIGN}2"),
        ],
    )
    def test_title_names_layer_and_what_is_left_out(self, shape, title):
        figure = figures.filters(np.ones(shape, np.float32), name="stem")
        assert figure.get_suptitle() == title
        assert len(captions(figure)) == min(64, shape[3])

    def test_weights_that_are_not_finite_stand_out(self):
        colour = np.ones((2, 2, 3, 1), np.float32)
        colour[0, 1, 2, 0] = np.nan
        drawn = figures.filters(colour, name="conv1").axes[0].images[0].get_array()
        np.testing.assert_allclose(drawn[0, 1], mpl.colors.to_rgb("#D55E00"))
        np.testing.assert_allclose(drawn[0, 0], [1, 1, 1])
        grey = figures.filters(np.full((2, 2, 1, 1), np.nan), name="conv1").axes[0].images[0]
        assert np.isfinite(grey.get_clim()).all()

    def test_wrong_limit_raises(self):
        with pytest.raises(ValueError, match="limit: 0"):
            figures.filters(np.ones((2, 2, 1, 1)), name="conv1", limit=0)

    @pytest.mark.parametrize("shape", [(3, 3, 1), (3, 3, 1, 0)])
    def test_wrong_shape_raises(self, shape):
        with pytest.raises((ValueError, TypeError)):
            figures.filters(np.ones(shape), name="conv1")


class TestFeatureMaps:
    def test_tiles_show_the_channels_and_their_ranges(self):
        maps = np.random.default_rng(1).normal(size=(4, 6, 3)).astype(np.float32)
        figure = figures.feature_maps(jnp.asarray(maps), name="C1")
        assert figure.get_suptitle() == "C1: 3 channels of 4\N{MULTIPLICATION SIGN}6"
        assert captions(figure) == [f"{c}: [{maps[..., c].min():.3g}, {maps[..., c].max():.3g}]" for c in range(3)]
        for channel, axes in enumerate(figure.axes):
            np.testing.assert_array_equal(axes.images[0].get_array(), maps[..., channel])

    def test_limit_is_told(self):
        figure = figures.feature_maps(np.random.default_rng(2).normal(size=(2, 2, 9)), name="C3", limit=5)
        assert len(figure.axes) == 5
        assert figure.get_suptitle() == "C3: first 5 of 9 channels of 2\N{MULTIPLICATION SIGN}2"

    def test_dead_channel_is_hatched(self):
        maps = np.arange(8.0).reshape(2, 2, 2)
        maps[..., 1] = 0
        alive, dead = figures.feature_maps(maps, name="C1").axes
        assert dead.get_title("center") == "1: constant 0"
        assert [patch.get_hatch() for patch in dead.patches] == ["///"]
        assert not alive.patches

    def test_values_that_are_not_finite_are_counted_and_masked(self):
        maps = np.zeros((2, 2, 2))
        maps[..., 0] = [[1, np.nan], [np.inf, 3]]
        maps[..., 1] = np.nan
        some, all_lost = figures.feature_maps(maps, name="C1").axes
        assert some.get_title("center") == "0: [1, 3]\n2 not finite"
        assert all_lost.get_title("center") == "1: 4 not finite"
        np.testing.assert_array_equal(some.images[0].get_array().mask, [[False, True], [True, False]])
        assert not all_lost.patches

    @pytest.mark.parametrize("shape", [(84,), (1, 1, 84)])
    def test_vector_layer_is_one_strip(self, shape):
        values = np.random.default_rng(3).normal(size=84)
        (axes,) = (figure := figures.feature_maps(values.reshape(shape), name="F6")).axes
        bars = np.array(axes.collections[0].get_segments())
        np.testing.assert_allclose(bars[:, 1], np.stack([np.arange(84), values], axis=1))
        np.testing.assert_array_equal(bars[:, 0, 1], 0)
        assert figure.get_suptitle().startswith("F6: ")
        assert f"[{values.min():.3g}, {values.max():.3g}]" in figure.get_suptitle()

    def test_channels_of_a_vector_may_have_names(self):
        (axes,) = figures.feature_maps(np.arange(3.0), name="logits", channel_names=("cat", "$x^{$", "d\x1b")).axes
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["cat", "$x^{$", r"d\x1b"]
        assert not any(tick.get_parse_math() for tick in axes.get_xticklabels())
        (axes,) = figures.feature_maps(np.arange(3.0), name="logits", channel_names=("cat", "dog")).axes
        assert axes.get_xlabel() == "channel"

    def test_vector_reports_what_is_not_finite(self):
        figure = figures.feature_maps(np.array([1.0, np.nan, -2.0]), name="logits")
        assert figure.get_suptitle() == "logits: 3 values, [-2, 1], 1 not finite"
        assert figure.axes[0].lines[0].get_xdata().tolist() == [1]

    @pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3, 4), (0,)])
    def test_wrong_shape_raises(self, shape):
        with pytest.raises(ValueError, match="maps: shape"):
            figures.feature_maps(np.ones(shape), name="C1")


class TestAsRgb:
    def test_grey_and_colour_become_floats_in_three_channels(self):
        grey = np.array([[0, 51], [102, 255]], np.uint8)
        expected = np.stack([[[0, 0.2], [0.4, 1]]] * 3, -1)
        for picture in (grey, grey[..., None]):
            shown, note = figures.as_rgb(picture, argument="image")
            np.testing.assert_allclose(shown, expected)
            assert note == ""
        colour = np.random.default_rng(4).uniform(size=(3, 5, 3)).astype(np.float32)
        np.testing.assert_allclose(figures.as_rgb(colour, argument="image")[0], colour)

    @pytest.mark.parametrize("channels", [2, 4, 5])
    def test_other_channels_become_three_and_the_note_says_so(self, channels):
        shown, note = figures.as_rgb(np.random.default_rng(4).uniform(size=(3, 5, channels)), argument="image")
        assert shown.shape == (3, 5, 3)
        assert note.startswith(f"principal components of {channels} channels")

    @pytest.mark.parametrize("image", [np.full((2, 2), 1.5), np.full((2, 2), -1.0), np.full((2, 2), np.nan)])
    def test_values_outside_of_0_to_1_raise(self, image):
        with pytest.raises(ValueError, match="picture: float64 values from"):
            figures.as_rgb(image, argument="picture")

    @pytest.mark.parametrize("shape", [(4,), (2, 0, 3), (1, 2, 2, 3)])
    def test_wrong_shape_raises(self, shape):
        with pytest.raises(ValueError, match="picture: shape"):
            figures.as_rgb(np.zeros(shape), argument="picture")


class TestStyle:
    def test_settings_from_outside_do_not_leak_in_or_out(self):
        with mpl.rc_context({"figure.facecolor": "black", "lines.linewidth": 9.0}):
            figure = figures.learning_curves(ROWS)
            assert mpl.rcParams["figure.facecolor"] == "black"
            assert mpl.rcParams["lines.linewidth"] == 9
        assert figure.get_facecolor() == (1, 1, 1, 1)
        assert figure.axes[0].lines[0].get_linewidth() < 3

    def test_settings_survive_an_error_inside(self):
        before = mpl.rcParams.copy()
        with pytest.raises(ValueError, match="rows: 0"):
            figures.learning_curves([])
        assert mpl.rcParams == before

    def test_threads_take_turns(self):
        before = mpl.rcParams.copy()
        drawn: list[bytes] = []
        workers = [
            threading.Thread(target=lambda: drawn.append(figures.png(figures.learning_curves(ROWS[:1]), dpi=40)))
            for _ in range(4)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(drawn) == 4
        assert len(set(drawn)) == 1
        assert mpl.rcParams == before

    def test_png_has_the_figures_size(self):
        with figures.style():
            figure = Figure(figsize=(4, 2))
        image = Image.open(io.BytesIO(figures.png(figure, dpi=50)))
        assert (image.format, image.size) == ("PNG", (200, 100))
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_room_opens_its_modules_and_names():
    assert view.figures is figures
    assert view.FieldBox is field_figures.FieldBox
    assert set(view.__dir__()) >= {"figures", "page", "learning_curves", "Section"}
    with pytest.raises(AttributeError, match=r"No cnnjax\.view attribute pages"):
        view.__getattr__("pages")
