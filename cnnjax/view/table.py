"""Results as plain text, CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.view.text import printable


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns two spaces apart under a ruled header; columns of numbers are right-aligned, names escaped.

    >>> print(format_table(("layer", "size"), [("c1", "5"), ("c3", "14")]))
    layer  size
    -----  ----
    c1        5
    c3       14
    """
    header, *rows = [tuple(printable(str(cell)) for cell in row) for row in (header, *rows)]
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = [_is_numeric(column[1:]) for column in columns]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def format_extent(sizes: Sequence[object], *, separator: str = "x") -> str:
    """One number where all axes agree, else one per axis; "-" for none.

    >>> format_extent((5, 5)), format_extent((3, 5)), format_extent((None, None))
    ('5', '3x5', '-')
    """
    texts = ["-" if size is None else str(size) for size in sizes]
    return texts[0] if len(set(texts)) == 1 else separator.join(texts)


def format_cell(value: object) -> str:
    """A plain value for people: thousands parted, four significant digits, "-" for nothing.

    >>> format_cell(12345), format_cell(0.123456), format_cell(True), format_cell(None), format_cell("c1")
    ('12,345', '0.1235', 'yes', '-', 'c1')
    """
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
    return str(value)


def save_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes records of the same keys as `path`.csv and `path`.json; numbers that are not finite are left empty."""
    for suffix, text in (("csv", as_csv(rows)), ("json", as_json(rows))):
        path.with_name(f"{path.name}.{suffix}").write_text(text, encoding="utf-8", newline="")


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Records of the same keys as CSV; numbers that are not finite are left empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Records as JSON; numbers that are not finite are null."""
    return json.dumps([{name: _plain(value) for name, value in row.items()} for row in rows], indent=2) + "\n"


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's; what is not finite as nothing, which JSON has a word for."""
    value = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_numeric(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell not in ("", "-")]
    return bool(filled) and all(cell[0].isdigit() or cell[0] in "-+" for cell in filled)
