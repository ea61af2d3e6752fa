"""Where examples come from, by random access: digits, prepared TFDS sets, IDX folders, arrays.

A source is a length and an index: `source[i]` is one example, a dict of arrays. `open_source` finds one by its
spelling; every kind of spelling has one opener in `_KINDS`, which says what splits lie there and how each is read.
"""

import difflib
import gzip
import json
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cnnjax.data.decode import decode_image

_FORMS = "digits, tfds:NAME[:VERSION] or idx:FOLDER"
_BOUNDARY = r"-?(?:\d+|(?:100|\d?\d)%)"


@dataclass(frozen=True)
class Info:
    """What a source holds.

    Attributes:
        name: The spelling it was opened by.
        split: The split expression, such as "train[:90%]".
        shapes: The shape of each element of an example; None for an axis that varies.
        classes: The names of the classes by label; empty when the data has none.
    """

    name: str
    split: str
    shapes: Mapping[str, tuple[int | None, ...]]
    classes: tuple[str, ...] = ()


@runtime_checkable
class Source(Protocol):
    """Examples by index: images are uint8 height x width x channels, labels int32 scalars."""

    @property
    def info(self) -> Info:
        """What the source holds."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Examples held in memory, one per entry of the arrays' first axis.

    `ArraySource({"image": images, "label": labels})` is enough; an `info` names the source and its classes, and
    its shapes are read from the arrays. Labels, a one-axis integer array called "label", are kept as int32.

    Raises:
        ValueError: If there are no arrays, their lengths differ, or a label names no class.
    """

    arrays: dict[str, np.ndarray]
    info: Info = Info("arrays", "all", {})

    def __post_init__(self) -> None:
        lengths = {name: len(array) if np.ndim(array) else None for name, array in self.arrays.items()}
        if len(set(lengths.values())) != 1 or None in lengths.values():
            raise ValueError(
                f"arrays of {self.info.name} have the lengths {lengths}; expected at least one array, "
                "and the same length for all"
            )
        arrays = {name: np.asarray(array) for name, array in self.arrays.items()}
        if "label" in arrays and _are_labels(arrays["label"]):
            check_labels(arrays["label"], np.arange(len(self)), self.info)
            arrays["label"] = arrays["label"].astype(np.int32)
        shapes = {name: array.shape[1:] for name, array in arrays.items()}
        object.__setattr__(self, "arrays", arrays)
        object.__setattr__(self, "info", replace(self.info, shapes=shapes))

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {name: np.asarray(array[index]) for name, array in self.arrays.items()}

    def labels(self) -> np.ndarray | None:
        """All labels in order, or None where the examples have none."""
        labels = self.arrays.get("label")
        return labels if labels is not None and _are_labels(labels) else None


@dataclass(frozen=True, eq=False)
class Subset:
    """The examples of another source at `indices`, in that order."""

    source: Source
    indices: np.ndarray
    info: Info

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self.source[int(self.indices[index])]


@dataclass(frozen=True)
class _Element:
    """What becomes of one TFDS feature: `channels` for an image to decode, `dtype` for numbers."""

    feature: str
    dtype: Any = None
    channels: int | None = None


@dataclass(frozen=True, eq=False)
class TfdsSource:
    """One split of a prepared TFDS set, its pictures decoded by `decode_image`.

    `records` is TFDS's own data source with decoding skipped; `elements` maps the names of an example's elements
    to the features they come from.
    """

    records: Any
    elements: Mapping[str, _Element]
    info: Info

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {self.info.name}, which has {len(self)} examples")
        place = index % len(self)
        try:
            record = self.records[place]
            return {name: _read_element(record[e.feature], e) for name, e in self.elements.items()}
        # array_record says RuntimeError; protobuf and TFDS fail in their own ways on what a damaged record yields.
        except Exception as error:
            raise ValueError(
                f"example {place} of {self.info.name} ({self.info.split}) cannot be read: {error}"
            ) from error

    def labels(self) -> np.ndarray | None:
        """All labels in order, read without decoding a picture, or None where the examples have none."""
        element = self.elements.get("label")
        if element is None or element.dtype is not np.int32:
            return None
        blocks = (range(at, min(at + 1024, len(self))) for at in range(0, len(self), 1024))
        found = [record[element.feature] for block in blocks for record in self.records.__getitems__(block)]
        return np.array(found, np.int32)


Parts = Mapping[str, Callable[[], ArraySource | TfdsSource]]


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


def permutation(size: int, *, seed: int, stream: int = 0) -> np.ndarray:
    """A shuffled `range(size)`, a function of (seed, stream) on every platform and under every NumPy.

    It sorts raw PCG64 words, which NumPy keeps stable; `Generator.permutation` may change between versions.
    """
    words = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream,))).random_raw(size)
    return np.argsort(words, kind="stable")


def check_labels(labels: np.ndarray, indices: np.ndarray, info: Info) -> None:
    """Does nothing if every label names one of `info.classes`, or there are none.

    Raises:
        ValueError: Naming the source, the index and the label, if one does not.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= len(info.classes))) if info.classes else np.array([], int)
    if wrong.size:
        raise ValueError(
            f"example {indices[wrong[0]]} of {info.name} ({info.split}) has the label {labels[wrong[0]]}; expected "
            f"0 to {len(info.classes) - 1}, because there are {len(info.classes)} classes"
        )


def _are_labels(array: np.ndarray) -> bool:
    return array.ndim == 1 and array.dtype.kind in "iu"


def _parts(spelling: str, data_dir: Path | str | None) -> Parts:
    kind, _, argument = spelling.partition(":")
    if kind not in _KINDS:
        near = difflib.get_close_matches(kind, _KINDS, n=1)
        hint = f" (did you mean {':'.join([near[0], argument] if argument else near)!r}?)" if near else ""
        raise ValueError(f"unknown data {spelling!r}{hint}; expected {_FORMS}")
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


_IDX_PARTS = {"train": "train", "test": "t10k"}


def _idx(spelling: str, argument: str, data_dir: Path | None) -> Parts:
    folder = (data_dir or Path()) / Path(argument).expanduser()
    if not argument or not folder.is_dir():
        raise FileNotFoundError(
            f"{spelling!r}: there is no folder {str(folder) if argument else ''!r}; expected {_FORMS}"
        )
    parts = {}
    for split, stem in _IDX_PARTS.items():
        names = (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
        found = [p for n in names if (p := _either(folder / f"{n}.gz", folder / n)).is_file()]
        if len(found) == 2:
            parts[split] = partial(_open_idx, found[0], found[1], Info(spelling, split, {}, tuple("0123456789")))
        elif found:
            lacking = names[found[0].name.startswith(names[0])]
            raise FileNotFoundError(f"{folder} has {found[0].name} but lacks {lacking}.gz")
    if not parts:
        raise FileNotFoundError(
            f"{folder} holds none of MNIST's files; expected train-images-idx3-ubyte.gz and "
            "train-labels-idx1-ubyte.gz, or t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz"
        )
    return parts


def _either(first: Path, second: Path) -> Path:
    return first if first.is_file() else second


def _open_idx(images_file: Path, labels_file: Path, info: Info) -> ArraySource:
    images, labels = _read_idx(images_file, axes=3), _read_idx(labels_file, axes=1)
    if len(images) != len(labels):
        raise ValueError(
            f"{images_file} holds {len(images)} images but {labels_file} {len(labels)} labels; expected as many"
        )
    return ArraySource({"image": images[..., None], "label": labels}, info)


def _read_idx(path: Path, *, axes: int) -> np.ndarray:
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is not an undamaged gzip file ({error}); download it again") from error
    header = 4 + 4 * axes
    if len(data) < header or struct.unpack(">I", data[:4])[0] != 0x800 + axes:
        raise ValueError(
            f"{path} begins with {data[:4].hex()}; expected the IDX magic {0x800 + axes:08x} and {axes} sizes"
        )
    shape = struct.unpack(f">{axes}I", data[4:header])
    if len(data) - header != math.prod(shape):
        raise ValueError(
            f"{path} has {len(data) - header} bytes after its header; expected {math.prod(shape)} for the shape "
            f"{shape}, so it is truncated or damaged; download it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _tfds(spelling: str, argument: str, data_dir: Path | None) -> Parts:
    import tensorflow_datasets as tfds

    name, _, version = argument.partition(":")
    folder = _find_prepared(spelling, name, version, data_dir)
    try:
        file_format = json.loads((folder / "dataset_info.json").read_text()).get("fileFormat", "tfrecord")
        builder = tfds.builder_from_directory(folder)
    except Exception as error:  # TFDS has no error of its own for a folder it cannot restore.
        raise ValueError(f"{folder} is no intact TFDS set ({error}); {_prepare_command(name)}") from error
    if file_format != "array_record":
        raise ValueError(
            f"{spelling}: {folder} is in {file_format} format; expected array_record, which can be read in any "
            f"order; {_prepare_command(name)}"
        )
    return {split: partial(_open_tfds, builder, split, spelling) for split in builder.info.splits}


def _prepare_command(name: str) -> str:
    return (
        "prepare it where TensorFlow is installed with "
        f"`tfds build {name} --file_format=array_record`, and give the folder it lies in as data_dir (--data-dir)"
    )


def _find_prepared(spelling: str, name: str, version: str, data_dir: Path | None) -> Path:
    """The folder of a prepared set: the newest version under `data_dir` that the name and version fit."""
    root = data_dir or Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    wanted = tuple(name.split("/"))
    found = {}
    for at, below, files in os.walk(root.absolute(), followlinks=True):
        below[:] = sorted(folder for folder in below if not folder.startswith("."))
        folder = Path(at)
        if "dataset_info.json" in files:
            found[folder] = f"{folder.parent.name}:{folder.name}"
        if "dataset_info.json" in files or len(folder.relative_to(root.absolute()).parts) == 4:
            below.clear()
    fitting = [f for f in found if f.parts[-1 - len(wanted) : -1] == wanted and version in ("", f.name)]
    if fitting:
        return max(fitting, key=lambda f: ([int(number) for number in re.findall(r"\d+", f.name)], -len(f.parts)))
    names = [f.parent.name for f in found]
    near = difflib.get_close_matches(f"{name}:{version}" if version else name, [*names, *found.values()], n=1)
    hint = f" (did you mean 'tfds:{near[0]}'?)" if near else ""
    there = ", ".join(sorted(found.values())) or "nothing"
    raise FileNotFoundError(
        f"{spelling!r} is not prepared under {root}{'' if root.is_dir() else ', which does not exist'}; "
        f"prepared there: {there}{hint}. To have it, {_prepare_command(name or 'NAME')}"
    )


def _open_tfds(builder: Any, split: str, spelling: str) -> TfdsSource:
    import tensorflow_datasets as tfds

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(_check_shard, builder.info.splits[split].file_instructions))
    features = builder.info.features
    elements = _tfds_elements(features, builder.info.supervised_keys or (None, None))
    skipped = {name: tfds.decode.SkipDecoding() for name, f in features.items() if isinstance(f, tfds.features.Image)}
    shapes = {name: tuple(features[e.feature].shape) for name, e in elements.items()}
    shapes |= {name: (*shapes[name][:2], e.channels) for name, e in elements.items() if e.dtype is None}
    label = features[elements["label"].feature] if "label" in elements else None
    classes = tuple(label.names) if isinstance(label, tfds.features.ClassLabel) else ()
    records = builder.as_data_source(split, decoders=skipped)
    return TfdsSource(records, elements, Info(spelling, split, shapes, classes))


def _tfds_elements(features: Any, supervised: tuple[Any, ...]) -> dict[str, _Element]:
    """Images and numbers by the names they take in an example; text and nested features are left out."""
    import tensorflow_datasets as tfds

    images = [n for n, f in sorted(features.items()) if isinstance(f, tfds.features.Image) and f.np_dtype != np.float32]
    labels = [n for n, f in sorted(features.items()) if isinstance(f, tfds.features.ClassLabel)]
    renamed = {}
    for element, names, keyed in (("image", images, supervised[0]), ("label", labels, supervised[1])):
        if element not in features and (keyed in names or len(names) == 1):
            renamed[keyed if keyed in names else names[0]] = element
    numeric = (tfds.features.ClassLabel, tfds.features.Tensor, tfds.features.Scalar, tfds.features.BBoxFeature)
    elements = {}
    for name, feature in sorted(features.items()):
        # A batch has an "id" and a "valid" of its own.
        element = renamed.get(name, f"tfds_{name}" if name in ("id", "valid") else name)
        if name in images:
            depth = feature.shape[-1]
            elements[element] = _Element(name, channels=depth if depth in (1, 3) else None)
        elif type(feature) in numeric and np.dtype(feature.np_dtype).kind in "biuf":
            labels = element == "label" and np.dtype(feature.np_dtype).kind in "iu"
            elements[element] = _Element(name, np.int32 if labels else feature.np_dtype)
    return elements


def _read_element(value: Any, element: _Element) -> np.ndarray:
    if element.dtype is None:
        return decode_image(value, channels=element.channels)
    return np.asarray(value, element.dtype)


def _check_shard(instruction: Any) -> None:
    """Reads the first and the last record of an ArrayRecord file, and counts them."""
    from array_record.python.array_record_module import ArrayRecordReader

    path, expected = str(instruction.filename), instruction.examples_in_shard
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing, though dataset_info.json lists it; copy or prepare the set again")
    if not expected:
        return
    try:
        reader = ArrayRecordReader(path, options="readahead_buffer_size:0")
        problem = f"it holds {reader.num_records()} readable records"
        sound = reader.num_records() == expected and None not in reader.read([0, expected - 1])
        # Closing a file that failed raises again, with the cause.
        reader.close()
    except RuntimeError as error:
        sound, problem = False, str(error)
    if not sound:
        raise ValueError(
            f"{path} is truncated or damaged: {problem}, dataset_info.json says {expected}; copy or prepare it again"
        )


_KINDS: dict[str, Callable[[str, str, Path | None], Parts]] = {"digits": _digits, "tfds": _tfds, "idx": _idx}
