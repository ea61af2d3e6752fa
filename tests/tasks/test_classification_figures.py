"""Pictures of predictions: what they show of which examples, and that names are never read as formulas."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as count

from cnnjax.tasks import Classification
from cnnjax.tasks.classification_figures import confusion_matrix, most_confused
from cnnjax.view import figures

CLASSES = ("cat", "dog", "newt")
generator = np.random.default_rng(0)
PROBABILITIES = generator.dirichlet(np.ones(3), 10).astype(np.float32)
LABELS = generator.integers(0, 3, 10).astype(np.int32)
PREDICTED = PROBABILITIES.argmax(-1)
IMAGES = generator.integers(0, 255, (10, 6, 6, 1)).astype(np.uint8)


def captions(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_draws_confusions_and_mistakes():
    predictions = {"probabilities": PROBABILITIES, "label": PREDICTED}
    drawn = Classification(CLASSES).draw({"image": IMAGES, "label": LABELS}, predictions)
    matrix, mistakes = drawn["Confusion matrix"], drawn["Most confused examples"]
    counts = count(LABELS, PREDICTED)
    assert sorted(int(text.get_text()) for text in matrix.axes[0].texts) == sorted(counts[counts > 0])
    wrong = np.flatnonzero(PREDICTED != LABELS)
    assert len(wrong) > 1
    surest = wrong[np.argmax(PROBABILITIES.max(-1)[wrong])]
    titles = captions(mistakes)
    assert len(titles) == len(wrong)
    said = f"{CLASSES[LABELS[surest]]}\nas {CLASSES[PREDICTED[surest]]}, {PROBABILITIES[surest].max():.0%}"
    assert titles[0] == said
    np.testing.assert_allclose(mistakes.axes[0].images[0].get_array(), IMAGES[surest, ..., 0] / 255)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_pictures_of_other_channels_are_drawn_and_said_so(channels):
    images = generator.integers(0, 256, (10, 6, 6, channels)).astype(np.uint8)
    figure = most_confused(images, LABELS, PROBABILITIES, CLASSES)
    assert f"\nprincipal components of {channels} channels as red, green" in figure.get_suptitle()
    assert {axes.images[0].get_array().shape for axes in figure.axes if axes.images} == {(6, 6, 3)}


def test_a_distribution_counts_as_its_likeliest_class():
    soft = (0.7 * np.eye(3)[LABELS] + 0.1).astype(np.float32)
    predictions = {"probabilities": PROBABILITIES, "label": PREDICTED}
    drawn = Classification(CLASSES).draw({"image": IMAGES, "label": soft}, predictions)
    assert drawn["Confusion matrix"].axes[0].get_title() == f"{int((PREDICTED == LABELS).sum())} of 10 right"


def test_without_mistakes_the_least_certain_are_shown():
    right = np.float32([[0.9, 0.1, 0], [0.2, 0.8, 0], [0, 0.4, 0.6]])
    figure = most_confused(IMAGES[:3], np.array([0, 1, 2]), right, CLASSES)
    assert figure.get_suptitle() == "No mistakes; the 3 least certain"
    assert captions(figure) == ["\nnewt, 60%", "\ndog, 80%", "\ncat, 90%"]


def test_matrix_colours_are_shares_of_the_true_class():
    counts = np.array([[3, 1], [0, 0]])
    axes = confusion_matrix(counts, ("a", "b")).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25], [0, 0]])
    assert {text.get_text(): text.get_position() for text in axes.texts} == {"3": (0, 0), "1": (1, 0)}


def test_large_numbers_have_separators():
    counts = np.array([[2000, 7000], [473, 527]])
    assert confusion_matrix(counts, ("a", "b")).axes[0].get_title() == "2,527 of 10,000 right"
    labels = np.zeros(1500, np.int32)
    probabilities = np.broadcast_to(np.float32([0.3, 0.7]), (1500, 2))
    images = np.zeros((1500, 1, 1, 1), np.uint8)
    figure = most_confused(images, labels, probabilities, ("a", "b"))
    assert figure.get_suptitle().startswith("Mistakes, surest first: 24 of 1,500 ")
    assert len(captions(figure)) == 24


def test_class_names_are_not_read_as_formulas():
    classes = ("$x$_1", "$x^{$")
    matrix = confusion_matrix(np.array([[3, 1], [0, 2]]), classes)
    assert figures.png(matrix, dpi=30)
    axes = matrix.axes[0]
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == list(classes)
        assert not any(tick.get_parse_math() for tick in ticks)
    mistakes = most_confused(IMAGES[:2], np.array([0, 1]), np.float32([[0.2, 0.8], [0.7, 0.3]]), classes)
    assert figures.png(mistakes, dpi=30)
    assert captions(mistakes) == ["$x$_1\nas $x^{$, 80%", "$x^{$\nas $x$_1, 70%"]


@pytest.mark.parametrize("size", [30, 31])
def test_many_classes_are_not_named(size):
    axes = confusion_matrix(np.eye(size, dtype=int), [f"c{i}" for i in range(size)]).axes[0]
    assert len(axes.texts) == (size if size <= 30 else 0)


def test_class_names_with_escape_sequences_are_drawn_as_escapes():
    classes = ("\x1b[31mred", "exe\u202egnp")
    matrix = confusion_matrix(np.array([[3, 1], [0, 2]]), classes)
    assert figures.png(matrix, dpi=30)  # no warning of a glyph that is missing
    assert [tick.get_text() for tick in matrix.axes[0].get_yticklabels()] == [r"\x1b[31mred", r"exe\u202egnp"]
    mistakes = most_confused(IMAGES[:2], np.array([0, 1]), np.float32([[0.2, 0.8], [0.7, 0.3]]), classes)
    assert captions(mistakes)[0] == "\\x1b[31mred\nas exe\\u202egnp, 80%"
