"""Folders of CIFAR's binary files: CIFAR-10's five batches and test batch, or CIFAR-100's two files."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cnnjax.data.sources.source import ArraySource, Info, check_labels, local_path

# The published names, for a folder without its file of names.
_TEN = "airplane automobile bird cat deer dog frog horse ship truck"
_HUNDRED = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""


@dataclass(frozen=True)
class _Layout:
    """One of the two sets: its files by split, its file of names, and what precedes the pixels of a record."""

    splits: dict[str, tuple[str, ...]]
    names_file: str
    names: tuple[str, ...]
    labels: tuple[str, ...]


_LAYOUTS = (
    _Layout(
        {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
        "batches.meta.txt",
        tuple(_TEN.split()),
        ("label",),
    ),
    _Layout(
        {"train": ("train.bin",), "test": ("test.bin",)},
        "fine_label_names.txt",
        tuple(_HUNDRED.split()),
        ("coarse_label", "label"),
    ),
)
_COARSE_CLASSES = 20


def cifar_parts(spelling: str, argument: str, data_dir: Path | None) -> dict[str, Callable[[], ArraySource]]:
    """How to read each split whose files lie in the folder `argument`, which starts from `data_dir` if relative.

    Examples have "image", 32 x 32 x 3, and "label"; of CIFAR-100 that is the fine one, beside "coarse_label".

    Raises:
        FileNotFoundError: If there is no such folder, it holds no split, or some of a split's files are missing.

    Reference: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009), and the description of
    the binary version at https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    folder = local_path(spelling, argument, data_dir, kind="folder")
    parts = {}
    for layout in _LAYOUTS:
        for split, names in layout.splits.items():
            lacking = [name for name in names if not (folder / name).is_file()]
            if not lacking and split not in parts:
                parts[split] = partial(_open_cifar, folder, layout, split, spelling)
            elif lacking and len(lacking) < len(names):
                raise FileNotFoundError(f"{folder} has batches of the {split} split but lacks {', '.join(lacking)}")
    if not parts:
        pickles = [name for name in ("data_batch_1", "train") if (folder / name).is_file()]
        below = [path.parent.name for path in sorted(folder.glob("*/test*.bin"))]
        hint = f"; {pickles[0]} is of the version for Python, which is not read" if pickles else ""
        hint = f"; open {spelling}/{below[0]} instead" if below else hint
        raise FileNotFoundError(
            f"{folder} holds none of CIFAR's binary files; expected data_batch_1.bin to data_batch_5.bin or "
            f"test_batch.bin (CIFAR-10), train.bin or test.bin (CIFAR-100){hint}"
        )
    return parts


def _open_cifar(folder: Path, layout: _Layout, split: str, spelling: str) -> ArraySource:
    records = np.concatenate([_read_records(folder / name, len(layout.labels)) for name in layout.splits[split]])
    columns = {name: records[:, place] for place, name in enumerate(layout.labels)}
    info = Info(spelling, split, {}, _class_names(folder / layout.names_file, layout.names))
    if "coarse_label" in columns:
        coarse = Info(f"the coarse labels of {spelling}", split, {}, tuple(map(str, range(_COARSE_CLASSES))))
        check_labels(columns["coarse_label"], np.arange(len(records)), coarse)
        columns["coarse_label"] = columns["coarse_label"].astype(np.int32)
    # The planes of red, green and blue, each row by row.
    planes = records[:, len(layout.labels) :].reshape(-1, 3, 32, 32)
    return ArraySource({"image": np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), **columns}, info)


def _read_records(path: Path, labels: int) -> np.ndarray:
    size, length = path.stat().st_size, labels + 3 * 32 * 32
    if not size or size % length:
        raise ValueError(
            f"{path} has {size} bytes; expected a multiple of {length}, the length of a record, so it is "
            "truncated or damaged; download it again"
        )
    return np.fromfile(path, np.uint8).reshape(-1, length)


def _class_names(path: Path, published: tuple[str, ...]) -> tuple[str, ...]:
    if not path.is_file():
        return published
    names = tuple(path.read_text(encoding="utf-8").split())
    if len(set(names)) != len(published):
        raise ValueError(
            f"{path} holds {len(set(names))} different names; expected {len(published)}, one a line; download it "
            "again, or remove it to use the published names"
        )
    return names
