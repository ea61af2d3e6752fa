"""What an experiment found, in one folder: every result as CSV, JSON and PNG, the measurement's record, and a page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnjax.report.results import hardware, write_results
from cnnjax.report.run_report import PAGE
from cnnjax.view import figures, page
from cnnjax.view.result import Figure, Result
from cnnjax.view.table import format_cell

MEASURED = "results.json"

# Rows of a table on the page; the files have all.
_MOST_ROWS = 80


@dataclass(frozen=True, eq=False)
class ResultSection:
    """One result of an experiment.

    Attributes:
        name: of its files.
        title: its heading on the page.
        result: what was found.
        text: what the reader should look at.
        drawings: further pictures, by the name of their file and under it.
    """

    name: str
    title: str
    result: Result
    text: str = ""
    drawings: Mapping[str, Callable[[], Figure]] = field(default_factory=dict)


def write_experiment_page(
    folder: Path, title: str, sections: Sequence[ResultSection], *, claim: str, measured: Mapping[str, Any]
) -> Path:
    """Writes everything, and returns the path of the page.

    Args:
        folder: is made where it is not there.
        title: of the page.
        sections: in order.
        claim: what the experiment shows, said under the title.
        measured: the numbers it comes to, plain values, which are recorded with command, commit, hardware and versions;
            single numbers and words among them stand at the top of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / MEASURED, measured)
    written = [_section(folder, section) for section in sections]
    facts = [
        (name.replace("_", " "), _fact(value))
        for name, value in measured.items()
        if isinstance(value, int | float | str)
    ]
    path = folder / PAGE
    text = page.render(title, written, subtitle=f"{claim} Measured on {hardware()}.", facts=facts)
    path.write_text(text, encoding="utf-8")
    return path


def _section(folder: Path, section: ResultSection) -> page.Section:
    section.result.save(folder / section.name)
    blocks: list[page.Block] = [page.Text(section.text)] if section.text else []
    blocks.append(page.Picture((folder / f"{section.name}.png").read_bytes(), alt=section.title))
    for name, draw in section.drawings.items():
        picture = figures.png(draw())
        (folder / f"{name}.png").write_bytes(picture)
        blocks.append(page.Picture(picture, alt=name.replace("_", " ")))
    header, rows = section.result.table()
    left_out = f" The first {_MOST_ROWS} of {len(rows)} rows." if len(rows) > _MOST_ROWS else ""
    caption = " ".join(section.result.notes()) + left_out
    blocks.append(page.Table(header, rows[:_MOST_ROWS], caption=caption.strip()))
    return page.Section(section.title, tuple(blocks))


def _fact(value: float | str) -> str:
    return value if isinstance(value, str) else format_cell(value)
