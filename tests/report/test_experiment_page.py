"""The folder of an experiment: files of every result, the record, and a page that shows them all."""

import json
from dataclasses import dataclass

from matplotlib.figure import Figure

from cnnjax.report.experiment_page import ResultSection, write_experiment_page
from cnnjax.view import Result


@dataclass(frozen=True)
class Numbers(Result):
    """As many records as asked for."""

    count: int

    def rows(self):
        return [{"number": number, "square": number**2} for number in range(self.count)]

    def notes(self):
        return ["Squares grow."]

    def draw(self):
        return Figure(figsize=(2, 1))


def test_everything_is_written_and_shown(tmp_path):
    parts = [
        ResultSection(
            "few", "A few <squares>", Numbers(3), "Look at the last.", {"another_view": lambda: Figure(figsize=(1, 1))}
        ),
        ResultSection("many", "Many squares", Numbers(200)),
    ]
    measured = {"largest": 39_601, "share": 0.123456, "list": [1, 2], "named": "x"}
    path = write_experiment_page(tmp_path / "new" / "squares", "Squares", parts, claim="They grow.", measured=measured)
    folder = path.parent
    assert sorted(file.name for file in folder.iterdir()) == [
        *("another_view.png", "few.csv", "few.json", "few.png", "many.csv", "many.json", "many.png"),
        *("report.html", "results.json"),
    ]
    record = json.loads((folder / "results.json").read_text())
    assert {name: record[name] for name in measured} == measured
    assert {"command", "commit", "hardware", "versions"} < record.keys()
    assert len(json.loads((folder / "many.json").read_text())) == 200
    page = path.read_text()
    assert "A few &lt;squares&gt;" in page
    assert "They grow. Measured on" in page
    # Numbers that stand for themselves are facts; the rest is in the record.
    assert "<dd>39,601</dd>" in page
    assert "<dd>0.1235</dd>" in page
    assert "<dt>list</dt>" not in page
    assert "<dt>named</dt><dd>x</dd>" in page
    assert page.count("A few &lt;squares&gt;") == 2  # the heading, and what stands in for the picture
    assert "Squares grow. The first 80 of 200 rows." in page
    assert page.count("<img") == 3
