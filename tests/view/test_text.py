"""Text for a terminal: what is escaped, and what is left as it is."""

import io
import sys
import unicodedata

import pytest

from cnnjax.view.text import escape_unencodable, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),  # the same introducer in one character
        ("50%\r100%\b\x7f\x00", r"50%\r100%\x08\x7f\x00"),
        ("one\nerror: two", r"one\nerror: two"),
        ("photo\u202egnp.exe", r"photo\u202egnp.exe"),
        ("\u2066a\u2069\u200f\u061c", r"\u2066a\u2069\u200f\u061c"),
        ("a\u200bb\ufeffc\u00add", r"a\u200bb\ufeffc\xadd"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("caf\udce9", r"caf\udce9"),  # a byte of a file name that is not UTF-8
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_steers_a_terminal_or_is_not_seen_is_escaped(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "stage1/block2/conv1",
        "größe",
        "cafe\u0301",
        "图片",
        "\u0645\u06cc\u200c\u062e",
        "👩\u200d🔬",
        "a\u00a0b",
        r"a\x1b",
    ],
)
def test_what_people_write_stays(text):
    assert printable(text) == text


def test_some_characters_may_be_kept():
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_every_control_and_format_character_but_the_joiners_is_escaped():
    letters = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cc", "Cf")]
    assert [letter for letter in letters if printable(letter) == letter] == ["\u200c", "\u200d"]


def test_characters_that_the_output_cannot_encode_are_written_as_escapes(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", errors="strict"))
    escape_unencodable()
    print("größe \udce9", flush=True)
    assert written.getvalue() == rb"gr\xf6\xdfe \udce9" + b"\n"
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # streams of a notebook, which encode nothing
    escape_unencodable()
