"""NumPy's .npz files of images and labels, as `np.savez` writes them and as Keras publishes MNIST."""

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnjax.data.sources.class_names import class_name, listed, remarks_on_splits
from cnnjax.data.sources.source import ArraySource, Info, local_path
from cnnjax.data.sources.split_names import SPLITS, names_by_split, split_name

# The names of images and labels, which those of splits are put before or after.
_PAIRS = (("image", "label"), ("images", "labels"), ("x", "y"))
_EXPECTED = "image and label (or images and labels, or x and y), or x_train, y_train, x_test and y_test"
# Room for the header of an array, which is some hundred bytes long, and for the names of all classes.
_HEADER_BYTES, _CLASSES_BYTES = 2**14, 2**24


class _Header(NamedTuple):
    """What an array says of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype


def npz_parts(spelling: str, argument: str, data_dir: Path | None) -> dict[str, Callable[[], ArraySource]]:
    """How to read each split of the file `argument`, which starts from `data_dir` if relative.

    Images are uint8, examples x height x width, with or without channels at the end. Labels are integers from 0 to
    n - 1, and the classes are named by their numbers, unless an array "classes" holds their names. The arrays are
    called image and label, images and labels, or x and y; those of a split have its name before or after, as in
    "x_train" or "val_images". Other arrays are left out, and a remark names them.

    All headers are compared, with one another and with the sizes in the archive, before an array is read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, needs pickle, lacks arrays, its labels are not 0 to n - 1, or "train" lacks a
            class of another split.
    """
    path = local_path(spelling, argument, data_dir, kind="file")
    headers = _headers(path)
    pairs = _pairs(path, headers)
    for images, labels in pairs.values():
        _check_images(path, images, headers[images])
        _check_labels(path, labels, headers[labels])
        lengths = headers[images].shape[0], headers[labels].shape[0]
        if lengths[0] != lengths[1]:
            raise ValueError(
                f"{path} has {lengths[0]:,} examples in {images} and {lengths[1]:,} in {labels}; expected as many"
            )
    found = {split: _read(path, name).reshape(-1) for split, (_, name) in pairs.items()}
    classes = _classes(path, headers, pairs, found)
    unread = sorted(headers.keys() - {"classes", *(name for pair in pairs.values() for name in pair)})
    said = (f"the arrays {listed(unread)} are not read",) if unread else ()
    lacking = remarks_on_splits(str(path), classes, found)
    return {
        split: partial(
            _open_npz, path, name, found[split], Info(spelling, split, {}, classes, "", said + lacking[split])
        )
        for split, (name, _) in pairs.items()
    }


def _open_npz(path: Path, name: str, labels: np.ndarray, info: Info) -> ArraySource:
    images = _read(path, name)
    return ArraySource({"image": images[..., None] if images.ndim == 3 else images, "label": labels}, info)


def _pairs(path: Path, headers: Mapping[str, _Header]) -> dict[str, tuple[str, str]]:
    """The names of images and labels by split; "all" where there are no splits."""
    found = {}
    lower = {name.lower(): name for name in headers}
    for name in lower:
        for images, labels in _PAIRS:
            for before, after in ((f"{images}_", ""), ("", f"_{images}")):
                split = name.removeprefix(before).removesuffix(after)
                other = f"{labels}_{split}" if before else f"{split}_{labels}"
                if before + split + after == name and split_name(split) in SPLITS and other in lower:
                    found[split] = lower[name], lower[other]
    if found:
        written = names_by_split(found, str(path))
        return {split: found[written[split]] for split in SPLITS if split in written}
    for pair in _PAIRS:
        if set(pair) <= set(lower):
            return {"all": (lower[pair[0]], lower[pair[1]])}
    raise ValueError(f"{path} holds the arrays {', '.join(headers) or '(none)'}; expected {_EXPECTED}")


def _check_images(path: Path, name: str, header: _Header) -> None:
    shape, dtype = header
    if dtype != np.uint8:
        raise ValueError(
            f"{name} of {path} is {dtype}; expected uint8: save np.rint(255 * {name}).astype(np.uint8) "
            "where it is from 0 to 1"
        )
    if len(shape) not in (3, 4):
        raise ValueError(
            f"{name} of {path} has the shape {shape}; expected examples x height x width, or that x channels"
        )
    if len(shape) == 4 and shape[1] in (1, 3) and shape[3] > 4:
        raise ValueError(
            f"{name} of {path} has the shape {shape}, with the channels before height and width; expected them "
            f"last: save {name}.transpose(0, 2, 3, 1)"
        )


def _check_labels(path: Path, name: str, header: _Header) -> None:
    shape, dtype = header
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        cure = "" if dtype.kind in "iu" else f"save {name}.astype(np.int32)"
        if dtype.hasobject:
            cure = f"save {name} as numbers, which need no pickle"
        if dtype.kind in "US":
            cure = f"save classes, {name} = np.unique({name}, return_inverse=True), both of them"
    else:
        cure = f"save {name}.argmax(1)" if len(shape) == 2 else f"save a label for each picture as {name}"
    if cure:
        raise ValueError(
            f"{name} of {path} has the shape {shape} and the dtype {dtype}; expected one integer per example: {cure}"
        )


def _classes(
    path: Path,
    headers: Mapping[str, _Header],
    pairs: Mapping[str, tuple[str, str]],
    labels: Mapping[str, np.ndarray],
) -> tuple[str, ...]:
    """The names of the classes: those in the file, or the numbers that the labels must then run through."""
    if "classes" in headers:
        if math.prod(headers["classes"].shape) * headers["classes"].dtype.itemsize > _CLASSES_BYTES:
            raise ValueError(f"classes of {path} has the shape {headers['classes'].shape}; expected a name per class")
        try:
            names = [n.decode() if isinstance(n, bytes) else str(n) for n in _read(path, "classes").reshape(-1)]
        except UnicodeDecodeError as error:
            raise ValueError(f"classes of {path} are not UTF-8 ({error}); save them as text") from error
        classes = tuple(map(class_name, names))
        if len(set(classes)) != len(classes) or len(classes) < 2:
            raise ValueError(f"classes of {path} are {listed(classes)}; expected at least two different names")
        return classes
    found = np.unique(np.concatenate(list(labels.values())))
    if len(found) < 2:
        raise ValueError(f"{path} has one class only, or none: its labels are {found.tolist()}; expected at least two")
    wrong = found[found != np.arange(len(found))]
    if wrong.size:
        split = next(split for split, values in labels.items() if wrong[0] in values)
        index = int(np.flatnonzero(labels[split] == wrong[0])[0])
        raise ValueError(
            f"{pairs[split][1]} of {path} has the label {wrong[0]} at index {index}, but there are {len(found)} "
            f"different labels; expected 0 to {len(found) - 1} without a gap: save "
            "np.unique(labels, return_inverse=True)[1], or an array classes with a name for every label"
        )
    return tuple(str(number) for number in range(len(found)))


def _headers(path: Path) -> dict[str, _Header]:
    """The shape and the type of every array, which must be what the archive says of its size."""
    with open(path, "rb") as file:
        if file.read(6) == b"\x93NUMPY":
            raise ValueError(f"{path} is a single array; expected a .npz file with {_EXPECTED}")
    headers = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                # What is no array is of no interest.
                if name == entry.filename:
                    continue
                with archive.open(entry) as member:
                    start = io.BytesIO(member.read(_HEADER_BYTES))
                headers[name] = _header(name, start)
                size = start.tell() + math.prod(headers[name].shape) * headers[name].dtype.itemsize
                if size != entry.file_size and not headers[name].dtype.hasobject:
                    raise ValueError(f"{name} is of {size:,} bytes by its header, and of {entry.file_size:,} here")
    # The sizes and codes of a damaged archive lead zipfile and NumPy's parser to errors of any kind.
    except Exception as error:
        raise ValueError(f"{path} is no intact .npz file ({error}); save or download it again") from error
    return headers


def _header(name: str, file: io.BytesIO) -> _Header:
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"it has the format {version[0]}.{version[1]}; expected 1.0 or 2.0")
        shape, _, dtype = read(file)
    except Exception as error:  # NumPy reads headers by Python's own parser
        raise ValueError(f"the header of {name} is damaged: {error}") from error
    return _Header(shape, dtype)


def _read(path: Path, name: str) -> np.ndarray:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            array = arrays[name]
        if not isinstance(array, np.ndarray):
            raise ValueError("it does not begin as NumPy's arrays do")
        return array
    # As many kinds of errors as there are kinds of damage.
    except Exception as error:
        cure = f"save {name} as numbers or text" if "allow_pickle" in str(error) else "save or download it again"
        raise ValueError(f"{name} of {path} cannot be read ({error}); {cure}") from error
