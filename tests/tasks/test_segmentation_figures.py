"""Pictures of a segmenter: which examples, in which order, with what over them."""

import numpy as np

from cnnjax.tasks.segmentation_figures import MOST_SHOWN, pixel_confusion, segmented

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 255, (8, 12, 10, 3)).astype(np.uint8)
LABELS = GENERATOR.integers(0, 2, (8, 12, 10))
# Picture k has 5 k wrong pixels.
PREDICTED = LABELS.copy()
for picture in range(8):
    PREDICTED[picture].reshape(-1)[: 5 * picture] ^= 1


def titles(figure):
    return [axes.get_title() for axes in figure.axes if "wrong" in axes.get_title()]


def test_the_worst_come_first():
    figure = segmented(IMAGES, LABELS, PREDICTED, classes=("nothing", "$cell"), worst=True)
    assert titles(figure) == [f"{5 * k / 120:.1%} wrong" for k in (7, 6, 5, 4, 3, 2)]
    first = segmented(IMAGES, LABELS, PREDICTED, classes=("nothing", "$cell"), worst=False)
    assert titles(first) == [f"{5 * k / 120:.1%} wrong" for k in range(MOST_SHOWN)]
    assert [text.get_text() for text in first.legends[0].get_texts()] == [
        "$cell",
        "too much",
        "missed",
        "another class",
    ]


def test_ignored_pixels_are_not_wrong():
    labels = LABELS.copy()
    labels[7].reshape(-1)[:35] = 255
    figure = segmented(IMAGES, labels, PREDICTED, classes=("nothing", "cell"), worst=True, ignored=255)
    assert titles(figure)[0] == f"{30 / 120:.1%} wrong"


def test_confusion_counts_pixels():
    figure = pixel_confusion(LABELS, PREDICTED, ("nothing", "cell"))
    right = int((LABELS == PREDICTED).sum())
    titles = [figure.axes[0].get_title(loc=loc) for loc in ("left", "center")]
    assert f"{right:,} of {LABELS.size:,} right" in titles
    assert str(int(((LABELS == 0) & (PREDICTED == 1)).sum())) in [text.get_text() for text in figure.axes[0].texts]
