"""One example from its source to arrays, or the reason why it cannot be read; and examples to a batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from cnnjax.data.pictures.place import SettingError
from cnnjax.data.pictures.read import Read, decode_example
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
        read: what makes arrays of an example, such as `ReadPictures(image_size)`; by default pictures are decoded.
        unreadable: what is done about an example that cannot be read. "raise" stops. "skip" leaves its row in the
            batch, not valid. "substitute" takes the next example of the source that can be read.

    Raises:
        ValueError: an option is not on offer or out of range.
    """

    source: Source
    read: Read = decode_example
    unreadable: Unreadable = "raise"

    def __post_init__(self) -> None:
        check_source(self.source)
        if len(self.source) < 1:
            info = self.source.info
            raise ValueError(f"{info.name} ({info.split}) holds no examples; expected at least one")
        if self.unreadable not in get_args(Unreadable):
            raise ValueError(f"unreadable is {self.unreadable!r}; expected one of {', '.join(get_args(Unreadable))}")

    def load(self, index: int, place: int, *, valid: bool = True) -> Loaded:
        """Reads the example at `index`, which stands at `place` of the stream.

        Raises:
            ValueError: it cannot be read and the policy is "raise"; no stand-in can be read; or it cannot be read in
                the way asked for, as a `SettingError`, whatever the policy.
        """
        info, size = self.source.info, len(self.source)
        faults: list[Fault] = []
        for number in range(min(_TRIED, size)):
            candidate = (index + number) % size
            try:
                example = read_example(self.source, candidate, read=self.read, position=place)
            except SettingError:
                raise
            except ValueError as error:
                if self.unreadable == "raise":
                    raise
                faults.append(Fault(info.name, info.split, candidate, str(error)))
                if self.unreadable == "skip":
                    return Loaded(index, False, None, tuple(faults))
                continue
            return Loaded(candidate, valid, example, tuple(faults))
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
        cure, ragged = "make them equal", (got[:2], expected[:2]) if element == "masks" else (got[1:], expected[1:])
        if element in ("image", "masks") and got[:2] != expected[:2] and got[2:] == expected[2:]:
            cure = "pass image_size (--image-size N)"
        elif isinstance(got, tuple) and len(got) == len(expected) and ragged[0] == ragged[1] and "/" not in element:
            cure = f"pad them by read=ReadPictures(..., most={{{element!r}: N}}), N the largest number there is"
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
