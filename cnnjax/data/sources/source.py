"""What a source is: a length and an index, where `source[i]` is one example, a dict of arrays.

`cnnjax.data.sources.opening` finds sources by their spelling; here is what every kind of them shares.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from cnnjax.data.pictures.decode import open_picture
from cnnjax.data.pictures.place import SettingError
from cnnjax.data.pictures.read import Read, decode_example
from cnnjax.data.sources.fingerprint import fingerprint

# The spellings that `open_source` knows, as its errors tell them.
SPELLINGS = (
    "digits, tfds:NAME[:VERSION], folder:PATH, csv:PATH, npz:PATH, idx:PATH, cifar:PATH, voc:PATH, coco:IMAGES:JSON, "
    "masks:PATH or scenes:COUNT[:SIDE]"
)


@dataclass(frozen=True)
class Info:
    """What a source holds.

    Attributes:
        name: The spelling it was opened by.
        split: The split expression, such as "train[:90%]".
        shapes: The shape of each element of an example; None for an axis that varies. The last axis of "image" says
            how many channels an encoded picture is decoded to: 1, 3, or None for as many as it has.
        classes: The names of the classes by label, or of the tags; empty when the data has none.
        fingerprint: The same for the same data on every machine, and no other's; empty when there is none.
        remarks: What its owner should know, a sentence each: what was passed over, which classes a split lacks.
        labels: What the pixels of "masks" (height, width) say: "semantic", the number of a class in `classes`;
            "instances", k where the object in slot k - 1 is and 0 where none is; empty where there are no such masks.
        ignored: The semantic label of pixels that belong to no class and do not count; None where there is none.
        class_ids: The numbers that a COCO file gives to `classes`, which need not be 0 to n - 1.
        points: The names of the key points of an object.
        skeleton: Which of the key points are joined by lines, as pairs of places in `points`.
    """

    name: str
    split: str
    shapes: Mapping[str, tuple[int | None, ...]]
    classes: tuple[str, ...] = ()
    fingerprint: str = ""
    remarks: tuple[str, ...] = ()
    labels: Literal["", "semantic", "instances"] = ""
    ignored: int | None = None
    class_ids: tuple[int, ...] = ()
    points: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()


@runtime_checkable
class Source(Protocol):
    """Examples by index: images are uint8 height x width x channels, labels int32 scalars.

    An "image" may also be the bytes of an encoded picture, or an `OpenPicture` of it, which `read_example` decodes. One
    more method is welcome: `where(index)`, the file of an example, by which errors name it.

    Objects of a picture have one entry in each of "boxes" (slots, 4), float32 as in `cnnjax.data.augment.targets`,
    "classes" (slots,), int32, and "present" (slots,), False where a slot holds no object; see `cnnjax.data.sources.
    object_source` for what else there may be.
    """

    @property
    def info(self) -> Info:
        """What the source holds."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def column(self, name: str) -> np.ndarray | None:
        """All values of an element in the order of the examples, or None where only the examples tell them.

        By that of "label" splits are stratified, and classes are weighed and compared.
        """
        ...


@dataclass(frozen=True, eq=False, repr=False)
class ArraySource:
    """Examples held in memory, one per entry of the arrays' first axis.

    `ArraySource({"image": images, "label": labels})` is enough; an `info` names the source and its classes, and
    its shapes are read from the arrays, and so is its fingerprint unless they hold Python objects. Labels, a
    one-axis integer array called "label", are kept as int32.

    Raises:
        ValueError: If there are no arrays, their lengths differ, a label is no integer or names no class, or images
            have their channels first.
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
        if "image" in arrays:
            _check_channels_last(arrays["image"].shape, self.info)
        if "label" in arrays and self.info.classes:
            _check_integers(arrays["label"], self.info)
        if "label" in arrays and _are_labels(arrays["label"]):
            check_labels(arrays["label"], np.arange(len(self)), self.info)
            arrays["label"] = arrays["label"].astype(np.int32)
        shapes = {name: array.shape[1:] for name, array in arrays.items()}
        parts = [part for name in sorted(arrays) for part in (name, arrays[name])]
        mark = "" if any(a.dtype.hasobject for a in arrays.values()) else fingerprint(*parts, *self.info.classes)
        object.__setattr__(self, "arrays", arrays)
        object.__setattr__(self, "info", replace(self.info, shapes=shapes, fingerprint=mark))

    def __repr__(self) -> str:
        return describe_source(self)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {name: np.asarray(array[index]) for name, array in self.arrays.items()}

    def column(self, name: str) -> np.ndarray | None:
        """All values of an element in order, or None where there is none of this name."""
        return self.arrays.get(name)


@dataclass(frozen=True, eq=False, repr=False)
class Subset:
    """The examples of another source at `indices`, in that order; its fingerprint is made from both."""

    source: Source
    indices: np.ndarray
    info: Info

    def __post_init__(self) -> None:
        whole = self.source.info.fingerprint
        mark = fingerprint(whole, np.asarray(self.indices, np.int64)) if whole else ""
        object.__setattr__(self, "info", replace(self.info, fingerprint=mark))

    def __repr__(self) -> str:
        return describe_source(self)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.source[int(self.indices[index])]

    def column(self, name: str) -> np.ndarray | None:
        """All values of an element of these examples, or None where the source tells none."""
        values = self.source.column(name)
        return None if values is None else values[self.indices]

    def where(self, index: int) -> str:
        """Where the source has this example, or nothing if it does not say."""
        return self.source.where(int(self.indices[index])) if hasattr(self.source, "where") else ""


def read_example(source: Source, index: int, *, read: Read = decode_example, position: int = 0) -> dict[str, Any]:
    """One example as arrays, its picture decoded to the channels that `source.info` asks for.

    Args:
        source: Any source.
        index: From 0 to `len(source) - 1`, or from the end if negative.
        read: What makes arrays of the example, such as `ReadPictures(image_size)`.
        position: The example's position in the stream of a run, by which `read` may draw.

    Raises:
        IndexError: If there is no such example.
        ValueError: If it cannot be read, for whatever reason; the message names the source, the split, the index,
            the file if the source says which, and the reason.
        SettingError: If it is sound, and cannot be read in the way asked for.
    """
    if not -len(source) <= index < len(source):
        raise IndexError(f"index {index} of {source.info.name} ({source.info.split}), which has {len(source)} examples")
    place = index % len(source)
    try:
        example = source[place]
        if not isinstance(example, Mapping):
            raise TypeError(f"it is a {type(example).__name__}; expected a dict of arrays")
        example = dict(read(with_open_picture(example, source.info), position))
        picture = np.asarray(example.get("image", 0))
        # Of NumPy's kinds, those that may hold such values; "V" has bfloat16.
        if picture.dtype.kind in "fcV" and not np.isfinite(picture).all():
            raise ValueError("its picture holds NaN or infinity")
        return example
    except SettingError as error:
        raise SettingError(f"{name_example(source, place)}: {error}") from error
    # Files, records and decoders of many makers fail in as many ways.
    except Exception as error:
        # An address would be another one in the next run.
        reason = re.sub(r" at 0x[0-9a-f]+", "", str(error)) or type(error).__name__
        file = _file_of(source, place)
        raise ValueError(
            f"example {place} of {source.info.name} ({source.info.split}) cannot be read"
            f"{f' from {file}' if file else ''}: {reason}"
        ) from error


def with_open_picture(example: Mapping[str, Any], info: Info) -> Mapping[str, Any]:
    """The example with its encoded picture opened, of as many channels as the source says."""
    if not isinstance(example.get("image"), bytes):
        return example
    channels = (info.shapes.get("image") or (None,))[-1]
    return {**example, "image": open_picture(example["image"], channels=channels)}


def name_example(source: Source, index: int) -> str:
    """Which example it is, for a message: of which source, and in which file if the source says so."""
    file = _file_of(source, index)
    return f"example {index} of {source.info.name}{f' in {file}' if file else ''}"


def describe_source(source: Source) -> str:
    """A source in a line: what it is, how much it holds, and the remarks on it."""
    info = source.info
    shapes = [
        f"{name} {'x'.join('?' if size is None else str(size) for size in shape) or 'scalar'}"
        for name, shape in info.shapes.items()
    ]
    of = f" of {len(info.classes):,} classes" if info.classes else ""
    told = f"{info.name} ({info.split}): {len(source):,} examples{of}"
    return "; ".join([", ".join([told, *shapes]), *info.remarks])


def check_source(data: object) -> None:
    """Does nothing if this is a source.

    Raises:
        TypeError: If it is not; the message says how arrays become one.
    """
    if not isinstance(data, Source) or not isinstance(data.info, Info):
        raise TypeError(
            f"data is a {type(data).__name__}; expected a spelling ({SPELLINGS}), or a source, which has len(), "
            "[index], column(name) and an info of the type Info: of arrays, "
            'ArraySource({"image": images, "label": labels}, Info("mine", "all", {}, classes))'
        )


def labels_of(source: Source) -> np.ndarray | None:
    """The class of every example, a whole number; None where a source tells none, or examples have none."""
    labels = source.column("label")
    return labels if labels is not None and _are_labels(labels) else None


def local_path(spelling: str, argument: str, data_dir: Path | None, *, kind: Literal["folder", "file"]) -> Path:
    """The folder or file that a spelling names, starting from `data_dir` if it is relative.

    Raises:
        FileNotFoundError: If there is no such folder or file.
    """
    if not argument:
        raise FileNotFoundError(f"{spelling!r} names no {kind}; expected {SPELLINGS}")
    given = Path(argument).expanduser()
    path = (data_dir or Path()) / given
    if not (path.is_dir() if kind == "folder" else path.is_file()):
        other = f", only a {'file' if kind == 'folder' else 'folder'}" if path.exists() else ""
        relative = "a relative path starts from data_dir (--data-dir), or else from the folder you are in"
        cure = "check the path" if given.is_absolute() else relative
        raise FileNotFoundError(f"{spelling!r}: there is no {kind} {str(path.absolute())!r}{other}; {cure}")
    return path


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


def _file_of(source: Source, index: int) -> str:
    return source.where(index) if hasattr(source, "where") else ""


def _check_integers(labels: np.ndarray, info: Info) -> None:
    if labels.ndim != 1 or labels.dtype.kind in "iu" or not labels.size:
        return
    numbers = labels.dtype.kind == "b" or (labels.dtype.kind == "f" and (labels == np.floor(labels)).all())
    cure = "pass label.astype(np.int32)" if numbers else "np.unique(label, return_inverse=True)[1] numbers them"
    raise ValueError(
        f"labels of {info.name} ({info.split}) came as {labels.dtype}, the first is {labels[0].item()!r}; expected the"
        f" numbers of classes as integers: {cure}"
    )


def _check_channels_last(shape: tuple[int, ...], info: Info) -> None:
    if len(shape) == 4 and ((shape[1] == 1 and shape[2] == shape[3] > 4) or (shape[1] == 3 and min(shape[2:]) > 4)):
        raise ValueError(
            f"pictures of {info.name} have the shape {shape}, with their channels first; expected (number, height,"
            " width, channels): pass np.moveaxis(pictures, 1, -1)"
        )


def _are_labels(array: np.ndarray) -> bool:
    return array.ndim == 1 and array.dtype.kind in "iu"
