"""Splits by their usual names, in any case: "Training" is "train", "valid" and "dev" are "val"."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

_Part = TypeVar("_Part")

# README, "Your own data", has this table too.
_USUAL = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {name: split for split, names in _USUAL.items() for name in names}
SPLITS = tuple(_USUAL)


def split_name(name: str) -> str:
    """The split that a name stands for; itself where it is none of the usual names.

    >>> split_name("Training"), split_name("dev"), split_name("fold 1")
    ('train', 'val', 'fold 1')
    """
    return _SPLIT_OF.get(name.lower(), name)


def names_by_split(names: Iterable[str], where: str) -> dict[str, str]:
    """The names as they are written, by the splits that they stand for.

    Raises:
        ValueError: If two names stand for one split; the message begins with `where`.
    """
    found: dict[str, str] = {}
    for name in names:
        if (other := found.setdefault(split_name(name), name)) != name:
            raise ValueError(
                f"{where} has {other!r} and {name!r}, which both stand for the split {split_name(name)!r}; rename or "
                "join them"
            )
    return found


def resembles_split(name: str) -> bool:
    """Whether a usual name is one of the words of this one, as in "seg_train" or "test-set"."""
    return any(word in _SPLIT_OF for word in re.split(r"[^a-z]+", name.lower()))


def with_test(parts: Mapping[str, _Part]) -> dict[str, _Part]:
    """The same splits, "train", "val" and "test" first; where there is no test, "val" is offered as "test" too.

    ImageNet's test labels are not public, so its validation set is what everybody tests on.
    """
    usual = sorted(
        (name for name in parts if split_name(name) in SPLITS), key=lambda n: (SPLITS.index(split_name(n)), n)
    )
    ordered = {name: parts[name] for name in [*usual, *sorted(parts.keys() - set(usual))]}
    held_out = next((name for name in usual if split_name(name) == "val"), None)
    if {"train", "test"} & set(map(split_name, usual)) == {"train"} and held_out is not None:
        ordered["test"] = ordered[held_out]
    return ordered
