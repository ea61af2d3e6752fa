import pytest

from cnnjax.settings import Objects, from_plain, to_plain


def test_objects_by_default_and_as_plain_values():
    assert (Objects().slots, Objects().invalid, Objects().masks) == (None, "refuse", "auto")
    assert (Objects().mask_form("map"), Objects(masks="none").mask_form("map")) == ("map", "none")
    chosen = Objects(slots=7, invalid="cut", masks="stack")
    assert from_plain(Objects, to_plain(chosen)) == chosen


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slots": 0}, r"objects\.slots=0; expected a number above 0"),
        ({"invalid": "dropp"}, r"objects\.invalid='dropp'; did you mean 'drop'"),
        ({"masks": "maps"}, r"objects\.masks='maps'; did you mean 'map'"),
    ],
)
def test_other_values_are_refused(options, words, unchecked_types):
    with pytest.raises(ValueError, match=words):
        Objects(**options)
