"""Pictures of a tagger: what they show of which tags and examples, and that names are never read as formulas."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from cnnjax.tasks import Tagging
from cnnjax.tasks.tagging_figures import average_precisions, precision_recall_curves, tagged_examples
from cnnjax.view import figures

TAGS = ("cat", "dog", "newt")
generator = np.random.default_rng(0)
PRESENT = generator.uniform(size=(40, 3)) < (0.5, 0.3, 0.2)
PROBABILITIES = np.clip(generator.uniform(size=(40, 3)) + 0.3 * PRESENT, 0, 1).astype(np.float32)
PREDICTED = PROBABILITIES >= 0.5
IMAGES = generator.integers(0, 255, (40, 4, 4, 1)).astype(np.uint8)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_draws_all_that_can_be_ranked():
    predictions = {"probabilities": PROBABILITIES, "tags": PREDICTED}
    drawn = Tagging(TAGS).draw({"image": IMAGES, "tags": PRESENT.astype(np.float32)}, predictions)
    both = ["Examples", "Most confused examples"]
    assert list(drawn) == ["Average precision by tag", "Precision and recall", *both]
    predictions = {"probabilities": PROBABILITIES[:2], "tags": PREDICTED[:2]}
    nothing = Tagging(TAGS).draw({"image": IMAGES[:2], "tags": np.zeros((2, 3), np.float32)}, predictions)
    assert list(nothing) == both
    broken = {"probabilities": np.full((2, 3), np.nan, np.float32), "tags": np.zeros((2, 3), bool)}
    assert list(Tagging(TAGS).draw({"image": IMAGES[:2], "tags": np.ones((2, 3), np.float32)}, broken)) == both


def test_bars_from_best_to_worst_with_positives_and_chance():
    figure = average_precisions(PRESENT, PROBABILITIES, TAGS)
    expected = average_precision_score(PRESENT, PROBABILITIES, average=None)
    order = np.argsort(-expected)
    (axes,) = figure.axes
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], expected[order])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [TAGS[index] for index in order]
    assert texts(axes) == [str(PRESENT[:, index].sum()) for index in order]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), PRESENT.mean(0)[order])
    assert figure.get_suptitle() == f"Mean average precision {expected.mean():.3f} over 3 tags"


def test_tags_without_positives_are_counted_in_the_title():
    figure = average_precisions(PRESENT & np.array([True, False, True]), PROBABILITIES, TAGS)
    assert figure.get_suptitle().endswith("over 2 tags\n1 tag without positives left out")
    assert len(figure.axes[0].patches) == 2


@pytest.mark.parametrize(("number", "columns", "shown"), [(40, 1, 40), (80, 2, 80), (130, 3, 120)])
def test_many_tags_go_in_columns_and_of_very_many_the_middle_is_left_out(number, columns, shown):
    present = np.arange(20)[:, None] < np.arange(number)[None] % 18 + 1
    probabilities = generator.uniform(size=(20, number))
    names = [f"t{index}" for index in range(number)]
    figure = average_precisions(present, probabilities, names)
    assert len(figure.axes) == columns
    order = np.argsort(-average_precision_score(present, probabilities, average=None), kind="stable")
    if shown < number:
        order = np.concatenate([order[:60], order[-60:]])
        assert "the 60 best and the 60 worst" in figure.get_suptitle()
    ticks = [tick.get_text() for axes in figure.axes for tick in axes.get_yticklabels()]
    assert ticks == [names[index] for index in order]


def test_curves_enclose_average_precision_and_dots_mark_the_threshold():
    figure = precision_recall_curves(PRESENT, PROBABILITIES, PREDICTED, TAGS)
    (axes,) = figure.axes
    scores = average_precision_score(PRESENT, PROBABILITIES, average=None)
    order = np.argsort(-scores)
    curves, dots = axes.lines[::2], axes.lines[1::2]
    for index, curve, dot in zip(order, curves, dots, strict=True):
        recall, precision = curve.get_data()
        assert curve.get_drawstyle() == "steps-pre"
        assert (recall[0], recall[-1]) == (0, 1)
        # Each step is as high as its right end.
        assert np.sum(np.diff(recall) * precision[1:]) == pytest.approx(scores[index])
        at = [score(PRESENT[:, index], PREDICTED[:, index]) for score in (recall_score, precision_score)]
        np.testing.assert_allclose(np.ravel(dot.get_data()), at)
        positives = PRESENT[:, index].sum()
        assert curve.get_label() == f"{TAGS[index]}: {scores[index]:.3f}, {positives} positives"


def test_of_many_curves_the_best_the_worst_and_some_between_are_drawn():
    present = generator.uniform(size=(30, 11)) < 0.5
    probabilities = generator.uniform(size=(30, 11))
    names = [f"t{index}" for index in range(11)]
    figure = precision_recall_curves(present, probabilities, probabilities > 2, names)
    order = np.argsort(-average_precision_score(present, probabilities, average=None))
    labels = [text.get_text().split(":")[0] for text in figure.axes[0].get_legend().get_texts()]
    assert labels == [names[index] for index in order[::2]]
    assert len(figure.axes[0].lines) == 6  # nothing is predicted: no dots
    assert figure.get_suptitle() == "Precision and recall: 6 of 11 tags, from best to worst"


def examples(present, probabilities, *, worst, tags=TAGS):
    figure = tagged_examples(
        IMAGES[: len(present)], present, probabilities, probabilities >= 0.5, tags=tags, worst=worst
    )
    pairs = figure.axes
    return figure, [texts(axes) for axes in pairs[1::2]], pairs[::2]


def test_tags_are_right_missed_or_wrong():
    present = np.array([[True, True, False], [False, False, False]])
    probabilities = np.float32([[0.9, 0.2, 0.7], [0.1, 0.0, 0.3]])
    figure, lists, _ = examples(present, probabilities, worst=False)
    assert lists == [["○ dog, 20%", "✗ newt, 70%", "✓ cat, 90%"], ["✓ no tag"]]
    colours = [text.get_color() for text in figure.axes[1].texts]
    assert colours == ["C0", "C1", "C2"]
    legend = {text.get_text(): handle.get_color() for text, handle in legend_of(figure)}
    assert legend == {"right": "C2", "missed": "C0", "wrong": "C1"}
    assert figure.get_suptitle() == "2 of 2 examples"


def legend_of(figure):
    (legend,) = figure.legends
    return zip(legend.get_texts(), legend.legend_handles, strict=True)


def test_the_worst_come_first():
    figure, lists, pictures = examples(PRESENT, PROBABILITIES, worst=True)
    error = np.abs(PRESENT.astype(float) - PROBABILITIES).max(1)
    order = np.argsort(-error, kind="stable")[:24]
    for axes, index in zip(pictures, order, strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), IMAGES[index, ..., 0] / 255)
    mistaken = sum(f1_score(a, b, zero_division=1.0) < 1 for a, b in zip(PRESENT, PREDICTED, strict=True))
    assert figure.get_suptitle() == f"Farthest from right: 24 of 40 examples, {mistaken} with a mistake"
    assert len(lists) == 24


def test_examples_are_spread_over_all():
    _, _, pictures = examples(PRESENT, PROBABILITIES, worst=False)
    for place, index in ((0, 0), (23, 39)):
        np.testing.assert_allclose(pictures[place].images[0].get_array(), IMAGES[index, ..., 0] / 255)


def test_long_lists_are_cut():
    names = [f"tag number {index} of many" for index in range(20)]
    _, lists, _ = examples(
        np.ones((1, 20), bool), np.linspace(0.6, 0.9, 20, dtype=np.float32)[None], worst=True, tags=names
    )
    assert lists[0][0] == "✓ tag number 0 of…, 60%"
    assert len(lists[0]) == 7
    assert lists[0][-1] == "and 14 more"


def test_tag_names_are_not_read_as_formulas():
    tags = ("$x$_1", "$x^{$", "a_b")
    for figure in (
        average_precisions(PRESENT, PROBABILITIES, tags),
        precision_recall_curves(PRESENT, PROBABILITIES, PREDICTED, tags),
        tagged_examples(IMAGES[:2], PRESENT[:2], PROBABILITIES[:2], PREDICTED[:2], tags=tags, worst=True),
    ):
        with figures.style():
            assert figures.png(figure, dpi=30)
