"""Text for a terminal: names from files and data sets cannot steer it, and no encoding stops the program."""

import io
import sys
import unicodedata

# Control and format characters (escape sequences, backspaces, the overrides of writing direction, what has no width),
# line and paragraph separators, and the halves of characters that stand for bytes of a file name which are not UTF-8.
_HIDDEN = {"Cc", "Cf", "Zl", "Zp", "Cs"}

# Joiners, which Persian words and emoji are written with.
_JOINERS = "\u200c\u200d"


def printable(text: str, *, keep: str = "") -> str:
    r"""The text with every character that steers a terminal, or is not seen, written as its escape.

    Args:
        text: what is to be printed: a message, or the name of a class, a file or a tensor.
        keep: characters that stay as they are, such as a newline in a text of several lines.

    >>> printable("a\x1b[31mred\n"), printable("exe\u202egnp"), printable("größe 图")
    ('a\\x1b[31mred\\n', 'exe\\u202egnp', 'größe 图')
    """
    if text.isprintable():
        return text
    kept = keep + _JOINERS
    return "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.category(letter) in _HIDDEN and letter not in kept
        else letter
        for letter in text
    )


def escape_unencodable() -> None:
    """Has the standard streams write characters that their encoding lacks as escapes, where they would raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
