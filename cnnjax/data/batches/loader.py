"""One example from its source to arrays of the size asked for, or the reason why it cannot be read."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from cnnjax.data.pictures.decode import Fit, decode_image, fit_image
from cnnjax.data.pictures.random_crop import RandomCrop, crop_picture
from cnnjax.data.sources.source import Source, check_source, name_example, read_example

Unreadable = Literal["raise", "skip", "substitute"]

# How many examples in a row are tried in the place of one that cannot be read.
_TRIED = 100


class Fault(NamedTuple):
    """An example that could not be read: of which source and split, where in it, and the whole message."""

    source: str
    split: str
    index: int
    message: str


class Loaded(NamedTuple):
    """An example as it goes into a batch; None where it is skipped, with all faults that led to it."""

    index: int
    valid: bool
    example: dict[str, Any] | None
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Loader:
    """How the examples of a source are read.

    Attributes:
        source: the examples; pictures may be encoded.
        image_size: height and width that "image" is brought to, or None for pictures as they come.
        fit: how it is brought there, see `fit_image`.
        random_crop: a part of the picture instead, drawn by `seed` and the example's place in the stream.
        seed: see `random_crop`.
        unreadable: what is done about an example that cannot be read. "raise" stops. "skip" leaves its row in the
            batch, not valid. "substitute" takes the next example of the source that can be read.

    Raises:
        ValueError: an option is not on offer or out of range.
    """

    source: Source
    image_size: tuple[int, int] | None = None
    fit: Fit = "resize"
    random_crop: RandomCrop | None = None
    seed: int = 0
    unreadable: Unreadable = "raise"

    def __post_init__(self) -> None:
        check_source(self.source)
        if len(self.source) < 1:
            info = self.source.info
            raise ValueError(f"{info.name} ({info.split}) holds no examples; expected at least one")
        for name, value, kind in (("fit", self.fit, Fit), ("unreadable", self.unreadable, Unreadable)):
            if value not in get_args(kind):
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(get_args(kind))}")
        if self.image_size is not None and min(self.image_size) < 1:
            raise ValueError(f"image_size is {self.image_size}; expected a height and a width of at least 1")
        if self.random_crop is not None and self.image_size is None:
            raise ValueError("random_crop needs the size of the crops; pass image_size (--image-size N)")

    def load(self, index: int, place: int, *, valid: bool = True) -> Loaded:
        """Reads the example at `index`, which stands at `place` of the stream.

        Raises:
            ValueError: it cannot be read and the policy is "raise"; no stand-in can be read; or the picture cannot
                be brought to the size in the way asked for.
        """
        info, size = self.source.info, len(self.source)
        faults: list[Fault] = []
        for number in range(min(_TRIED, size)):
            candidate = (index + number) % size
            try:
                example = read_example(self.source, candidate, pixels=partial(self._pixels, place=place))
            except ValueError as error:
                if self.unreadable == "raise":
                    raise
                faults.append(Fault(info.name, info.split, candidate, str(error)))
                if self.unreadable == "skip":
                    return Loaded(index, False, None, tuple(faults))
                continue
            return Loaded(candidate, valid, self._fitted(candidate, example), tuple(faults))
        raise ValueError(f"{faults[0].message}; nor can the {len(faults) - 1} after it")

    def model(self, most_unreadable: int) -> Loaded:
        """The first example that can be read, of which all others have the structure and the shapes.

        Raises:
            ValueError: more than `most_unreadable` examples before it cannot be read, or none can.
        """
        for index in range(size := len(self.source)):
            loaded = self.load(index, index)
            if loaded.example is not None:
                return loaded
            if index == most_unreadable or index == size - 1:
                raise ValueError(
                    f"none of the first {index + 1} examples can be read; the last: {loaded.faults[-1].message}"
                )
        raise AssertionError("a source of a loader is not empty")

    def _pixels(self, picture: bytes | np.ndarray, *, place: int, channels: int | None = None) -> np.ndarray:
        """The pixels that are needed of a picture: the box drawn for the place, or all, at a size that suffices."""
        if self.random_crop is not None and self.image_size is not None:
            size, rule = self.image_size, self.random_crop
            return crop_picture(picture, size, seed=self.seed, place=place, rule=rule, channels=channels)
        if isinstance(picture, bytes):
            enough = None
            if self.image_size is not None and self.fit in ("resize", "cover"):
                # Twice the size, as Pillow's thumbnails: what is left to the resizing hides how it was decoded.
                enough = (2 * self.image_size[0], 2 * self.image_size[1])
            return decode_image(picture, channels=channels, at_least=enough)
        return picture

    def _fitted(self, index: int, example: dict[str, Any]) -> dict[str, Any]:
        if self.image_size is None:
            return example
        if "image" not in example:
            raise ValueError(f'{self.source.info.name} has no "image" to bring to image_size; leave it out')
        try:
            return {**example, "image": fit_image(example["image"], self.image_size, self.fit)}
        except ValueError as error:
            raise ValueError(f"{name_example(self.source, index)}: {error}") from error


def stack_examples(loaded: list[Loaded], model: Loaded, source: Source) -> dict[str, Any]:
    """Stacks examples that must be structured and shaped like `model`, one of the source that can be read.

    Raises:
        ValueError: an element differs in shape from the model's, or has a name that every batch uses.
    """
    name = source.info.name
    if model.example is None:
        raise ValueError(f"{name_example(source, model.index)} cannot be read, and is no model for others")
    if taken := {"id", "valid"} & model.example.keys():
        raise ValueError(f"{name} has an element {taken.pop()!r}, a name every batch uses; rename it")
    # A skipped row holds what a readable one of the batch holds, so that statistics of the batch are not moved.
    readable = next((one.example for one in loaded if one.example is not None), model.example)
    examples = [readable if one.example is None else one.example for one in loaded]

    def differ(element: str, row: int, got: Any, expected: Any) -> ValueError:
        cure = (
            "pass image_size (--image-size N)" if element == "image" and got[2:] == expected[2:] else "make them equal"
        )
        ours, theirs = (name_example(source, one.index) for one in (loaded[row], model))
        return ValueError(
            f"{element or 'the elements'} of {ours}: {got}, of {theirs}: {expected}; a batch needs one shape for all: "
            f"{cure}"
        )

    def stack(element: str, values: list[Any], like: Any) -> Any:
        if isinstance(like, Mapping):
            for row, value in enumerate(values):
                if value.keys() != like.keys():
                    raise differ(element, row, sorted(value), sorted(like))
            prefix = f"{element}/" if element else ""
            return {key: stack(f"{prefix}{key}", [value[key] for value in values], like[key]) for key in like}
        for row, value in enumerate(values):
            if np.shape(value) != np.shape(like):
                raise differ(element, row, np.shape(value), np.shape(like))
        return np.stack(values)

    batch = stack("", examples, model.example)
    ids = np.array([one.index for one in loaded], np.int32)
    return batch | {"id": ids, "valid": np.array([one.valid for one in loaded])}
