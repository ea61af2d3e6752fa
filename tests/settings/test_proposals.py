import pytest

from cnnjax.settings import Proposals, from_plain, to_plain


def test_where_they_are_kept_is_no_part_of_a_record(tmp_path):
    chosen = Proposals(most=7, mode="quality", enlarge=True, folder=tmp_path)
    assert from_plain(Proposals, to_plain(chosen)) == Proposals(most=7, mode="quality", enlarge=True)
    assert chosen.options() == {"most": 7, "mode": "quality", "smallest": 20, "width": 500, "enlarge": True}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"most": 0}, r"proposals\.most=0; expected a number above 0"),
        ({"mode": "fats"}, r"proposals\.mode='fats'; did you mean 'fast'"),
    ],
)
def test_other_values_are_refused(options, words, unchecked_types):
    with pytest.raises(ValueError, match=words):
        Proposals(**options)
