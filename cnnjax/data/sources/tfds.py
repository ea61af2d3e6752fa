"""TFDS sets prepared as ArrayRecord or parquet: found, checked and read without TensorFlow."""

import difflib
import json
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.data.pictures.decode import decode_image
from cnnjax.data.sources.fingerprint import fingerprint
from cnnjax.data.sources.source import Info, describe_source

# The formats that can be read in any order; parquet, unlike ArrayRecord, is read into memory whole.
_FORMATS = ("array_record", "parquet")


@dataclass(frozen=True)
class _Element:
    """What becomes of one TFDS feature: `channels` for an image, `dtype` for numbers."""

    feature: str
    dtype: Any = None
    channels: int | None = None


@dataclass(frozen=True, eq=False, repr=False)
class TfdsSource:
    """One split of a prepared TFDS set, whose "image" is the bytes of an encoded picture.

    `records` is TFDS's own data source with decoding skipped; `elements` maps the names of an example's elements
    to the features they come from. Further pictures of an example, such as masks, are decoded here.
    """

    records: Any
    elements: Mapping[str, _Element]
    info: Info

    def __repr__(self) -> str:
        return describe_source(self)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {self.info.name}, which has {len(self)} examples")
        record = self.records[index % len(self)]
        return {name: _read_element(name, record[e.feature], e) for name, e in self.elements.items()}

    def column(self, name: str) -> np.ndarray | None:
        """All values of an element in order, read without decoding a picture; None for pictures and unknown names."""
        element = self.elements.get(name)
        if element is None or element.dtype is None:
            return None
        blocks = (range(at, min(at + 1024, len(self))) for at in range(0, len(self), 1024))
        found = [record[element.feature] for block in blocks for record in self.records.__getitems__(block)]
        return np.array(found, element.dtype)


def tfds_parts(spelling: str, argument: str, data_dir: Path | None) -> dict[str, Callable[[], TfdsSource]]:
    """How to open each split of the set `argument`, NAME[:VERSION], the newest that lies prepared under `data_dir`.

    Raises:
        ValueError: If what lies there is damaged, or cannot be read in any order.
        FileNotFoundError: If the set is not prepared there.
    """
    import tensorflow_datasets as tfds

    name, _, version = argument.partition(":")
    folder = _find_prepared(spelling, name, version, data_dir)
    try:
        file_format = json.loads((folder / "dataset_info.json").read_text()).get("fileFormat", "tfrecord")
        builder = tfds.builder_from_directory(folder)
    except Exception as error:  # TFDS has no error of its own for a folder it cannot restore.
        raise ValueError(f"{folder} is no intact TFDS set ({error}); {_prepare_command(name)}") from error
    if file_format not in _FORMATS:
        raise ValueError(
            f"{spelling}: {folder} is in {file_format} format; expected {' or '.join(_FORMATS)}, which can be read in "
            f"any order; {_prepare_command(name)}"
        )
    return {split: partial(_open_tfds, builder, folder, split, spelling) for split in builder.info.splits}


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


def _open_tfds(builder: Any, folder: Path, split: str, spelling: str) -> TfdsSource:
    import tensorflow_datasets as tfds

    shards = builder.info.splits[split].file_instructions
    with ThreadPoolExecutor(16) as pool:
        sizes = list(pool.map(_check_shard, shards))
    listed = [
        part for shard, size in zip(shards, sizes, strict=True) for part in (Path(shard.filename).name, str(size))
    ]
    mark = fingerprint((folder / "dataset_info.json").read_bytes(), split, *listed)
    features = builder.info.features
    elements = _tfds_elements(features, builder.info.supervised_keys or (None, None))
    skipped = {name: tfds.decode.SkipDecoding() for name, f in features.items() if isinstance(f, tfds.features.Image)}
    shapes = {name: tuple(features[e.feature].shape) for name, e in elements.items()}
    shapes |= {name: (*shapes[name][:2], e.channels) for name, e in elements.items() if e.dtype is None}
    label = features[elements["label"].feature] if "label" in elements else None
    classes = tuple(label.names) if isinstance(label, tfds.features.ClassLabel) else ()
    try:
        records = builder.as_data_source(split, decoders=skipped)
    except Exception as error:  # parquet is read whole here, and pyarrow has errors of several kinds for damage.
        reason = " ".join(str(error).split())
        raise ValueError(f"{folder}: split {split!r} cannot be read ({reason}); copy or prepare it again") from error
    return TfdsSource(records, elements, Info(spelling, split, shapes, classes, mark))


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


def _read_element(name: str, value: Any, element: _Element) -> np.ndarray | bytes:
    if element.dtype is not None:
        return np.asarray(value, element.dtype)
    # Where a record was lost, TFDS gives None without a word.
    if not isinstance(value, bytes):
        raise ValueError(f"its {name} is {value!r}; expected the bytes of a picture")
    return value if name == "image" else decode_image(value, channels=element.channels)


def _check_shard(instruction: Any) -> int:
    """Counts the records of a shard, of an ArrayRecord file also reads the first and the last; returns its size."""
    path, expected = Path(instruction.filename), instruction.examples_in_shard
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, though dataset_info.json lists it; copy or prepare the set again")
    if expected:
        check = _parquet_problem if ".parquet" in path.name else _array_record_problem
        if problem := check(str(path), expected):
            raise ValueError(
                f"{path} is truncated or damaged: {problem}, dataset_info.json says {expected}; "
                "copy or prepare it again"
            )
    return path.stat().st_size


def _array_record_problem(path: str, expected: int) -> str:
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(path, options="readahead_buffer_size:0")
        count = reader.num_records()
        sound = count == expected and None not in reader.read([0, expected - 1])
        # Closing a file that failed raises again, with the cause.
        reader.close()
    except RuntimeError as error:
        return str(error)
    return "" if sound else f"it holds {count} readable records"


def _parquet_problem(path: str, expected: int) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        count = pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError) as error:
        return str(error)
    return "" if count == expected else f"it holds {count} records"
