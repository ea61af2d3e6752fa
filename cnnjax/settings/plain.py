"""Settings as plain values, as JSON holds them, and back."""

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from cnnjax.settings.checked import alternatives, is_recorded

Settings = TypeVar("Settings")

# Tells in plain values which of several classes of settings they are of.
KIND = "kind"


def to_plain(settings: Any) -> dict[str, Any]:
    """The settings that make a run what it is, as plain values: not where it lies, nor who computes it.

    >>> from cnnjax.settings import Schedule
    >>> to_plain(Schedule("step"))
    {'name': 'step', 'warmup': 0.0}
    """
    hints = get_type_hints(type(settings), include_extras=True)
    plain = {KIND: settings.kind} if hasattr(settings, KIND) else {}
    for field in dataclasses.fields(settings):
        if is_recorded(hints[field.name]):
            plain[field.name] = _value(getattr(settings, field.name))
    return plain


def from_plain(kind: type[Settings], plain: Mapping[str, Any], *, where: str = "the record") -> Settings:
    """Settings of a class from plain values; those that are not among them have their defaults.

    Raises:
        ValueError: a name is not that of a setting, or a value is none that the setting can have.
    """
    if not isinstance(plain, Mapping):
        raise ValueError(f"{where} holds {type(plain).__name__} in the place of {kind.__name__}; expected settings")
    every, fields = get_type_hints(kind, include_extras=True), dataclasses.fields(cast("Any", kind))
    hints = {field.name: every[field.name] for field in fields}
    given = {}
    for name, value in plain.items():
        if name == KIND and KIND not in hints:
            continue
        if name not in hints:
            near = get_close_matches(name, hints, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "it may be of another version"
            raise ValueError(f"{where} holds {name!r}, which {kind.__name__} has not; {hint}")
        given[name] = _made(value, hints[name], f"{where}, {name}")
    return kind(**given)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Values that differ, one line each: "optimizer.learning_rate: 0.001 there, 0.01 here"."""
    lines = []
    for name in dict.fromkeys([*old, *new]):
        there, here = old.get(name), new.get(name)
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            lines += differences(there, here, f"{prefix}{name}.")
        elif there != here:
            lines.append(f"{prefix}{name}: {there} there, {here} here")
    return lines


def _value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_plain(value)
    if isinstance(value, Mapping):
        return {name: _value(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [_value(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _made(value: Any, hint: Any, where: str) -> Any:
    classes = [kind for kind in alternatives(hint) if dataclasses.is_dataclass(kind)]
    if classes and isinstance(value, Mapping):
        named = [kind for kind in classes if getattr(kind, KIND, None) == value.get(KIND)]
        if len(named) != 1:
            known = ", ".join(getattr(kind, KIND, kind.__name__) for kind in classes)
            raise ValueError(f"{where}: {value.get(KIND)!r} is not one of {known}")
        return from_plain(named[0], value, where=where)
    if isinstance(value, list):
        tuples = [kind for kind in alternatives(hint) if get_origin(kind) is tuple]
        return tuple(_made(one, get_args(tuples[0])[0], where) for one in value) if tuples else value
    return value
