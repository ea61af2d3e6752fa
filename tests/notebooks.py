"""The notebooks, executed: on small settings by the tests, and in full to refresh the pictures that they keep.

python tests/notebooks.py            # executes all of them and writes them back, pictures kept, all else stripped
"""

import base64
import io
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent.parent / "notebooks"

# What takes the place of the cell that is tagged "settings".
SMALL = {
    "01_convolution_by_hand_to_fast": "REPEATS = 1",
    "02_receptive_fields": 'MODEL, SIZE = "resnet18", 64',
    "03_train_lenet5_and_look_inside": "EPOCHS = 0.2",
    "04_feature_maps_and_attribution": "STEPS, ASCENT, SHOWN = 2, 2, 2",
    "05_invariance_and_equivariance": "EPOCHS, EXAMPLES = 0.2, 4",
    "06_data_parallel_on_fake_devices": 'MODEL, STEPS = "lenet5", 2',
    "07_bring_your_own_pictures": "PICTURES, EPOCHS = 12, 1",
    "08_segment_cells": "PICTURES, EPOCHS = 8, 0.5",
    "09_detect_objects": "SCENES, EPOCHS = 8, 1",
}

# Pictures that are kept are at most so wide.
_WIDEST = 900


def execute(name: str, settings: str | None = None) -> nbformat.NotebookNode:
    """A notebook with its outputs; `settings` takes the place of its settings."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    if settings is not None:
        (cell,) = [cell for cell in notebook.cells if "settings" in cell.metadata.get("tags", [])]
        cell.source = settings
    client = NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": FOLDER}})
    return client.execute()


def keep_pictures(notebook: nbformat.NotebookNode) -> None:
    """Strips all outputs but pictures, which are made small."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        cell.metadata = {"tags": cell.metadata.tags} if "tags" in cell.metadata else {}
        pictures = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
        cell.outputs = [
            nbformat.v4.new_output("display_data", {"image/png": _smaller(picture)}) for picture in pictures
        ]


def _smaller(picture: str) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    if image.width > _WIDEST:
        image = image.resize((_WIDEST, round(image.height * _WIDEST / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or SMALL:
        executed = execute(chosen)
        keep_pictures(executed)
        nbformat.write(executed, FOLDER / f"{chosen}.ipynb")
        print(chosen)
