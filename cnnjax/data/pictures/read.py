"""How an example of a source becomes arrays: its picture decoded, brought to a size or cropped, what moves with it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args

import numpy as np

from cnnjax.data.pictures.decode import OpenPicture
from cnnjax.data.pictures.place import Example, ResizeBy, SettingError, crop, opened, place, sides_of
from cnnjax.data.pictures.random_crop import RandomCrop, draw_box
from cnnjax.image_size import Size, height_and_width

# What makes arrays of an example of a source, which stands at a position of the stream of a run. Its "image" is an
# array, or an `OpenPicture` where it is encoded. Workers need a reader that can be pickled: a function of a module, or
# an object of a class of a module.
Read: TypeAlias = Callable[[Example, int], Example]


def decode_example(example: Example, position: int = 0) -> dict[str, Any]:
    """The reader of pictures as they come: decodes the picture, if it is encoded."""
    picture = opened(example["image"]) if "image" in example else None
    return {**example, "image": picture.whole()[0]} if isinstance(picture, OpenPicture) else dict(example)


@dataclass(frozen=True)
class ReadPictures:
    """A reader that brings pictures to one size, with their boxes, masks and key points; see `place`.

    >>> ReadPictures((2, 3))({"image": np.zeros((4, 6, 1), np.uint8)}, 0)["image"].shape
    (2, 3, 1)

    Attributes:
        image_size: one number, or height and width, that "image" is brought to; None for pictures as they come.
        resize_by: how it is brought there, see `fit_image`.
        random_crop: stretches a part of the picture to `image_size` instead, drawn by `seed` and the position.
        seed: see `random_crop`.
        most: how many entries elements are filled up to, whose number differs from example to example; see `pad`.

    Raises:
        ValueError: an option is not on offer or out of range.
    """

    image_size: int | Size | None = None
    resize_by: ResizeBy = "resize"
    random_crop: RandomCrop | None = None
    seed: int = 0
    most: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", height_and_width(self.image_size))
        if self.resize_by not in get_args(ResizeBy):
            raise ValueError(f"resize_by is {self.resize_by!r}; expected one of {', '.join(get_args(ResizeBy))}")
        if self.random_crop is not None and self.image_size is None:
            raise ValueError("random_crop needs the size of the crops; pass image_size (--image-size N)")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; expected 0 or more")
        for name, count in self.most.items():
            if count < 0:
                raise ValueError(f"most of {name!r} is {count}; expected 0 or more")

    def __call__(self, example: Example, position: int) -> dict[str, Any]:
        """The example as arrays.

        Raises:
            SettingError: as `place` and `pad`, or if it has no "image" to bring to a size.
            ValueError: its picture cannot be decoded.
        """
        size = height_and_width(self.image_size)
        if size is None:
            return pad(decode_example(example), self.most)
        if "image" not in example:
            raise SettingError('there is no "image" to bring to image_size; leave it out')
        if self.random_crop is None:
            return pad(place(example, size, self.resize_by), self.most)
        example = {**example, "image": opened(example["image"])}
        box = draw_box(*sides_of(example["image"]), seed=self.seed, place=position, rule=self.random_crop)
        return pad(crop(example, size, box), self.most)


def pad(example: Example, most: Mapping[str, int]) -> dict[str, Any]:
    """Fills elements of an example with zeros up to a number of entries, so that examples can be stacked.

    A box of zeros is empty, which is what `augment` and losses of boxes know as padding; what else there is for each
    box or key point, such as its class or whether it is seen, is padded likewise. Entries are counted along the first
    axis, of "masks" along the last.

    Args:
        example: a dict of arrays.
        most: the number of entries by the name of the element.

    Raises:
        SettingError: an element is not there, or has more entries.

    >>> pad({"boxes": np.ones((1, 4))}, {"boxes": 2})["boxes"].tolist()
    [[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    """
    padded = dict(example)
    for name, count in most.items():
        if name not in example:
            raise SettingError(f"there is no element {name!r} to pad, only {', '.join(example)}; leave it out of most=")
        values = np.asarray(example[name])
        axis = values.ndim - 1 if name == "masks" else 0
        if values.ndim < (3 if name == "masks" else 1):
            raise SettingError(
                f"{name!r} has the shape {values.shape}, without an axis of entries; leave it out of most="
            )
        if values.shape[axis] > count:
            raise SettingError(
                f"{name!r} has {values.shape[axis]} entries, more than most={{{name!r}: {count}}}; pass a larger number"
            )
        widths = [(0, count - values.shape[axis] if number == axis else 0) for number in range(values.ndim)]
        padded[name] = np.pad(values, widths)
    return padded
