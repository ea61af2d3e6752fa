"""Classes by their names: one spelling for each, and the same ones in every split."""

import dataclasses
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cnnjax.data.sources.source import Source, Subset, check_labels, check_source, labels_of
from cnnjax.data.sources.tfds import TfdsSource

# So many names are listed in a message.
_LISTED = 5


def class_name(text: str) -> str:
    """The name in Unicode's composed form (NFC), so that what looks alike on two systems is one class.

    Reference: Unicode Standard Annex 15.
    """
    return unicodedata.normalize("NFC", text)


def read_class_names(file: Path) -> tuple[str, ...]:
    """The names of classes in a text file, one a line; blank lines at the end do not count.

    Raises:
        ValueError: If it is no UTF-8, or a name is empty or occurs twice.
    """
    try:
        lines = [class_name(line.strip()) for line in file.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 ({error}); save it as UTF-8") from error
    if not lines or "" in lines:
        number = lines.index("") + 1 if lines else 1
        raise ValueError(f"{file}, line {number} is empty; expected the name of a class on every line")
    for number, name in enumerate(lines):
        if name in lines[:number]:
            raise ValueError(
                f"{file}, line {number + 1}: the class {name!r} is already on line {lines.index(name) + 1}; expected "
                "every name once"
            )
    return tuple(lines)


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are.

    >>> listed(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d, e and 1 more'
    """
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def remarks_on_splits(
    where: str, classes: Sequence[str], elements: Mapping[str, np.ndarray]
) -> dict[str, tuple[str, ...]]:
    """What is to be said of each split: the classes or tags that it has no examples of.

    Args:
        where: The file or folder of the splits, for the message.
        classes: The names of all classes or tags.
        elements: By split, the labels or the rows of tags. A split without examples is not compared.

    Raises:
        ValueError: If a split has a class that "train" lacks; a tag is only remarked upon.
    """
    present = {split: _present(values, len(classes)) for split, values in elements.items() if len(values)}
    for split, found in present.items():
        unknown = [
            name for name, has, known in zip(classes, found, present.get("train", found), strict=True) if has > known
        ]
        if unknown and elements[split].ndim == 1:
            known = [name for name, has in zip(classes, present["train"], strict=True) if has]
            raise ValueError(
                f"{where}: the split {split} has the classes {listed(unknown)}, of which train has no examples, only "
                f"of {listed(known)}; expected no class that is not trained on: rename it, or take it away"
            )
    return {split: _lacking(split, classes, present[split]) if split in present else () for split in elements}


def compare_sources(training: Source, testing: Source) -> tuple[str, ...]:
    """What is to be said of two sources before a model is trained on one and tested on the other.

    Raises:
        TypeError: If one of them is no source.
        ValueError: If their labels mean different classes, or they have no class in common.
    """
    for source in (training, testing):
        check_source(source)
    ours, theirs = training.info.classes, testing.info.classes
    if ours and theirs and ours != theirs:
        kind = "the same classes in another order" if sorted(ours) == sorted(theirs) else "other classes"
        raise ValueError(
            f"the test data {testing.info.name} ({testing.info.split}) has {kind}, {listed(theirs)}, than the training "
            f"data {training.info.name} ({training.info.split}), {listed(ours)}; expected the same names in the same "
            "order, which are what labels mean: open both as splits of one folder or file, or give both one "
            "info.classes"
        )
    trained, tested = _known(training), _known(testing)
    if tested is not None and tested.ndim == 1 and not theirs:
        check_labels(tested, np.arange(len(tested)), dataclasses.replace(testing.info, classes=ours))
    if not ours or trained is None or tested is None or trained.ndim != tested.ndim:
        return ()
    first, second = _present(trained, len(ours)), _present(tested, len(ours))
    if trained.ndim == 1 and not (first & second).any():
        raise ValueError(
            f"the test data {testing.info.name} ({testing.info.split}) has examples of "
            f"{listed(np.array(ours)[second].tolist())} only, of which the training data ({training.info.split}) has "
            "none; expected classes that are trained on: choose other splits or slices"
        )
    return _lacking(training.info.split, ours, first) + _lacking(testing.info.split, ours, second)


def _known(source: Source) -> np.ndarray | None:
    """All labels or tags of a source, where they need not be read from its records."""
    inner = source
    while isinstance(inner, Subset):
        inner = inner.source
    if isinstance(inner, TfdsSource):
        return None
    labels = labels_of(source)
    return source.column("tags") if labels is None else labels


def _present(values: np.ndarray, count: int) -> np.ndarray:
    """Which classes have labels, or which tags occur."""
    return np.isin(np.arange(count), values) if values.ndim == 1 else (values > 0).any(axis=0)


def _lacking(split: str, classes: Sequence[str], present: np.ndarray) -> tuple[str, ...]:
    names = [name for name, has in zip(classes, present, strict=True) if not has]
    return (f"the split {split} has no examples of {listed(names)}",) if names else ()
