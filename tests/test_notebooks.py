"""The notebooks run from top to bottom on small settings, keep pictures only, and hold no paths."""

import nbformat
import pytest

from tests.notebooks import FOLDER, SMALL, execute


def test_every_notebook_has_small_settings():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_it_runs(name):
    executed = execute(name, SMALL[name])
    drawn = [
        output for cell in executed.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert drawn, f"{name} draws nothing"


@pytest.mark.parametrize("name", SMALL)
def test_it_keeps_pictures_only(name):
    path = FOLDER / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs, f"{name} shows no picture"
    assert all(set(output.data) == {"image/png"} for output in outputs)
    assert path.stat().st_size < 1_500_000
    assert notebook.cells[0].source.startswith("# ")
