"""Words for scenes."""

import numpy as np

from cnnjax.data.scenes import POSITIONS, class_names, phrases


def test_every_slot_has_its_phrase():
    facts = {
        "present": np.asarray([True, True, False]),
        "sizes": np.asarray([0, 1, 0]),
        "colours": np.asarray([3, 5, 0]),
        "classes": np.asarray([0, 10, 0]),
        "positions": np.asarray([8, 1, 0]),
    }
    told = ("the small blue circle at the lower right", "the large white seven at the top", "")
    assert phrases(facts) == told


def test_names_have_their_numbers():
    assert class_names() == ("circle", "rectangle", "triangle")
    assert class_names(digits=True)[:3] == class_names()
    assert class_names(digits=True)[3 + 4] == "four"
    assert [POSITIONS[3 * row + column] for row, column in ((0, 2), (1, 1), (2, 0))] == [
        "upper right",
        "centre",
        "lower left",
    ]
