"""A run under changes."""

from experiments import invariance
from tests.experiments.pages import written


def test_invariance_of_a_run(tmp_path, barely_trained):
    invariance.main(invariance.Options(run_dir=barely_trained, examples=4, layers=("pool1",), out=tmp_path))
    found = written(tmp_path)
    assert set(found["lowest_accuracy"]) == {
        *("shift", "rotation", "scale", "reflection", "viewpoint", "illumination"),
        *("deformation", "occlusion", "clutter", "pixelation", "noise"),
    }
    assert (tmp_path / "equivariance.png").exists()
