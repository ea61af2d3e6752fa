"""A source whose pictures come with proposals."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cnnjax.cache import cache_folder
from cnnjax.data.batches.progress import progress
from cnnjax.data.pictures.read import decode_example
from cnnjax.data.proposals.cache import cached_proposals
from cnnjax.data.sources.source import Info, Source, describe_source, read_example, with_open_picture
from cnnjax.settings import Proposals


@dataclass(frozen=True, eq=False, repr=False)
class ProposalSource:
    """The examples of another source, each with "proposals" (slots, 4) in pixels of its picture; zeros fill it up.

    Attributes:
        source: the examples.
    """

    source: Source

    def __repr__(self) -> str:
        return describe_source(self)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def slots(self) -> int:
        """Proposals of an example."""
        raise NotImplementedError

    @property
    def info(self) -> Info:
        """That of the source, with the proposals' shape."""
        info = self.source.info
        return replace(info, shapes={**info.shapes, "proposals": (self.slots, 4)})

    def column(self, name: str) -> np.ndarray | None:
        """That of the source."""
        return self.source.column(name)

    def where(self, index: int) -> str:
        """Where the source has this example, or nothing if it does not say."""
        return self.source.where(index) if hasattr(self.source, "where") else ""


@dataclass(frozen=True, eq=False, repr=False)
class KeptProposals(ProposalSource):
    """With proposals that were found before.

    Attributes:
        proposals: (examples, slots, 4).
    """

    proposals: np.ndarray

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.source[index], "proposals": self.proposals[index]}

    @property
    def slots(self) -> int:
        """Proposals of an example."""
        return self.proposals.shape[1]


@dataclass(frozen=True, eq=False, repr=False)
class SearchedProposals(ProposalSource):
    """With proposals by selective search, found when an example is first taken, and kept in a folder.

    Attributes:
        settings: how they are found, and where they are kept; pictures are bytes, RGB or grey.
    """

    settings: Proposals = field(default_factory=Proposals)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = decode_example(with_open_picture(self.source[index], self.source.info))
        return {**example, "proposals": proposals_of(example["image"], self.settings)}

    @property
    def slots(self) -> int:
        """Proposals of an example."""
        return self.settings.most

    def find_all(self, *, skip_unreadable: bool = False, console: Console | None = None) -> None:
        """Finds the proposals of all pictures now, a second or more for each that is new, and shows the progress.

        Args:
            skip_unreadable: whether pictures that cannot be read are left for later, and not an error.
            console: where the progress is shown.

        Raises:
            ValueError: a picture cannot be read, or is not of bytes.
        """
        name = self.info.name
        with progress(f"proposals for pictures of {name} ({self.info.split})", len(self), console=console) as advance:
            for index in range(len(self)):
                try:
                    read_example(self, index)
                except ValueError:
                    if not skip_unreadable:
                        raise
                advance(1)


def proposals_of(picture: np.ndarray, settings: Proposals) -> np.ndarray:
    """The proposals of a picture (height, width, 1 or 3) in bytes, as many rows as the settings have at most.

    Raises:
        ValueError: it is no such picture.
        OSError: the folder cannot be made or written to.
    """
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = np.repeat(picture, 3, axis=2)
    folder: Path = settings.folder or cache_folder() / "proposals"
    return cached_proposals(picture, folder, **settings.options())[0]
