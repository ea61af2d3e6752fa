"""NumPy's .npz files of images and labels, as `np.savez` writes them and as Keras publishes MNIST."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from cnnjax.data.sources import ArraySource, Info, local_path

# The names of images and labels, by split.
_WHOLE = (("image", "label"), ("images", "labels"), ("x", "y"))
_SPLIT = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
_EXPECTED = "image and label (or images and labels, or x and y), or x_train, y_train, x_test and y_test"


def npz_parts(spelling: str, argument: str, data_dir: Path | None) -> dict[str, Callable[[], ArraySource]]:
    """How to read each split of the file `argument`, which starts from `data_dir` if relative.

    Images are uint8, examples x height x width, with or without channels at the end. Labels are integers from 0 to
    n - 1, and the classes are named by their numbers, unless an array "classes" holds their names.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, needs pickle, lacks arrays, or its labels are not 0 to n - 1.
    """
    path = local_path(spelling, argument, data_dir, kind="file")
    names = _names(path)
    keys = {split: pair for split, pair in _SPLIT.items() if set(pair) <= set(names)}
    if not keys:
        keys = dict([("all", pair) for pair in _WHOLE if set(pair) <= set(names)][:1])
    if not keys:
        raise ValueError(f"{path} holds the arrays {', '.join(names) or '(none)'}; expected {_EXPECTED}")
    labels = {split: _labels(path, pair[1]) for split, pair in keys.items()}
    classes = _classes(path, names, keys, labels)
    return {
        split: partial(_open_npz, path, pair[0], labels[split], Info(spelling, split, {}, classes))
        for split, pair in keys.items()
    }


def _open_npz(path: Path, name: str, labels: np.ndarray, info: Info) -> ArraySource:
    images = _read(path, name)
    if images.dtype != np.uint8:
        raise ValueError(
            f"{name} of {path} is {images.dtype}; expected uint8: save np.rint(255 * {name}).astype(np.uint8) "
            "where it is from 0 to 1"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise ValueError(
            f"{name} of {path} has the shape {images.shape}; expected examples x height x width, or that x channels"
        )
    if images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise ValueError(
            f"{name} of {path} has the shape {images.shape}, with the channels before height and width; expected them "
            f"last: save {name}.transpose(0, 2, 3, 1)"
        )
    return ArraySource({"image": images, "label": labels}, info)


def _labels(path: Path, name: str) -> np.ndarray:
    labels = _read(path, name)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        cure = f"save {name}.argmax(1)" if labels.ndim == 2 else f"save {name}.astype(np.int32)"
        raise ValueError(
            f"{name} of {path} has the shape {labels.shape} and the dtype {labels.dtype}; expected one integer per "
            f"example: {cure}"
        )
    return labels


def _classes(
    path: Path, names: list[str], keys: dict[str, tuple[str, str]], labels: dict[str, np.ndarray]
) -> tuple[str, ...]:
    """The names of the classes: those in the file, or the numbers that the labels must then run through."""
    if "classes" in names:
        classes = tuple(str(name) for name in _read(path, "classes").reshape(-1))
        if len(set(classes)) != len(classes) or len(classes) < 2:
            raise ValueError(f"classes of {path} are {', '.join(classes)}; expected at least two different names")
        return classes
    found = np.unique(np.concatenate(list(labels.values())))
    if len(found) < 2:
        raise ValueError(f"{path} has one class only, or none: its labels are {found.tolist()}; expected at least two")
    wrong = found[found != np.arange(len(found))]
    if wrong.size:
        split = next(split for split, values in labels.items() if wrong[0] in values)
        index = int(np.flatnonzero(labels[split] == wrong[0])[0])
        raise ValueError(
            f"{keys[split][1]} of {path} has the label {wrong[0]} at index {index}, but there are {len(found)} "
            f"different labels; expected 0 to {len(found) - 1} without a gap: save "
            "np.unique(labels, return_inverse=True)[1], or an array classes with a name for every label"
        )
    return tuple(str(number) for number in range(len(found)))


def _names(path: Path) -> list[str]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return list(arrays.files)
    # A plain array has no names and is no context either.
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{path} is a single array; expected a .npz file with {_EXPECTED}") from error
    except Exception as error:  # archives and headers are damaged in as many ways
        raise ValueError(f"{path} is no intact .npz file ({error}); save or download it again") from error


def _read(path: Path, name: str) -> np.ndarray:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            array = arrays[name]
        if not isinstance(array, np.ndarray):
            raise ValueError("it does not begin as NumPy's arrays do")
        return array
    except Exception as error:  # archives and headers are damaged in as many ways
        cure = f"save {name} as numbers or text" if "allow_pickle" in str(error) else "save or download it again"
        raise ValueError(f"{name} of {path} cannot be read ({error}); {cure}") from error
