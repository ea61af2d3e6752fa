"""What experiments write."""

import json


def written(folder):
    """The record of an analysis, once its page is seen to be there."""
    assert "<h1>" in (folder / "report.html").read_text()
    return json.loads((folder / "results.json").read_text())
