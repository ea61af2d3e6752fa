"""Settings that check themselves: the range of every number stands beside its field."""

import dataclasses
import math
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

# The largest number that float32 holds, and the smallest above zero that keeps all its digits.
LARGEST, LEAST = 3.4028234663852886e38, 1.1754943508222875e-38


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a setting may have; stands in its annotation, as in `Annotated[float, Range(least=0, below=1)]`.

    Attributes:
        least: the smallest one.
        above: all are larger than this.
        most: the largest one.
        below: all are smaller than this.
    """

    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        """Whether a number is one of them; NaN and the infinities never are."""
        return math.isfinite(value) and self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        """What is expected, in words."""
        if math.isfinite(self.above):
            return f"a number above {self.above:g}"
        if math.isfinite(self.below):
            return f"at least {self.least:g} and below {self.below:.4g}"
        if self.most == LARGEST:
            return f"a number that float32 holds, {self.least:.3g} to {self.most:.3g}"
        return f"{_plain(self.least)} to {_plain(self.most)}"


POSITIVE = Range(above=0)
SHARE = Range(least=0, below=1)
NOT_NEGATIVE = Range(least=0, below=LARGEST)


@dataclasses.dataclass(frozen=True)
class Unrecorded:
    """Marks a setting that says where, by whom or how closely watched a run is computed, and not what it computes.

    It stands in the annotation. Such a setting is left out of the run's record, and may change when the run resumes.
    """


UNRECORDED = Unrecorded()

# Simple types of settings, what values of them may be, and what is said of others.
_KINDS: dict[Any, tuple[Any, str]] = {
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    bool: (bool, "True or False"),
    str: (str, "text"),
    Path: ((str, Path), "a path"),
}


@dataclasses.dataclass(frozen=True)
class Checked:
    """A dataclass of settings that refuses values of another type, unknown choices, and numbers out of range.

    Attributes:
        prefix: what stands before the names of its settings in messages, such as "optimizer.".
        cures: what to do, by the name of a setting, where its type is wrong.
    """

    prefix: ClassVar[str] = ""
    cures: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        """Checks every field.

        Raises:
            ValueError: a value is none that the setting can have; the message says what was expected.
        """
        hints = get_type_hints(type(self), include_extras=True)
        for field in dataclasses.fields(self):
            value, hint = getattr(self, field.name), hints[field.name]
            name = f"{self.prefix}{field.name}"
            said = _refused(value, hint)
            if said is not None:
                came = repr(value) if isinstance(value, str | int | float | NoneType) else f"<{type(value).__name__}>"
                raise ValueError(f"{name}={came}; {said}{self.cures.get(field.name, '')}")
            if isinstance(value, str) and Path in alternatives(hint):
                object.__setattr__(self, field.name, Path(value))
            elif isinstance(value, list) and any(get_origin(kind) is tuple for kind in alternatives(hint)):
                object.__setattr__(self, field.name, tuple(value))


def is_recorded(hint: Any) -> bool:
    """Whether a setting with such an annotation belongs to the record of a run."""
    return not any(isinstance(mark, Unrecorded) for mark in _marks(hint))


def _refused(value: Any, hint: Any) -> str | None:
    """What to say of a value; None where it is one that the annotation allows."""
    kinds = alternatives(hint)
    if value is None and NoneType in kinds:
        return None
    kinds = [kind for kind in kinds if kind is not NoneType]
    expected = []
    for kind in kinds:
        said = _refused_by(value, kind)
        if said is None:
            break
        expected.append(said)
    else:
        return " or ".join(dict.fromkeys(expected))
    for mark in _marks(hint):
        numbers = value if isinstance(value, tuple) else [value]
        if isinstance(mark, Range) and any(number not in mark for number in numbers):
            return f"expected {mark}"
    return None


def _refused_by(value: Any, kind: Any) -> str | None:
    if kind is Any:
        return None
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if value in choices:
            return None
        near = get_close_matches(str(value), map(str, choices), n=1)
        return f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(map(str, choices))}"
    if dataclasses.is_dataclass(kind):
        return None if isinstance(value, kind) else f"expected {kind.__name__}(...)"
    if get_origin(kind) is tuple:
        each = get_args(kind)
        if isinstance(value, tuple | list):
            of = each[0] if each[-1] is Ellipsis else None
            fits = of is not None or len(value) == len(each)
            if fits and all(_refused(one, of or each[place]) is None for place, one in enumerate(value)):
                return None
        what = {str: "names", int: "whole numbers"}.get(each[0], "values")
        return f"expected a tuple of {what if each[-1] is Ellipsis else f'{len(each)} {what}'}"
    if issubclass(get_origin(kind) or kind, Mapping):
        _, of = get_args(kind) or (str, Any)
        if not isinstance(value, Mapping):
            return "expected a dictionary"
        said = [told for one in value.values() if (told := _refused(one, of)) is not None]
        return f"{said[0]} as its values" if said else None
    accepted, said = _KINDS[kind]
    fits = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    return None if fits else f"expected {said}"


def alternatives(hint: Any) -> list[Any]:
    """The types of a union, or the one type, without what annotates them."""
    if get_origin(hint) is Annotated:
        return alternatives(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return [kind for part in get_args(hint) for kind in alternatives(part)]
    return [hint]


def _marks(hint: Any) -> tuple[Any, ...]:
    return hint.__metadata__ if get_origin(hint) is Annotated else ()


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) and abs(number) < 1e16 else f"{number:.4g}"
