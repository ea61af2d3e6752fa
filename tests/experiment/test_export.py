"""The file of a run: of which step, and what it tells; what it computes is compared in `test_running`."""

import pytest

from cnnjax.experiment import export_run, load_run
from cnnjax.models.export import load_exported

# An open size of the batch is no int, as the checked types have it.
pytestmark = pytest.mark.usefixtures("unchecked_types")


def test_classes_pixels_and_sizes_are_told(run_dir, tmp_path):
    (tmp_path / "net.zip").write_bytes(export_run(run_dir, step="best"))
    _, about = load_exported(tmp_path / "net.zip")
    assert (about["shape"], about["dtype"]) == (["b", 16, 24, 1], "uint8")
    assert about["classes"] == list("0123456789")
    assert about["pixels"] == {"dtype": "uint8", "low": 0, "high": 255}
    # This net flattens its maps, and so takes pictures of one size alone.
    with pytest.raises(ValueError, match=r"variables are not those of ConvNet for inputs of shape \(1, 20, 20, 1\)"):
        export_run(run_dir, image_size=20)


def test_steps_and_folders_that_are_not_there(run_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no step 7"):
        export_run(run_dir, step=7)
    with pytest.raises(FileNotFoundError, match="holds no checkpoints"):
        export_run(tmp_path)
    assert load_run(run_dir).step == 2
