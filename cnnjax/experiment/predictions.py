"""What a network says of pictures in files or arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.data.pictures.decode import open_picture
from cnnjax.data.pictures.read import Read
from cnnjax.data.sources.folder_listing import Folder, list_below
from cnnjax.view.result import Figure, Result
from cnnjax.view.table import as_csv, as_json


@dataclass(frozen=True, eq=False)
class Predictions(Result):
    """What a network says, picture by picture.

    Attributes:
        names: of the pictures: their files, or their numbers in an array.
        values: arrays of the task, such as "probabilities" (pictures, classes) and "label" (pictures,).
        records: the same in plain values.
    """

    names: tuple[str, ...]
    values: Any
    records: tuple[dict[str, Any], ...]

    def rows(self) -> list[dict[str, Any]]:
        """The name of each picture and what is said of it."""
        return [{"picture": name, **record} for name, record in zip(self.names, self.records, strict=True)]

    def write(self, path: Path) -> None:
        """Writes all records to a file, as JSON where its name ends so, else as CSV."""
        text = as_json(self.rows()) if path.suffix == ".json" else as_csv(self.rows())
        path.write_text(text, encoding="utf-8", newline="")

    def table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """Without the probability of each class, of which the files have all."""
        header, rows = super().table()
        shown = [place for place, name in enumerate(header) if not name.startswith("probability of ")]
        return [header[place] for place in shown], [[row[place] for place in shown] for row in rows]

    def draw(self) -> Figure:
        """The probabilities of the first pictures, a row each."""
        from cnnjax.view import matrix

        first = self.rows()[:40]
        columns = [name for name in first[0] if name.startswith("probability of ")]
        return matrix(
            np.array([[row[name] for name in columns] for row in first]),
            rows=[Path(row["picture"]).name for row in first],
            columns=[name.removeprefix("probability of ") for name in columns],
            title=f"The first {len(first)} of {len(self.records)} pictures",
            label="probability",
        )


def picture_files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, and all pictures below folders, in order.

    Raises:
        FileNotFoundError: a path is not there, or a folder holds no picture.
    """
    found = []
    for path in paths:
        if path.is_dir():
            (listing,) = list_below(path, [Folder("", str(path.resolve()), frozenset({str(path.resolve())}))])
            if not listing.files:
                raise FileNotFoundError(f"there is no picture in {path}")
            found += [path / name for name, _ in listing.files]
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(f"there is no {path}; pass files or folders of pictures")
    return found


def read_picture(path: Path, *, read: Read, channels: int) -> np.ndarray:
    """The picture of a file as bytes, brought to a size by a reader.

    Args:
        path: of the file.
        read: brings the picture to a size, such as `data.ReadPictures(224)`.
        channels: 1 for grey, 3 for RGB.

    Returns:
        The pixels, uint8, (height, width, channels).

    Raises:
        ValueError: the file is no picture, or cannot be brought to that size in that way; the message names it.
    """
    try:
        return read({"image": open_picture(path.read_bytes(), channels=channels)}, 0)["image"]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def stems(names: Sequence[str]) -> list[str]:
    """File names without folder and suffix; those that come twice are numbered."""
    found: list[str] = []
    for name in names:
        stem = Path(name).stem or name
        found.append(stem if stem not in found else f"{stem}_{len(found)}")
    return found
