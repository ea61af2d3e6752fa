"""Opening a source by its spelling: digits, prepared TFDS sets, IDX folders; one split of it, or a slice of one.

Every kind of spelling has one opener in `_KINDS`, which says what splits lie there and how each is read.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from cnnjax.data.idx_source import idx_parts
from cnnjax.data.sources import SPELLINGS, ArraySource, Info, Source, Subset, permutation
from cnnjax.data.tfds_source import TfdsSource, tfds_parts

Parts = Mapping[str, Callable[[], ArraySource | TfdsSource]]

_BOUNDARY = r"-?(?:\d+|(?:100|\d?\d)%)"


def open_source(spelling: str, split: str = "train", *, data_dir: Path | str | None = None) -> Source:
    """Opens the data called `spelling`, one split of it or a slice of one.

    Data with several splits on disk offers these. Data with one offers "train" and "test", a fixed part of 80 % and
    20 % of each class that is the same on every machine, and "all".

    Args:
        spelling: `digits` (scikit-learn's 1,797 handwritten digits, at 32 x 32), `tfds:NAME[:VERSION]` (a set
            prepared as ArrayRecord, the newest version by default), or `idx:FOLDER` (MNIST's files).
        split: A split's name, or a slice of it by examples or percent: "train[:90%]", "test[100:200]".
        data_dir: Where prepared sets lie, in any folder below; by default $TFDS_DATA_DIR, or else
            ~/tensorflow_datasets. A relative FOLDER of `idx:` starts from it too, where it is given.

    Raises:
        ValueError: If the spelling or the split is not on offer, or a file is damaged.
        FileNotFoundError: If a folder or a prepared set is missing.
    """
    parts = _parts(spelling, data_dir)
    match = re.fullmatch(rf"([^\[\]:%+]+)(?:\[({_BOUNDARY})?:({_BOUNDARY})?\])?", split)
    if match is None:
        raise ValueError(
            f"split {split!r} is not a split expression; expected a name, or a slice of one by examples "
            'or by whole percent, such as "train", "train[:90%]" or "test[100:200]"'
        )
    name, start, stop = match.groups()
    if name not in _on_offer(parts):
        raise ValueError(f"{spelling} has no split {name!r}; it offers {', '.join(_on_offer(parts))}")
    whole = next(iter(parts.values()))() if len(parts) == 1 else parts[name]()
    fixed = len(parts) == 1 and name != "all"
    indices = _fixed_split(whole)[name] if fixed else np.arange(len(whole))
    first = _boundary(start, len(indices), default=0)
    last = _boundary(stop, len(indices), default=len(indices))
    if not 0 <= first < last <= len(indices):
        raise ValueError(
            f"split {split!r} of {spelling} is out of range or empty: it runs from {first} to {last}, and {name!r} "
            f"has {len(indices)} examples; expected 0 <= start < stop <= {len(indices)}"
        )
    return Subset(whole, indices[first:last], replace(whole.info, split=split))


def splits(spelling: str, *, data_dir: Path | str | None = None) -> tuple[str, ...]:
    """The names of the splits that `open_source` offers for this spelling.

    Raises:
        ValueError: If the spelling is unknown.
        FileNotFoundError: If a folder or a prepared set is missing.
    """
    return _on_offer(_parts(spelling, data_dir))


def shared_examples(first: Source, second: Source) -> int:
    """How many examples two opened splits of one data set have in common."""
    if not (isinstance(first, Subset) and isinstance(second, Subset)):
        return 0
    origins = [(part.info.name, part.source.info.split) for part in (first, second)]
    return len(np.intersect1d(first.indices, second.indices)) if origins[0] == origins[1] else 0


def _parts(spelling: str, data_dir: Path | str | None) -> Parts:
    kind, _, argument = spelling.partition(":")
    if kind not in _KINDS:
        near = difflib.get_close_matches(kind, _KINDS, n=1)
        hint = f" (did you mean {':'.join([near[0], argument] if argument else near)!r}?)" if near else ""
        raise ValueError(f"unknown data {spelling!r}{hint}; expected {SPELLINGS}")
    return _KINDS[kind](spelling, argument, None if data_dir is None else Path(data_dir).expanduser())


def _on_offer(parts: Parts) -> tuple[str, ...]:
    return ("train", "test", "all") if len(parts) == 1 else tuple(parts)


def _boundary(text: str | None, size: int, *, default: int) -> int:
    if text is None:
        return default
    value = (int(text[:-1]) * size + 50) // 100 if text.endswith("%") else int(text)
    return value + size if text.startswith("-") else value


def _fixed_split(whole: ArraySource | TfdsSource) -> dict[str, np.ndarray]:
    """Indices of "train" and "test": in a fixed shuffle, the first fifth of every class is for testing."""
    labels = whole.labels()
    shuffled = permutation(len(whole), seed=0)
    classes = [shuffled] if labels is None else [shuffled[labels[shuffled] == c] for c in np.unique(labels)]
    test = np.concatenate([members[: (len(members) + 2) // 5] for members in classes])
    return {"train": np.setdiff1d(np.arange(len(whole)), test), "test": np.sort(test)}


def _digits(spelling: str, argument: str, data_dir: Path | None) -> Parts:
    if argument:
        raise ValueError(f"{spelling!r} says more than there is to choose; expected digits")

    def load() -> ArraySource:
        from PIL import Image
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        scaled = np.rint(np.asarray(pixels).reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        large = [Image.fromarray(digit).resize((32, 32), Image.Resampling.BILINEAR) for digit in scaled]
        images = np.stack([np.asarray(digit) for digit in large])[..., None]
        info = Info(spelling, "all", {}, tuple("0123456789"))
        return ArraySource({"image": images, "label": np.asarray(labels)}, info)

    return {"all": load}


_KINDS: dict[str, Callable[[str, str, Path | None], Parts]] = {
    "digits": _digits,
    "tfds": tfds_parts,
    "idx": idx_parts,
}
