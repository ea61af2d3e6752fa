"""What every result can do, on one made by hand."""

import csv
import json
from dataclasses import dataclass

from matplotlib.figure import Figure

from cnnjax.view import Records, Result


@dataclass(frozen=True)
class Found(Result):
    """Three records."""

    def rows(self):
        return [
            {"layer": "c1", "mean_value": 0.123456, "units": 12345},
            {"layer": "<c2>", "mean_value": float("nan"), "units": 0},
            {"layer": "c3", "mean_value": None, "units": -1},
        ]

    def notes(self):
        return ["One note.", "Another."]

    def draw(self):
        return Figure(figsize=(1, 1))


def test_it_prints_as_a_table_with_notes():
    assert str(Found()).splitlines() == [
        "layer  mean value   units",
        "-----  ----------  ------",
        "c1     0.1235      12,345",
        "<c2>   nan              0",
        "c3     -               -1",
        "One note.",
        "Another.",
    ]


def test_it_is_saved_three_ways(tmp_path):
    Found().save(tmp_path / "new" / "found.v2")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "found.v2.csv",
        "found.v2.json",
        "found.v2.png",
    ]
    with (tmp_path / "new" / "found.v2.csv").open() as file:
        assert list(csv.reader(file))[1] == ["c1", "0.123456", "12345"]
    assert json.loads((tmp_path / "new" / "found.v2.json").read_text())[2] == {
        "layer": "c3",
        "mean_value": None,
        "units": -1,
    }


def test_it_shows_in_a_notebook():
    html = Found()._repr_html_()
    assert "&lt;c2&gt;" in html
    assert "One note. Another." in html


def test_records_with_a_drawing():
    found = Records([{"a": 1}, {"a": 2}], lambda rows: Figure(figsize=(len(rows), 1)), ("Two.",))
    assert str(found).splitlines() == ["a", "-", "1", "2", "Two."]
    assert found.draw().get_size_inches().tolist() == [2, 1]


def test_a_table_may_show_some_of_what_is_saved(tmp_path):
    found = Records([{"a": 1, "long_name": 0.5}], lambda rows: Figure(figsize=(1, 1)), shown={"share": "long_name"})
    assert str(found).splitlines() == ["share", "-----", "  0.5"]
    found.save(tmp_path / "found")
    assert json.loads((tmp_path / "found.json").read_text()) == [{"a": 1, "long_name": 0.5}]


def test_names_in_notes_are_escaped():
    found = Records([{"a": "x"}], lambda rows: Figure(), ("Fields of c1\x1b[2J vary.",))
    assert str(found).splitlines()[-1] == r"Fields of c1\x1b[2J vary."
