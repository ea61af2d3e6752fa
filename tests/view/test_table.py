"""Tables as text, and records that come back from CSV and JSON."""

import csv
import json

import numpy as np
import pytest

from cnnjax.view.table import format_extent, format_table, save_rows


def test_words_stand_left_and_numbers_right():
    table = format_table(
        ("layer", "size", "share", "note"),
        [("c1", "5", "0.25", "first"), ("output", "1,024", "-", ""), ("", "", "-3", "x")],
    )
    assert table.splitlines() == [
        "layer    size  share  note",
        "------  -----  -----  -----",
        "c1          5   0.25  first",
        "output  1,024      -",
        "                  -3  x",
    ]


def test_a_word_makes_a_column_words():
    assert format_table(("a",), [("10",), ("x",)]).splitlines()[2:] == ["10", "x"]
    assert format_table(("wide",), [("10",), ("2",)]).splitlines()[2:] == ["  10", "   2"]
    # Nothing but dashes is no number.
    assert format_table(("wide",), [("-",)]).splitlines()[2:] == ["-"]


def test_no_rows_leave_the_header():
    assert format_table(("ab", "c"), []).splitlines() == ["ab  c", "--  -"]


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="zip"):
        format_table(("a", "b"), [("1",)])


@pytest.mark.parametrize(
    ("sizes", "options", "expected"),
    [((7,), {}, "7"), ((1, 1, 2), {}, "1x1x2"), ((None, 2), {}, "-x2"), ((-1, 0), {"separator": ","}, "-1,0")],
)
def test_extents(sizes, options, expected):
    assert format_extent(sizes, **options) == expected


def test_rows_come_back(tmp_path):
    rows = [
        {"layer": 'c1, "the first"', "params": 156, "field": "5", "uniform": True},
        {"layer": "größe\nzwei", "params": 0, "field": "-", "uniform": False},
    ]
    # A dot in the name is no suffix.
    save_rows(tmp_path / "run1.5", rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run1.5.csv", "run1.5.json"]
    assert json.loads((tmp_path / "run1.5.json").read_text(encoding="utf-8")) == rows
    with (tmp_path / "run1.5.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert found == [{name: str(value) for name, value in row.items()} for row in rows]


def test_no_rows_are_written_too(tmp_path):
    save_rows(tmp_path / "none", [])
    assert json.loads((tmp_path / "none.json").read_text()) == []
    assert (tmp_path / "none.csv").read_text().strip() == ""


def test_rows_of_other_keys_are_refused(tmp_path):
    with pytest.raises(ValueError, match="b"):
        save_rows(tmp_path / "bad", [{"a": 1}, {"a": 1, "b": 2}])


def test_numbers_of_numpy_and_none_at_all(tmp_path):
    rows = [{"a": np.int64(3), "b": np.float32(0.5), "c": float("nan")}, {"a": 4, "b": np.float64("inf"), "c": "x"}]
    save_rows(tmp_path / "found", rows)
    expected = [{"a": 3, "b": 0.5, "c": None}, {"a": 4, "b": None, "c": "x"}]
    assert json.loads((tmp_path / "found.json").read_text()) == expected
    assert (tmp_path / "found.csv").read_text().splitlines()[1] == "3,0.5,"


def test_names_do_not_steer_the_terminal_nor_break_a_row():
    table = format_table(("layer", "note"), [("c1\x1b[31m", "a\nb"), ("c2\u202e", "")])
    assert table.splitlines() == [
        "layer       note",
        "----------  ----",
        r"c1\x1b[31m  a\nb",
        r"c2\u202e",
    ]
