"""One self-contained HTML page: text, numbers, tables and pictures, with nothing fetched and nothing executed.

Every string is escaped, pictures are inside the file, and the page forbids itself scripts and the network, so
it can be mailed, archived and opened years later.
"""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as escape_html
from typing import TypeAlias

from cnnjax.view.text import printable

Cell: TypeAlias = str | int | float | None

# Pictures of more bytes than this are compressed with losses, at this quality of 100.
_HEAVY, _QUALITY = 48 * 1024, 75


@dataclass(frozen=True)
class Text:
    """Prose; an empty line begins a new paragraph."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A PNG with the words that stand in for it (`alt`) and an optional caption.

    It is shown at 96/150 of its pixel size, the size in inches of a figure saved at 150 dpi, or smaller. A heavy one
    becomes a WebP in the page, whose colours are not quite the same.

    Raises:
        ValueError: the bytes are not a PNG, or `alt` is empty.
    """

    png: bytes
    alt: str
    caption: str = ""

    def __post_init__(self) -> None:
        if self.png[:8] != b"\x89PNG\r\n\x1a\n" or self.png[12:16] != b"IHDR":
            raise ValueError(f"png: {len(self.png)} bytes that begin with {self.png[:8]!r}; expected a PNG file")
        if not self.alt.strip():
            raise ValueError("alt: empty; say in words what the picture shows")


@dataclass(frozen=True)
class Table:
    """Rows under a header. Floats show 6 significant digits, None an empty cell, all else as it is.

    A column is right-aligned when its cells are numbers, alone or with a unit: `12`, `1,024`, `98.5 %`,
    `0.98 ± 0.01`, `3.2 MiB`.

    Raises:
        ValueError: a row is not as long as the header.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.header):
                raise ValueError(
                    f"rows[{index}]: {len(row)} cells; the header has {len(self.header)}: {list(self.header)}"
                )


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side, as many as the page is wide, and under each other on a telephone."""

    pictures: tuple[Picture, ...]


Block: TypeAlias = Text | Table | Picture | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it, in order."""

    title: str
    blocks: tuple[Block, ...]


def render(
    title: str,
    sections: Sequence[Section],
    *,
    subtitle: str = "",
    facts: Sequence[tuple[str, str]] = (),
) -> str:
    """The whole page as HTML text, to be saved as UTF-8.

    More than three sections get a table of contents; the page reads on a telephone, in the dark and on paper.

    Args:
        title: the name of the page, its first heading.
        sections: what follows, in order.
        subtitle: a line under the title.
        facts: (name, value) pairs shown as cards before the first section.

    >>> "<h2>Cost &amp; size</h2>" in render("Run", [Section("Cost & size", (Text("12 MiB"),))])
    True
    """
    contents = ""
    if len(sections) > 3:
        links = (
            f'<li><a href="#section-{number}">{escape(section.title)}</a></li>'
            for number, section in enumerate(sections, 1)
        )
        contents = f'<nav aria-label="Contents"><ol>{"".join(links)}</ol></nav>\n'
    body = "\n".join(
        f'<section id="section-{number}">\n<h2>{escape(section.title)}</h2>\n'
        + "\n".join(map(html, section.blocks))
        + "\n</section>"
        for number, section in enumerate(sections, 1)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else ""}
{_facts(facts) if facts else ""}
</header>
{contents}<main>
{body}
</main>
</body>
</html>
"""


def html(block: Block) -> str:
    """A block alone, as HTML without styles: what a notebook shows."""
    match block:
        case Text(text):
            paragraphs = re.split(r"\n\s*\n", text.strip())
            return "\n".join(f"<p>{escape(paragraph.strip())}</p>" for paragraph in paragraphs)
        case Picture():
            return _picture(block)
        case Gallery(pictures):
            return f'<div class="gallery">{"".join(map(_picture, pictures))}</div>'
        case Table():
            return _table(block)


def escape(text: str) -> str:
    """Text as HTML that shows it: no tags, and no characters that turn the direction of writing or are not seen."""
    return escape_html(printable(text, keep="\n\t"))


def _facts(pairs: Sequence[tuple[str, str]]) -> str:
    cards = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="facts">{cards}</dl>'


def _figcaption(caption: str) -> str:
    return f"<figcaption>{escape(caption)}</figcaption>" if caption else ""


def _picture(picture: Picture) -> str:
    width, height = (int.from_bytes(picture.png[at : at + 4], "big") * 96 // 150 for at in (16, 20))
    kind, content = _light(picture.png)
    data = base64.b64encode(content).decode("ascii")
    return (
        f'<figure><div class="plate"><img src="data:image/{kind};base64,{data}" alt="{escape(picture.alt)}" '
        f'width="{width}" height="{height}"></div>{_figcaption(picture.caption)}</figure>'
    )


def _light(png: bytes) -> tuple[str, bytes]:
    """The kind and the bytes of a picture as the page holds it: what is heavy is compressed as photographs are."""
    if len(png) <= _HEAVY:
        return "png", png
    from PIL import Image

    compressed = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(compressed, "WEBP", quality=_QUALITY)
    return ("webp", compressed.getvalue()) if compressed.tell() < len(png) else ("png", png)


_NUMBER = re.compile(
    r"[-+\N{MINUS SIGN}±]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?( ?± ?[\d.]+)?( ?%| [A-Za-zµ²/]{1,12})?"
    r"|nan|[-+\N{MINUS SIGN}]?inf",
    re.IGNORECASE,
)
_NOTHING = {"", "-", "\N{EN DASH}", "\N{EM DASH}"}


def _shown(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)


def _table(table: Table) -> str:
    rows = [[_shown(cell) for cell in row] for row in table.rows]
    marks = []
    for column in range(len(table.header)):
        cells = [row[column].strip() for row in rows]
        cells = [cell for cell in cells if cell not in _NOTHING]
        numeric = bool(cells) and all(map(_NUMBER.fullmatch, cells))
        marks.append(' class="number"' if numeric else "")
    head = "".join(f'<th scope="col"{mark}>{escape(name)}</th>' for name, mark in zip(table.header, marks, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{mark}>{escape(c)}</td>" for c, mark in zip(row, marks, strict=True)) + "</tr>"
        for row in rows
    )
    return (
        f'<figure><div class="scroll" tabindex="0" role="region" aria-label="{escape(table.caption or "Table")}">'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
        f"{_figcaption(table.caption)}</figure>"
    )


_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_STYLE = """
:root {
  --ground: #ffffff; --raised: #f6f8fa; --ink: #1f2328; --quiet: #59636e; --line: #d8dee4; --link: #0a5ea8;
  color-scheme: light dark;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171c; --raised: #1d2229; --ink: #e6e9ed; --quiet: #9ba5b0; --line: #343b45; --link: #7cc0f5;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0 auto; padding: 2.5rem clamp(1rem, 4vw, 2.5rem) 4rem; max-width: 72rem;
  background: var(--ground); color: var(--ink); font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", sans-serif;
  overflow-wrap: break-word;
}
h1 { margin: 0; font-size: clamp(1.6rem, 1.2rem + 1.8vw, 2.3rem); line-height: 1.2; letter-spacing: -0.015em; }
h2 {
  margin: 3rem 0 1rem; padding-bottom: .35rem; border-bottom: 1px solid var(--line);
  font-size: 1.35rem; line-height: 1.3;
}
p { max-width: 44rem; margin: .8rem 0; white-space: pre-line; }
a { color: var(--link); }
.subtitle { margin: .4rem 0 0; color: var(--quiet); font-size: 1.05rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1.5rem 0; }
.facts div { padding: .7rem .9rem; border: 1px solid var(--line); border-radius: .5rem; background: var(--raised); }
.facts dt { color: var(--quiet); font-size: .82rem; line-height: 1.4; }
.facts dd { margin: .1rem 0 0; font-size: 1.25rem; font-weight: 600; line-height: 1.35; overflow-wrap: anywhere; }
nav { margin: 1.5rem 0 0; padding: .7rem 0; border-block: 1px solid var(--line); }
nav ol { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; margin: 0; padding: 0; list-style: none; }
nav a { text-decoration: none; }
nav a:hover, nav a:focus { text-decoration: underline; }
figure { margin: 1.25rem 0 1.75rem; }
figcaption { max-width: 44rem; margin-top: .5rem; color: var(--quiet); font-size: .9rem; line-height: 1.5; }
.plate {
  width: fit-content; max-width: 100%; padding: .6rem; border: 1px solid var(--line); border-radius: .5rem;
  background: #ffffff; overflow-x: auto;
}
.plate img { display: block; max-width: max(100%, 34rem); height: auto; }
.gallery { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.25rem 0 1.75rem; }
.gallery figure { margin: 0; max-width: 100%; }
.gallery .plate img { max-width: 100%; }
.scroll { width: fit-content; max-width: 100%; overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; font-size: .92rem; line-height: 1.4; }
th, td { padding: .42rem .7rem; text-align: left; vertical-align: top; white-space: nowrap; }
th { background: var(--raised); font-weight: 600; vertical-align: bottom; white-space: normal; }
tbody tr { border-top: 1px solid var(--line); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
@media (max-width: 40rem) {
  .facts { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
@media print {
  :root { --ground: #fff; --raised: #fff; --ink: #000; --quiet: #444; --line: #bbb; --link: #000; }
  body { padding: 0; max-width: none; font-size: 10pt; }
  .scroll { overflow: visible; }
  .plate { border: 0; padding: 0; }
  .plate img { max-width: 100%; }
  h2 { break-after: avoid; }
  .plate, .facts div, tr { break-inside: avoid; }
  nav { display: none; }
}
"""
