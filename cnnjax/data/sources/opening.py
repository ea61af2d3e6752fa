"""Opening a source by its spelling, from the digits to folders of pictures; one split of it, or a slice of one.

Every kind of spelling has one opener in `_KINDS`, which says what splits lie there and how each is read.
"""

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.data.sources.cifar import cifar_parts
from cnnjax.data.sources.coco import coco_parts
from cnnjax.data.sources.csv_file import csv_parts
from cnnjax.data.sources.folder import folder_parts
from cnnjax.data.sources.idx import idx_parts
from cnnjax.data.sources.mask_folder import mask_parts
from cnnjax.data.sources.npz import npz_parts
from cnnjax.data.sources.source import (
    SPELLINGS,
    ArraySource,
    Info,
    Source,
    Subset,
    check_source,
    labels_of,
    permutation,
)
from cnnjax.data.sources.split_names import split_name, with_test
from cnnjax.data.sources.tfds import tfds_parts
from cnnjax.data.sources.voc import voc_parts
from cnnjax.settings.objects import Objects

Parts = Mapping[str, Callable[[], Source]]

_BOUNDARY = r"-?(?:\d+|(?:100|\d?\d)%)"


def open_source(
    data: str | Source,
    split: str = "train",
    *,
    data_dir: Path | str | None = None,
    follow_links: bool = False,
    objects: Objects | None = None,
) -> Source:
    """Opens the data of a spelling, or a ready-made source: one split of it or a slice of one.

    Data with several splits on disk offers these, and where there are "train" and "val" but no "test", "val" under the
    name "test" too. The usual names of splits are one, in any case: "Training" is "train", "validation" is "val" (see
    `cnnjax.data.sources.split_names`). Data with one split, such as a ready-made source, offers "train" and "test", a
    fixed part of 80 % and 20 % of each class that is the same on every machine, and "all".

    What its owner should know of the data, such as what was passed over, is in `source.info.remarks`.

    Args:
        data: `digits` (scikit-learn's 1,797 handwritten digits, at 32 x 32), `tfds:NAME[:VERSION]` (a set prepared
            as ArrayRecord or parquet, the newest version by default), `folder:PATH` (pictures in folders of classes),
            `csv:PATH` (a table of pictures with a label or tags), `npz:PATH` (NumPy's arrays), `idx:PATH` (the folder
            of MNIST's files), `cifar:PATH` (the folder of CIFAR's binary files), `voc:PATH` (pictures with Pascal VOC's
            XML files), `coco:IMAGES:JSON` (a COCO file and the folder of its pictures), `masks:PATH` (pictures with
            label maps, or a mask for each object), `scenes:COUNT[:SIDE]` (drawn shapes with boxes, masks and key
            points, see `cnnjax.data.scenes`); or any object that is a `Source`.
        split: A split's name, or a slice of it by examples or percent: "train[:90%]", "test[100:200]".
        data_dir: Where prepared sets lie, in any folder below; by default $TFDS_DATA_DIR, or else
            ~/tensorflow_datasets. A relative PATH starts from it too, where it is given.
        follow_links: Whether symbolic links may lead out of a folder of pictures, or that of a CSV file.
        objects: How many objects an example of voc:, coco: and masks: holds, and how they are read. For splits that are
            opened apart, from several files, give `Objects(slots=N)`, so that their examples have one shape.

    Raises:
        ValueError: If the spelling or the split is not on offer, or what lies there is damaged or no such data.
        TypeError: If `data` is neither a spelling nor a source.
        FileNotFoundError: If a file, a folder or a prepared set is missing.
    """
    parts = _parts(data, data_dir, follow_links, objects)
    spelling = data if isinstance(data, str) else data.info.name
    match = re.fullmatch(rf"([^\[\]:%+]+)(?:\[({_BOUNDARY})?:({_BOUNDARY})?\])?", split)
    if match is None:
        raise ValueError(
            f"split {split!r} is not a split expression; expected a name, or a slice of one by examples "
            'or by whole percent, such as "train", "train[:90%]" or "test[100:200]"'
        )
    name, start, stop = match.groups()
    if name not in _on_offer(parts):
        name = next((one for one in _on_offer(parts) if split_name(one) == split_name(name)), name)
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


def is_spelling(data: str) -> bool:
    """Whether `open_source` knows data of this kind by its name, be it there or not."""
    return data.partition(":")[0] in _KINDS


def splits(
    data: str | Source,
    *,
    data_dir: Path | str | None = None,
    follow_links: bool = False,
    objects: Objects | None = None,
) -> tuple[str, ...]:
    """The names of the splits that `open_source` offers for this spelling or source.

    Raises:
        ValueError: If the spelling is unknown.
        TypeError: If `data` is neither a spelling nor a source.
        FileNotFoundError: If a file, a folder or a prepared set is missing.
    """
    return _on_offer(_parts(data, data_dir, follow_links, objects))


def validation_split(
    data: str | Source,
    *,
    besides: str = "test",
    data_dir: Path | str | None = None,
    follow_links: bool = False,
    objects: Objects | None = None,
) -> str | None:
    """The name of the split that is meant for validation; None where there is none beside the split `besides`.

    Raises:
        ValueError, TypeError, FileNotFoundError: as `splits`.
    """
    parts = _parts(data, data_dir, follow_links, objects)
    test = next((name for name in parts if name == besides.partition("[")[0]), None)
    found = next((name for name in parts if split_name(name) == "val"), None)
    if found is None or len(parts) == 1 or (test is not None and parts[test] is parts[found]):
        return None
    return found


def shared_examples(first: Source, second: Source) -> int:
    """How many examples two opened splits of one data set have in common.

    One data set are two splits that were cut from one source, or from sources of one fingerprint.
    """
    if not (isinstance(first, Subset) and isinstance(second, Subset)):
        return 0
    marks = [part.source.info.fingerprint for part in (first, second)]
    one = first.source is second.source or (marks[0] == marks[1] != "")
    return len(np.intersect1d(first.indices, second.indices)) if one else 0


def _parts(
    data: str | Source, data_dir: Path | str | None, follow_links: bool, objects: Objects | None = None
) -> Parts:
    if not isinstance(data, str):
        check_source(data)
        _check_objects(objects, data.info.name)
        return {"all": lambda: data}
    try:
        data.encode()
    except UnicodeEncodeError:
        raise ValueError(f"data {os.fsencode(data)!r} is not UTF-8, as a run's record must be; rename it") from None
    kind, _, argument = data.partition(":")
    if kind not in _KINDS:
        near = difflib.get_close_matches(kind, _KINDS, n=1)
        hint = f" (did you mean {':'.join([near[0], argument] if argument else near)!r}?)" if near else ""
        raise ValueError(f"unknown data {data!r}{hint}; expected {SPELLINGS}")
    options: dict[str, Any] = {"follow_links": True} if follow_links and kind in _OF_FILES else {}
    if kind in _OF_OBJECTS:
        options["objects"] = objects or Objects()
    else:
        _check_objects(objects, data)
    return with_test(_KINDS[kind](data, argument, None if data_dir is None else Path(data_dir).expanduser(), **options))


def _check_objects(objects: Objects | None, data: str) -> None:
    """Refuses options of objects for data of another kind."""
    if objects not in (None, Objects()):
        raise ValueError(
            f"{objects} came, and {data} has no objects to read; such options are for {', '.join(_OF_OBJECTS)}"
        )


def _on_offer(parts: Parts) -> tuple[str, ...]:
    return ("train", "test", "all") if len(parts) == 1 else tuple(parts)


def _boundary(text: str | None, size: int, *, default: int) -> int:
    if text is None:
        return default
    value = (int(text[:-1]) * size + 50) // 100 if text.endswith("%") else int(text)
    return value + size if text.startswith("-") else value


def _fixed_split(whole: Source) -> dict[str, np.ndarray]:
    """Indices of "train" and "test": in a fixed shuffle, the first fifth of every class is for testing."""
    labels = labels_of(whole)
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


def _scenes(spelling: str, argument: str, data_dir: Path | None) -> Parts:
    # JAX draws them, which what only reads files need not wait for.
    from cnnjax.data.scenes.scene_source import scene_parts

    return scene_parts(spelling, argument, data_dir)


_KINDS: dict[str, Callable[..., Parts]] = {
    "digits": _digits,
    "tfds": tfds_parts,
    "folder": folder_parts,
    "csv": csv_parts,
    "npz": npz_parts,
    "idx": idx_parts,
    "cifar": cifar_parts,
    "voc": voc_parts,
    "coco": coco_parts,
    "masks": mask_parts,
    "scenes": _scenes,
}
# Those whose pictures have objects, or labels of their pixels.
_OF_OBJECTS = ("voc", "coco", "masks")
# Those whose pictures are files, which links may stand for.
_OF_FILES = ("folder", "csv", *_OF_OBJECTS)
