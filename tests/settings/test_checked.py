"""Settings that check themselves: types, choices, ranges, and what is said of wrong ones."""

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest

from cnnjax.settings import NOT_NEGATIVE, POSITIVE, SHARE, UNRECORDED, Checked, Range

pytestmark = pytest.mark.usefixtures("unchecked_types")


@dataclasses.dataclass(frozen=True)
class Inner(Checked):
    depth: int = 1


@dataclasses.dataclass(frozen=True)
class Other(Checked):
    width: int = 1


@dataclasses.dataclass(frozen=True)
class Wide(Checked):
    """A field of every kind that settings have."""

    prefix: ClassVar[str] = "wide."
    cures: ClassVar[Mapping[str, str]] = {"text": ", such as 'a'"}

    count: Annotated[int, POSITIVE] = 1
    share: Annotated[float | None, SHARE] = None
    angle: Annotated[float, Range(least=-90, most=90)] = 0.0
    text: str = ""
    switch: bool = False
    choice: Literal["nearest", "cubic", 3] = "nearest"
    place: Path | None = None
    names: tuple[str, ...] = ()
    pair: tuple[int, int] = (1, 2)
    means: Annotated[tuple[float, ...] | None, POSITIVE] = None
    rates: Mapping[str, Annotated[float, NOT_NEGATIVE]] = dataclasses.field(default_factory=dict)
    inner: Inner | Other = dataclasses.field(default_factory=Inner)
    thing: Any = None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, "wide.count=0; expected a number above 0"),
        ({"count": 2.0}, "wide.count=2.0; expected a whole number"),
        ({"count": True}, "wide.count=True; expected a whole number"),
        ({"count": None}, "wide.count=None; expected a whole number"),
        ({"share": 1.0}, "wide.share=1.0; expected at least 0 and below 1"),
        ({"share": -0.5}, "wide.share=-0.5; expected at least 0 and below 1"),
        ({"share": math.nan}, "wide.share=nan; expected at least 0 and below 1"),
        ({"share": "0.5"}, "wide.share='0.5'; expected a number"),
        ({"angle": 91.5}, "wide.angle=91.5; expected -90 to 90"),
        ({"angle": -math.inf}, "wide.angle=-inf; expected -90 to 90"),
        ({"text": 5}, "wide.text=5; expected text, such as 'a'"),
        ({"switch": 1}, "wide.switch=1; expected True or False"),
        ({"choice": "cubik"}, "wide.choice='cubik'; did you mean 'cubic'?"),
        ({"choice": "xyz"}, "wide.choice='xyz'; expected one of nearest, cubic, 3"),
        ({"place": 5}, "wide.place=5; expected a path"),
        ({"names": "abc"}, "wide.names='abc'; expected a tuple of names"),
        ({"names": (1,)}, "wide.names=<tuple>; expected a tuple of names"),
        ({"pair": (1,)}, "wide.pair=<tuple>; expected a tuple of 2 whole numbers"),
        ({"pair": (1, "b")}, "wide.pair=<tuple>; expected a tuple of 2 whole numbers"),
        ({"means": (0.5, 0.0)}, "wide.means=<tuple>; expected a number above 0"),
        ({"means": 0.5}, "wide.means=0.5; expected a tuple of values"),
        ({"rates": {"stage1": -1.0}}, "wide.rates=<dict>; expected at least 0 and below 3.403e+38 as its values"),
        ({"rates": {"stage1": "x"}}, "wide.rates=<dict>; expected a number as its values"),
        ({"rates": [0.5]}, "wide.rates=<list>; expected a dictionary"),
        ({"inner": "deep"}, "wide.inner='deep'; expected Inner(...) or expected Other(...)"),
    ],
)
def test_what_is_refused_and_what_is_said(given, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Wide(**given)


def test_what_is_taken():
    taken = Wide(
        count=3, share=0, angle=-90, switch=True, choice=3, names=["a", "b"], place="some/where", pair=[3, 4],
        means=(0.5, 1), rates={"stage1": 0}, inner=Other(2), thing=object,
    )  # fmt: skip
    assert (taken.place, taken.names, taken.pair) == (Path("some/where"), ("a", "b"), (3, 4))
    assert Wide(place=Path("x")).place == Path("x")


@pytest.mark.parametrize(
    ("range_", "inside", "outside", "words"),
    [
        (Range(least=0, most=5), [0, 2.5, 5], [-1e-9, 5.001], "0 to 5"),
        (Range(above=0), [1e-300, 1e300], [0, -1], "a number above 0"),
        (Range(least=0, below=1), [0, 0.999], [1, -0.1], "at least 0 and below 1"),
        (Range(least=0, most=2**32 - 1), [0, 4294967295], [4294967296], "0 to 4294967295"),
    ],
)
def test_ranges(range_, inside, outside, words):
    assert all(number in range_ for number in inside)
    assert not any(number in range_ for number in [*outside, math.nan, math.inf, -math.inf])
    assert str(range_) == words


def test_settings_of_settings_keep_their_own_words():
    """A part is checked when it is made, by its own names."""
    with pytest.raises(ValueError, match=r"^depth='deep'; expected a whole number$"):
        Wide(inner=Inner("deep"))


def test_an_unrecorded_setting_is_checked_as_others_are():
    @dataclasses.dataclass(frozen=True)
    class Hidden(Checked):
        threads: Annotated[int, NOT_NEGATIVE, UNRECORDED] = 4

    with pytest.raises(ValueError, match="threads=-1; expected at least 0"):
        Hidden(-1)
