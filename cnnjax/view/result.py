"""What every analysis returns: records that print as a table, draw themselves, are saved, and show in a notebook."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from cnnjax.view import page
from cnnjax.view.table import format_cell, format_table, save_rows
from cnnjax.view.text import printable

# matplotlib's; it is loaded when something is drawn.
Figure: TypeAlias = Any


class Result(ABC):
    """Records of plain values, with what can be done with them; frozen dataclasses fill it in."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """One record per line, of plain values: what is saved as CSV and JSON."""

    @abstractmethod
    def draw(self) -> Figure:
        """A matplotlib figure of the whole."""

    def notes(self) -> list[str]:
        """Sentences that belong under the table."""
        return []

    def table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """Header and rows for people."""
        rows = self.rows()
        header = [name.replace("_", " ") for name in rows[0]] if rows else []
        return header, [[format_cell(cell) for cell in row.values()] for row in rows]

    def save(self, path: Path | str) -> None:
        """Writes `path`.csv, `path`.json and `path`.png; folders on the way are made."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_rows(path, self.rows())
        from cnnjax.view.figures import png

        path.with_name(f"{path.name}.png").write_bytes(png(self.draw()))

    def __str__(self) -> str:
        return "\n".join([format_table(*self.table()), *map(printable, self.notes())])

    def _repr_html_(self) -> str:
        return page.html(page.Table(*self.table(), caption=" ".join(self.notes())))


@dataclass(frozen=True, eq=False)
class Records(Result):
    """Records as they are, with a function that draws them and sentences that belong to them.

    `shown` names what stands in the table for people, by its heading; all there is where it is None.
    """

    records: Sequence[dict[str, Any]]
    drawing: Callable[[Sequence[dict[str, Any]]], Figure]
    remarks: Sequence[str] = ()
    shown: Mapping[str, str] | None = None

    def table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """Header and rows for people."""
        if self.shown is None:
            return super().table()
        return [*self.shown], [[format_cell(row[name]) for name in self.shown.values()] for row in self.records]

    def rows(self) -> list[dict[str, Any]]:
        """The records."""
        return [*self.records]

    def notes(self) -> list[str]:
        """The sentences."""
        return [*self.remarks]

    def draw(self) -> Figure:
        """What the function draws of them."""
        return self.drawing(self.records)
