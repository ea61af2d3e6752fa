"""CSV files of pictures: a path and a label or tags per row, checked when opened, so that no row fails later."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from cnnjax.data.sources.class_names import class_name, remarks_on_splits
from cnnjax.data.sources.files import FileSource, Paths, describe, find_pictures
from cnnjax.data.sources.source import Source, local_path
from cnnjax.data.sources.split_names import names_by_split

_PATH_COLUMNS = ("image", "path", "file", "filename")
_EXPECTED = (
    f"one column of {', '.join(_PATH_COLUMNS[:-1])} or {_PATH_COLUMNS[-1]}; a column label, or tags, or one column of "
    "0 and 1 per tag; and split if you like"
)


def csv_parts(
    spelling: str, argument: str, data_dir: Path | None, *, follow_links: bool = False
) -> dict[str, Callable[[], Source]]:
    """How to open each split of a CSV file of pictures.

    The first row names the columns, in any case and order. "image", "path", "file" or "filename" is the picture,
    relative to the folder of the CSV file. Beside it stands one of:

    - "label", the name of the picture's one class; further columns are not read.
    - "tags", any number of them or none. If a `;` or a `|` occurs anywhere in the column, these separate tags, which
      may then have spaces in them; otherwise spaces do. Further columns are not read.
    - one column per tag, named like it, of 0 and 1; no others then, but for "split".

    The classes or tags are taken in Unicode's composed form and sorted by name, by value if all are whole numbers.
    Examples have "label", int32, or "tags", one float32 of 0 or 1 per tag. A column "split" says where a row belongs:
    a usual name (`cnnjax.data.sources.split_names`), or any other. Rows are numbered from the header, which is row 1; a
    quoted cell of several lines counts for as many.

    Raises:
        FileNotFoundError: If there is no such file, or a row's picture is missing.
        ValueError: If the header or a row is not as told; a picture occurs twice, or lies outside the folder (or, by a
            link, unless `follow_links`); there are no rows, no tags, or one class only; or "train" lacks a class of
            another split. The message names the file and the row.
    """
    file = local_path(spelling, argument, data_dir, kind="file")
    header, rows, numbers = _read(file)
    path_column, kind, split_column = _columns(file, header)
    names, places = [row[path_column] for row in rows], [f"row {number}" for number in numbers]
    paths, sizes = find_pictures(file.parent, names, file, places, follow_links=follow_links)
    if kind == "label":
        column = header.index("label")
        classes, elements = _label_elements(file, [class_name(row[column]) for row in rows], numbers)
    elif kind == "tags":
        column = header.index("tags")
        classes, elements = _tag_elements(file, [class_name(row[column]) for row in rows], numbers)
    else:
        columns = [place for place in range(len(header)) if place not in (path_column, split_column)]
        by_name = _by_name([header[place] for place in columns])
        columns.sort(key=lambda place: by_name(header[place]))
        classes, elements = _flag_elements(file, header, columns, rows, numbers)
    splits = np.array(["all"] * len(rows) if split_column is None else [row[split_column] for row in rows])
    for number, split in zip(numbers, splits.tolist(), strict=True):
        if not re.fullmatch(r"[^\[\]:%+]+", split):
            raise ValueError(f"{file}, row {number}: the split is {split!r}; expected a name such as train or test")

    written = names_by_split(dict.fromkeys(splits.tolist()), f"{file}: the column split")
    chosen = {split: np.flatnonzero(splits == name) for split, name in written.items()}
    (values,) = elements.values()
    remarks = remarks_on_splits(str(file), classes, {split: values[rows] for split, rows in chosen.items()})

    def open_split(split: str) -> FileSource:
        own = {name: values[chosen[split]] for name, values in elements.items()}
        packed = Paths.pack(paths[index] for index in chosen[split])
        info = describe(spelling, split, classes, packed, sizes[chosen[split]], own, remarks[split])
        return FileSource(file.parent, packed, own, info, str(file), np.array(numbers)[chosen[split]])

    return {split: partial(open_split, split) for split in chosen}


def _read(file: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The header in lower case, and the rows that are not blank with their numbers, all stripped of spaces."""
    rows, numbers = [], []
    try:
        with open(file, newline="", encoding="utf-8-sig") as text:
            reader = csv.reader(text, strict=True)
            for row in reader:
                if any("\0" in cell for cell in row):
                    raise ValueError(
                        f"{file}, row {reader.line_num} holds a NUL character, as no text does; save the file anew as "
                        "UTF-8"
                    )
                if any(cell.strip() for cell in row):
                    rows.append([cell.strip() for cell in row])
                    numbers.append(reader.line_num)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 ({error}); save it as UTF-8") from error
    except csv.Error as error:
        last = numbers[-1] if numbers else 0
        raise ValueError(
            f"{file} is no CSV after row {last} ({error}); close its quotes, or quote its cells"
        ) from error
    if len(rows) < 2:
        raise ValueError(f"{file} has no rows of pictures; expected a header with {_EXPECTED}, and a row per picture")
    header = rows[0]
    if len(header) == 1 and (other := re.search("[;\t|]", header[0])):
        raise ValueError(
            f"{file} has the header {header[0]}, one column, as if {other[0]!r} separated its cells; expected commas: "
            "save it with commas"
        )
    for row, number in zip(rows, numbers, strict=True):
        if len(row) != len(header):
            raise ValueError(f"{file}, row {number} has {len(row)} cells; expected {len(header)}, as in the header")
    return header, rows[1:], numbers[1:]


def _columns(file: Path, header: list[str]) -> tuple[int, str, int | None]:
    """Where the path is, what says the classes ("label", "tags" or "flags"), and where the split is."""
    lower = [name.lower() for name in header]
    for place, name in enumerate(lower):
        # The names of tags keep their case; those of our columns do not.
        ours = name in (*_PATH_COLUMNS, "label", "tags", "split")
        header[place] = name if ours else class_name(header[place])
    paths = [place for place, name in enumerate(header) if name in _PATH_COLUMNS]
    repeated = len(set(header)) < len(header) or "" in header
    kinds = [name for name in ("label", "tags") if name in header]
    others = len(header) - len(paths) - ("split" in header)
    if len(paths) != 1 or len(kinds) > 1 or repeated or not others:
        raise ValueError(f"{file} has the header {','.join(header)}; expected {_EXPECTED}, and no name twice or empty")
    return paths[0], kinds[0] if kinds else "flags", header.index("split") if "split" in header else None


def _by_name(names: Sequence[str]) -> Callable[[str], tuple[int, str]]:
    """What to sort names by: by value if all are whole numbers."""
    whole = all(re.fullmatch(r"-?[0-9]+", name) for name in names)
    return lambda name: (int(name) if whole else 0, name)


def _label_elements(
    file: Path, labels: Sequence[str], numbers: Sequence[int]
) -> tuple[tuple[str, ...], Mapping[str, np.ndarray]]:
    if "" in labels:
        raise ValueError(f"{file}, row {numbers[labels.index('')]}: the label is empty; expected the name of a class")
    classes = tuple(sorted(set(labels), key=_by_name(labels)))
    if len(classes) == 1:
        raise ValueError(f"{file} has one class only, {classes[0]!r}; expected at least two different labels")
    number_of = {name: number for number, name in enumerate(classes)}
    return classes, {"label": np.array([number_of[label] for label in labels], np.int32)}


def _tag_elements(
    file: Path, cells: Sequence[str], numbers: Sequence[int]
) -> tuple[tuple[str, ...], Mapping[str, np.ndarray]]:
    separator = r"[;|]" if any(re.search(r"[;|]", cell) for cell in cells) else r"\s+"
    tags = [[tag.strip() for tag in re.split(separator, cell) if tag.strip()] for cell in cells]
    for cell, found, number in zip(cells, tags, numbers, strict=True):
        if any("," in tag for tag in found) or re.match(r"[\[({]", cell):
            raise ValueError(
                f"{file}, row {number}: the tags are {cell!r}; expected names separated by ; or | or spaces, "
                "without commas or brackets"
            )
    names = [tag for found in tags for tag in found]
    if not names:
        raise ValueError(f"{file} has no tags in its column tags; expected one at least in one of the rows")
    classes = tuple(sorted(set(names), key=_by_name(names)))
    number_of = {name: number for number, name in enumerate(classes)}
    hot = np.zeros((len(cells), len(classes)), np.float32)
    for row, found in enumerate(tags):
        hot[row, [number_of[tag] for tag in found]] = 1
    return classes, {"tags": hot}


def _flag_elements(
    file: Path, header: Sequence[str], columns: Sequence[int], rows: Sequence[list[str]], numbers: Sequence[int]
) -> tuple[tuple[str, ...], Mapping[str, np.ndarray]]:
    for row, number in zip(rows, numbers, strict=True):
        for column in columns:
            if row[column] not in ("0", "1"):
                raise ValueError(
                    f"{file}, row {number}: column {header[column]} has {row[column]!r}; expected 0 or 1, because "
                    "without a column label or tags every other column is a tag; if it names the class of each "
                    "picture, call it label"
                )
    hot = np.array([[row[column] == "1" for column in columns] for row in rows], np.float32)
    return tuple(header[column] for column in columns), {"tags": hot}
